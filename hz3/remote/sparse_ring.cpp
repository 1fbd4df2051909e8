// See hz3/remote/sparse_ring.hpp.
#include "hz3/remote/sparse_ring.hpp"

#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3::remote {

// Packs the entries by owner, then hands each owner its list with one atomic operation.
void SparseRing::stash_flush_budget(unsigned budget) {
  const Busy busy(busy_);
  Packs packs[kShards];
  uint8_t seen[kShards] = {};  // owners in order of appearance
  unsigned owners = 0;
  for (; head_ != tail_ && budget != 0; head_++, budget--) {
    const Entry& e = ring_[head_ % kRingSlots];
    if (packs[e.dst].count() == 0) seen[owners++] = static_cast<uint8_t>(e.dst);
    packs[e.dst].add(e.block, class_bytes(e.slot));
    bytes_ -= static_cast<uint32_t>(class_bytes(e.slot));
  }
  if (head_ == tail_) head_ = tail_ = 0;  // a ring that is flushed early stays within its first pages
  for (unsigned i = 0; i < owners; i++) {
    const Packs& list = packs[seen[i]];
    Inbox::of(seen[i]).push(list.first(), list.last(), list.count());
  }
}

void SparseRing::check() const {
  const Busy busy(busy_);
  if (entries() > kRingSlots) invariant_failed("I1", "the ring counts more entries than it has slots");
  for (uint32_t i = head_; i != tail_; i++) {
    const Entry& e = ring_[i % kRingSlots];
    if (tag_of(e.block) != make_tag(e.slot, e.dst)) invariant_failed("I3", "an entry of the ring is not what its block is");
  }
}

}  // namespace hz3::remote
