// See hz3/remote/dense_bank.hpp.
#include "hz3/remote/dense_bank.hpp"

#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3::remote {

// Joins the lists of one row and hands them over with one atomic operation. The blocks' links were written by this thread
// a moment ago, so walking to the end of each list finds them in its cache.
unsigned DenseBank::flush_row(unsigned dst, unsigned budget) {
  void* first = nullptr;
  void* last = nullptr;
  unsigned done = 0;
  for (unsigned w = 0; w < kOccupiedWords; w++) {
    while (occupied_[dst][w] != 0 && done < budget) {
      const unsigned bit = static_cast<unsigned>(__builtin_ctzll(occupied_[dst][w]));
      const Slot slot = w * 64 + bit;
      void*& cell = bank_[dst][slot];
      const unsigned before = done;
      if (first == nullptr) {
        first = cell;
      } else {
        set_link(last, cell);
      }
      last = cell;
      for (done++; link_of(last) != nullptr && done < budget; done++) last = link_of(last);
      cell = link_of(last);
      if (cell == nullptr) occupied_[dst][w] &= ~(uint64_t{1} << bit);
      bytes_ -= (done - before) * static_cast<uint32_t>(class_bytes(slot));
    }
  }
  if (first != nullptr) Inbox::of(dst).push(first, last, done);
  return done;
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
