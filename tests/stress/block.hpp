// Blocks whose every usable byte is known: it follows from the block's address and from a number that no other block has.
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "allocator.hpp"

namespace stress {

inline uint64_t the_seed = 0;
inline std::atomic<uint64_t> next_block_number{1};

// Says in one line what is wrong and ends the process, from any thread, without allocating.
[[noreturn, gnu::format(printf, 1, 2)]] inline void fail(const char* format, ...) {
  char text[512];
  int length = snprintf(text, sizeof text, "stress: seed %llu: ", static_cast<unsigned long long>(the_seed));
  va_list arguments;
  va_start(arguments, format);
  length += vsnprintf(text + length, sizeof text - static_cast<size_t>(length) - 2, format, arguments);
  va_end(arguments);
  text[length++] = '\n';
  if (write(2, text, static_cast<size_t>(length)) < 0) _exit(2);
  _exit(1);
}

// A small seeded generator (splitmix64).
struct Random {
  uint64_t state;

  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t below(size_t bound) { return static_cast<size_t>(next() % bound); }
  size_t between(size_t low, size_t high) { return low + below(high - low + 1); }
  bool one_in(size_t n) { return below(n) == 0; }
};

class Block {
 public:
  Block() = default;

  // Allocates, checks what the entry point promises and fills. Empty if there was no memory.
  static Block make(unsigned entry_point, size_t size, size_t alignment, bool may_be_sparse) {
    Block block;
    block.may_be_sparse_ = may_be_sparse;
    block.allocation_ = allocate(entry_point, size, alignment);
    if (block.allocation_.start == nullptr) return block;
    block.size_ = size;
    block.check_placement("allocated");
    if (block.allocation_.is_zero) block.check_zero();
    block.fill();
    return block;
  }

  explicit operator bool() const { return allocation_.start != nullptr; }
  char* start() const { return static_cast<char*>(allocation_.start); }
  size_t usable() const { return usable_; }
  // Bytes that were written.
  size_t written() const {
    size_t bytes = 0;
    for_each_part(usable_, [&](size_t from, size_t to) { bytes += to - from; });
    return bytes;
  }

  // Checks every byte.
  void verify(const char* when) const {
    if (do_usable_size(allocation_.start) != usable_) {
      fail("%s: usable size of %p (%zu bytes asked for) changed from %zu to %zu", when, allocation_.start, size_, usable_,
           do_usable_size(allocation_.start));
    }
    verify_as(start(), usable_, when);
  }

  void free() {
    verify("before free");
    memset(start(), 0xDD, usable_ < 64 ? usable_ : 64);  // a later block that shows this was given out too early or twice
    errno = 1234;
    release(allocation_, size_);
    if (errno != 1234) fail("free of %p changed errno to %d", allocation_.start, errno);
    allocation_ = {};
  }

  // Reallocates; false, and nothing is changed, if there was no memory.
  bool resize(size_t size) {
    verify("before realloc");
    void* moved = do_realloc(allocation_.start, size);
    if (moved == nullptr) return false;
    // The bytes were written for the old address.
    const size_t kept = size < size_ ? size : size_;
    const char* old_start = start();
    allocation_ = {moved, 16, false, Release::kFree};
    verify_as(old_start, kept, "after realloc");
    size_ = size;
    check_placement("reallocated");
    fill();
    return true;
  }

 private:
  static constexpr size_t kSparseAbove = 16384;  // writing all of large blocks would leave no time for small ones

  static uint64_t word(uint64_t key, size_t index) {
    const uint64_t product = (key + index) * 0x9E3779B97F4A7C15u;
    return product ^ (product >> 32);
  }
  uint64_t key_at(const char* address) const {
    return reinterpret_cast<uint64_t>(address) * 31 + number_ * 0x632BE59BD9B4E019u;
  }

  void check_placement(const char* how) {
    usable_ = do_usable_size(allocation_.start);
    sparse_ = may_be_sparse_ && usable_ > kSparseAbove;
    if (reinterpret_cast<uintptr_t>(allocation_.start) % allocation_.alignment != 0) {
      fail("%s %p for %zu bytes is not aligned to %zu", how, allocation_.start, size_, allocation_.alignment);
    }
    if (usable_ < size_) fail("%s %p has %zu usable bytes of %zu asked for", how, allocation_.start, usable_, size_);
  }

  // Calls visit(from, to) for the parts that are written, as far as they lie below `limit`: everything, or of a sparse block
  // the ends and the start of every 64 KiB. Part boundaries are multiples of 8 apart from the last one.
  template <typename Visit>
  void for_each_part(size_t limit, const Visit& visit) const {
    if (!sparse_) return visit(0, limit);
    constexpr size_t kEnd = 4096, kStride = 65536, kPatch = 64;
    visit(0, limit < kEnd ? limit : kEnd);
    for (size_t at = kStride; at + kPatch <= limit && at + kPatch <= usable_ - kEnd; at += kStride) visit(at, at + kPatch);
    const size_t tail = (usable_ - kEnd) & ~size_t{7};
    if (limit > tail) visit(tail, limit);
  }

  void check_zero() const {
    for_each_part(usable_, [this](size_t from, size_t to) {
      for (size_t i = from; i < to && i < size_; ++i) {
        if (start()[i] != 0) fail("calloc of %zu bytes at %p: byte %zu is %#x", size_, allocation_.start, i, start()[i] & 0xFF);
      }
    });
  }

  void fill() {
    number_ = next_block_number.fetch_add(1, std::memory_order_relaxed);
    const uint64_t key = key_at(start());
    for_each_part(usable_, [&](size_t from, size_t to) {
      for (size_t at = from; at < to; at += 8) {
        const uint64_t value = word(key, at);
        __builtin_memcpy(start() + at, &value, to - at < 8 ? to - at : 8);
      }
    });
  }

  // Checks that what lies below `limit` is what was written when the block was at `old_start`.
  void verify_as(const char* old_start, size_t limit, const char* when) const {
    const uint64_t key = key_at(old_start);
    for_each_part(limit, [&](size_t from, size_t to) {
      for (size_t at = from; at < to; at += 8) {
        const uint64_t expected = word(key, at);
        uint64_t found = expected;
        __builtin_memcpy(&found, start() + at, to - at < 8 ? to - at : 8);
        if (found == expected) continue;
        fail("%s: wrong byte in block %p of %zu bytes (%zu usable), at offset %zu: %#llx instead of %#llx", when,
             allocation_.start, size_, usable_, at, static_cast<unsigned long long>(found),
             static_cast<unsigned long long>(expected));
      }
    });
  }

  Allocation allocation_;
  size_t size_ = 0;
  size_t usable_ = 0;
  bool may_be_sparse_ = false;
  bool sparse_ = false;
  uint64_t number_ = 0;
};

}  // namespace stress
