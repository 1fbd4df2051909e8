// DenseBank: the remote stash of the fast lane. bank[dst][bin], one list of packs a cell; a row is kBinPad cells long, so that
// a cell's address is a shift and an add. Its size grows with the number of shards.
//
// Most of the blocks were last written to by the thread that hands them on, on another processor. So a push leaves them alone,
// but for one in several, the carrier, which takes the addresses of those that follow (hz3/remote/packs.hpp). Unlike in a list
// that is handed over the number of addresses in a carrier stands in the word that leads to it, for that of the newest one to
// grow in the cell.
//
// Owner: the thread that has the cache; no other thread ever reads it.
#pragma once

#include "hz3/central.hpp"
#include "hz3/message.hpp"
#include "hz3/remote/busy.hpp"
#include "hz3/remote/config.hpp"
#include "hz3/remote/packs.hpp"

namespace hz3::remote {

class DenseBank {
 public:
  // Appends a block of shard `dst`. True when enough have gathered for an event flush. No loop, no lock, no atomic.
  HZ3_ALWAYS_INLINE bool stash_push(unsigned dst, Slot slot, void* block) {
    if constexpr (kDebugChecks)
      if (reinterpret_cast<uintptr_t>(block) >> kCountShift != 0) invariant_failed("I27", "an address has no room for a count");
    const Busy busy(busy_);
    uint64_t& cell = bank_[dst][slot];
    const unsigned held = held_by(cell);
    if (cell == 0) {
      cell = kOldest | reinterpret_cast<uintptr_t>(block);
      occupied_[dst][slot / 64] |= uint64_t{1} << (slot % 64);
    } else if (held < Packs::room_in(class_bytes(slot))) {
      static_cast<void**>(address_in(cell))[1 + held] = block;
      cell += kOneHeld;
    } else {
      set_link(block, reinterpret_cast<void*>(cell));
      cell = reinterpret_cast<uintptr_t>(block);
    }
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

  // The word that leads to a carrier: its address, how many others it holds, and whether it is the oldest of its list, whose
  // first word leads nowhere and was not written to.
  static constexpr uint64_t kOneHeld = uint64_t{1} << kCountShift;
  static constexpr uint64_t kOldest = uint64_t{1} << 63;
  static unsigned held_by(uint64_t word) { return static_cast<unsigned>((word & ~kOldest) >> kCountShift); }
  static uint64_t older(uint64_t word) {
    return (word & kOldest) != 0 ? 0 : reinterpret_cast<uintptr_t>(link_of(address_in(word)));
  }

  unsigned flush_row(unsigned dst, unsigned budget);

  uint32_t entries_;
  uint32_t bytes_;     // of the blocks in it
  mutable bool busy_;  // also while it is checked
  uint32_t next_dst_;  // where the next budget flush begins, so that none starves
  uint64_t occupied_[kShards][kOccupiedWords];
  uint64_t bank_[kShards][kBinPad];
};

}  // namespace hz3::remote
