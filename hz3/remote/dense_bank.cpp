// See hz3/remote/dense_bank.hpp.
#include "hz3/remote/dense_bank.hpp"

#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3::remote {

// Joins the packs of one row and hands them over with one atomic operation.
unsigned DenseBank::flush_row(unsigned dst, unsigned budget) {
  Packs packs;
  for (unsigned w = 0; w < kOccupiedWords; w++) {
    while (occupied_[dst][w] != 0 && packs.count() < budget) {
      const unsigned bit = static_cast<unsigned>(__builtin_ctzll(occupied_[dst][w]));
      const Slot slot = w * 64 + bit;
      const size_t bytes = class_bytes(slot);
      const unsigned before = packs.count();
      uint64_t& cell = bank_[dst][slot];
      while (cell != 0 && packs.count() < budget) {
        void** const carrier = static_cast<void**>(address_in(cell));
        const unsigned held = held_by(cell), left = budget - packs.count();
        if (held < left) {
          cell = older(cell);
          held != 0 ? packs.add_carrier(carrier, held, bytes) : packs.add(carrier, bytes);
        } else {
          for (unsigned i = 0; i < left; i++) packs.add(carrier[held - i], bytes);
          cell -= left * kOneHeld;
        }
      }
      bytes_ -= (packs.count() - before) * static_cast<uint32_t>(bytes);
      if (cell == 0) occupied_[dst][w] &= ~(uint64_t{1} << bit);
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
  const Busy busy(busy_);
  unsigned entries = 0;
  for (unsigned dst = 0; dst < kShards; dst++)
    for (Slot slot = 0; slot < kBinPad; slot++) {
      const bool marked = (occupied_[dst][slot / 64] >> (slot % 64)) & 1;
      if (marked != (bank_[dst][slot] != 0)) invariant_failed("I1", "a list of the bank is not marked as it is");
      const auto see = [&](void* block) {
        entries++;
        if (tag_of(block) != make_tag(slot, dst))
          invariant_failed("I3", "a list of the bank holds a block that belongs elsewhere");
      };
      for (uint64_t word = bank_[dst][slot]; word != 0; word = older(word)) {
        void** const carrier = static_cast<void**>(address_in(word));
        see(carrier);
        for (unsigned i = 1; i <= held_by(word); i++) see(carrier[i]);
      }
    }
  if (entries != entries_) invariant_failed("I1", "the bank does not hold as many blocks as it counts");
}

void DenseBank::abandon() {
  entries_ = bytes_ = 0;
  busy_ = false;
  for (unsigned dst = 0; dst < kShards; dst++) {
    for (unsigned w = 0; w < kOccupiedWords; w++) occupied_[dst][w] = 0;
    for (unsigned slot = 0; slot < kBinPad; slot++) bank_[dst][slot] = 0;
  }
}

}  // namespace hz3::remote
