// SparseRing: the remote stash of the scale lane. One ring of {dst, bin, ptr}; nothing in it grows with the number of shards.
// An entry is 16 bytes: it carries what the caller knew, so that a flush need not look at the block or its tag.
//
// Owner: the thread that has the cache; no other thread ever reads it.
#pragma once

#include "hz3/central.hpp"
#include "hz3/message.hpp"
#include "hz3/remote/busy.hpp"
#include "hz3/remote/config.hpp"

namespace hz3::remote {

class SparseRing {
 public:
  // Appends a block of shard `dst`. A full ring is flushed before the entry is written: overwriting one would leak it.
  // True when enough have gathered for an event flush. No loop, no lock, no atomic but in the flush.
  HZ3_ALWAYS_INLINE bool stash_push(unsigned dst, Slot slot, void* block) {
    const Busy busy(busy_);
    if (unlikely(tail_ - head_ == kRingSlots)) stash_flush_budget(kRingSlots);
    if constexpr (kDebugChecks)
      if (tail_ - head_ == kRingSlots) invariant_failed("I24", "an entry of a full ring would be overwritten");
    ring_[tail_++ % kRingSlots] = Entry{block, static_cast<uint16_t>(dst), static_cast<uint16_t>(slot)};
    bytes_ += static_cast<uint32_t>(class_bytes(slot));
    return due();
  }
  // Events only: hands at most `budget` blocks, the oldest first, to their owners.
  void stash_flush_budget(unsigned budget);
  // Events only: hands over everything.
  void stash_flush_all() { stash_flush_budget(~0u); }

  // Enough blocks, or bytes, wait for a flush to be worth its while.
  bool due() const { return tail_ - head_ >= kFlushAt || bytes_ >= kFlushBytes; }
  unsigned entries() const { return tail_ - head_; }
  // Whether the calling code has interrupted a change, as only a signal handler can.
  bool busy() const { return busy_; }
  // Checks that the books are right (debug builds and tests).
  void check() const;
  // Forgets all entries, in the child of fork().
  void abandon() {
    head_ = tail_ = bytes_ = 0;
    busy_ = false;
  }

 private:
  struct Entry {
    void* block;
    uint16_t dst;
    uint16_t slot;
  };
  static constexpr unsigned kFlushAt = kFlushBatch < kRingSlots ? kFlushBatch : kRingSlots;

  uint32_t head_;  // the oldest entry; both count up, and start at 0 again when the ring is empty
  uint32_t tail_;
  uint32_t bytes_;     // of the blocks in it
  mutable bool busy_;  // also while it is checked
  Entry ring_[kRingSlots];
};

}  // namespace hz3::remote
