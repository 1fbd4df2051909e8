// See hz3/remote/dense_bank.hpp.
#include "hz3/remote/dense_bank.hpp"

#include <utility>

#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3::remote {

// Packs the lists of one row and hands them over with one atomic operation. The blocks' links were written by this thread a
// moment ago, so following them finds them in its cache.
unsigned DenseBank::flush_row(unsigned dst, unsigned budget) {
  Packs packs;
  for (unsigned w = 0; w < kOccupiedWords; w++) {
    while (occupied_[dst][w] != 0 && packs.count() < budget) {
      const unsigned bit = static_cast<unsigned>(__builtin_ctzll(occupied_[dst][w]));
      const Slot slot = w * 64 + bit;
      const size_t bytes = class_bytes(slot);
      void*& cell = bank_[dst][slot];
      while (cell != nullptr && packs.count() < budget) {
        void* block = std::exchange(cell, link_of(cell));
        packs.add(block, bytes);
        bytes_ -= static_cast<uint32_t>(bytes);
      }
      if (cell == nullptr) occupied_[dst][w] &= ~(uint64_t{1} << bit);
    }
  }
  if (packs.count() != 0) Inbox::of(dst).push(packs.first(), packs.last(), packs.count());
  return packs.count();
}

void DenseBank::stash_flush_budget(unsigned budget) {
  const Busy busy(busy_);
  for (unsigned i = 0; i < kShards && entries_ != 0 && budget != 0; i++) {
    const unsigned done = flush_row(next_dst_, budget);
    entries_ -= done;
    budget -= done;
    // Also when some of the row stays: it has its turn again after the others.
    next_dst_ = next_dst_ + 1 < kShards ? next_dst_ + 1 : 0;
  }
}

void DenseBank::check() const {
  unsigned entries = 0;
  for (unsigned dst = 0; dst < kShards; dst++)
    for (Slot slot = 0; slot < kBinPad; slot++) {
      const bool marked = (occupied_[dst][slot / 64] >> (slot % 64)) & 1;
      if (marked != (bank_[dst][slot] != nullptr)) invariant_failed("I1", "a list of the bank is not marked as it is");
      for (void* b = bank_[dst][slot]; b != nullptr; b = link_of(b)) {
        entries++;
        if (tag_of(b) != make_tag(slot, dst)) invariant_failed("I3", "a list of the bank holds a block that belongs elsewhere");
      }
    }
  if (entries != entries_) invariant_failed("I1", "the bank does not hold as many blocks as it counts");
}

void DenseBank::abandon() {
  entries_ = bytes_ = 0;
  busy_ = false;
  for (unsigned dst = 0; dst < kShards; dst++) {
    for (unsigned w = 0; w < kOccupiedWords; w++) occupied_[dst][w] = 0;
    for (unsigned slot = 0; slot < kBinPad; slot++) bank_[dst][slot] = nullptr;
  }
}

}  // namespace hz3::remote
