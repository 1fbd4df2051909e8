// The bounded rings over which threads of a benchmark hand blocks to each other: one writer and one reader each, so that a
// hand-over is one store. Every thread writes to `fan_out` others, those that follow it in a circle.
#pragma once

#include <atomic>

#include "bench.hpp"

namespace bench {

class alignas(128) Ring {
 public:
  void use(void** items, uint64_t slots) {
    items_ = items;
    slots_ = slots;
  }

  bool never_has_room() const { return slots_ == 0; }

  // By the writer. False: full.
  bool push(void* block) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - seen_head_ >= slots_) {
      seen_head_ = head_.load(std::memory_order_acquire);  // pairs with the release in drain()
      if (tail - seen_head_ >= slots_) return false;
    }
    items_[tail & (slots_ - 1)] = block;
    tail_.store(tail + 1, std::memory_order_release);  // pairs with the acquire in drain()
    return true;
  }

  // By the reader: gives every block to `use`; returns how many there were.
  template <class Use>
  uint64_t drain(Use use) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    const uint64_t tail = tail_.load(std::memory_order_acquire);  // pairs with the release in push()
    if (head == tail) return 0;
    for (uint64_t i = head; i != tail; ++i) use(items_[i & (slots_ - 1)]);
    head_.store(tail, std::memory_order_release);  // pairs with the acquire in push()
    return tail - head;
  }

  // The reader has finished: nothing more is to be sent. Relaxed: what comes all the same is drained after the barrier.
  void close() { closed_.store(true, std::memory_order_relaxed); }
  void open() { closed_.store(false, std::memory_order_relaxed); }
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

 private:
  void** items_;
  uint64_t slots_;
  std::atomic<bool> closed_;
  alignas(64) std::atomic<uint64_t> tail_;  // the writer's line
  uint64_t seen_head_;
  alignas(64) std::atomic<uint64_t> head_;  // the reader's line
};

class Rings {
 public:
  // `slots` is a power of two or 0, of each ring; 0: all of them are always full.
  Rings(unsigned threads, unsigned fan_out, uint64_t slots)
      : threads_(threads), fan_out_(fan_out), rings_(table<Ring>(size_t{threads} * fan_out)) {
    void** items = table<void*>(size_t{threads} * fan_out * slots);
    for (size_t i = 0; i < size_t{threads} * fan_out; ++i) rings_[i].use(items + i * slots, slots);
  }
  unsigned fan_out() const { return fan_out_; }
  // The ring from thread `id` to the one `1 + which` further on; the only thread there is writes to itself.
  Ring& out(unsigned id, unsigned which) { return rings_[size_t{(id + 1 + which) % threads_} * fan_out_ + which]; }
  void open_all() {
    for (size_t i = 0; i < size_t{threads_} * fan_out_; ++i) rings_[i].open();
  }
  Ring& in(unsigned id, unsigned which) { return rings_[size_t{id} * fan_out_ + which]; }

 private:
  unsigned threads_, fan_out_;
  Ring* rings_;
};

}  // namespace bench
