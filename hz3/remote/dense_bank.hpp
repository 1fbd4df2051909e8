// DenseBank: the remote stash of the fast lane. bank[dst][bin], one list of blocks a cell, linked through the blocks; a row
// is kBinPad cells long, so that a cell's address is a shift and an add. Its size grows with the number of shards.
//
// Owner: the thread that has the cache; no other thread ever reads it.
#pragma once

#include "hz3/central.hpp"
#include "hz3/remote/busy.hpp"
#include "hz3/remote/config.hpp"

namespace hz3::remote {

class DenseBank {
 public:
  static constexpr bool kFlushesWhenFull = false;  // its lists are as long as need be

  // Appends a block of shard `dst`. True when enough have gathered for an event flush. No loop, no lock, no atomic.
  HZ3_ALWAYS_INLINE bool stash_push(unsigned dst, Slot slot, void* block) {
    const Busy busy(busy_);
    void*& cell = bank_[dst][slot];
    set_link(block, cell);
    cell = block;
    occupied_[dst][slot / 64] |= uint64_t{1} << (slot % 64);
    entries_++;
    bytes_ += static_cast<uint32_t>(class_bytes(slot));
    return due();
  }
  // Events only: hands at most `budget` blocks to their owners.
  void stash_flush_budget(unsigned budget);
  // Events only: hands over everything.
  void stash_flush_all() { stash_flush_budget(~0u); }

  // Enough blocks, or bytes, wait for a flush to be worth its while.
  bool due() const { return entries_ >= kFlushBatch || bytes_ >= kFlushBytes; }
  unsigned entries() const { return entries_; }
  // Whether the calling code has interrupted a change, as only a signal handler can.
  bool busy() const { return busy_; }
  // Checks that the books are right (debug builds and tests).
  void check() const;
  // Forgets all entries, in the child of fork().
  void abandon();

 private:
  static constexpr unsigned kOccupiedWords = (kBinPad + 63) / 64;

  unsigned flush_row(unsigned dst, unsigned budget);

  uint32_t entries_;
  uint32_t bytes_;  // of the blocks in it
  bool busy_;
  uint32_t next_dst_;  // where the next budget flush begins, so that none starves
  uint64_t occupied_[kShards][kOccupiedWords];
  void* bank_[kShards][kBinPad];
};

}  // namespace hz3::remote
