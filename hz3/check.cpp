// See hz3/check.hpp.
#include "hz3/check.hpp"

#include "hz3/bins.hpp"
#include "hz3/depot.hpp"
#include "hz3/large.hpp"
#include "hz3/message.hpp"

namespace hz3::check {
namespace {

// A list of blocks of a class, of which there are `most` at most.
void list(void* head, Slot slot, int32_t most) {
  const ClassInfo& c = class_info(slot);
  for (void* b = head; b != nullptr; b = link_of(b)) {
    if (--most < 0) invariant_failed("I10", "a bin holds more blocks than its room accounts for");
    if (tag_slot(tag_of(b)) != slot) invariant_failed("I3", "a bin holds a block of another class");
    const Run* run = run_of(b);
    const size_t offset = static_cast<size_t>(static_cast<char*>(b) - run->start);
    // Against `carved` only central can check, which has the lock.
    if (offset % c.size != 0 || offset / c.size >= run->capacity) invariant_failed("I1", "a bin holds what is no block");
  }
}

void bin(const ThreadCache* tc, Slot slot) {
  const ClassInfo& c = class_info(slot);
  const unsigned limit = tc->limit[slot];
  if (limit < c.limit_first || (limit > c.limit_first && limit > c.limit_most))
    invariant_failed("I11", "a bin's limit is outside of what its class allows");
  list(tc->head[slot], slot, most_in_bin(tc, slot) / kRoomUnit);
  if (tc->second[slot] == nullptr) return;
  if (tc->second_most[slot] > limit) invariant_failed("I10", "a second list is longer than the limit of its bin");
  list(tc->second[slot], slot, tc->second_most[slot]);
}

}  // namespace

void cache(const ThreadCache* tc) {
  size_t granted = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    bin(tc, slot);
    granted += (tc->limit[slot] - size_t{class_info(slot).limit_first}) * class_bytes(slot);
  }
  if (granted != tc->granted) invariant_failed("I11", "a thread's grants are not what its limits grew by");
  for (Slot slot = 0; slot < kTagSlots; slot++) {
    const bool is_bin = slot - 1 < kBins;
    const uint16_t accepted = tc->accepts[slot];
    if (accepted != (is_bin ? kOwnBlocks : kNoBlocks) && !(is_bin && accepted == kAllBlocks && may_keep(slot)))
      invariant_failed("I14", "a cache accepts what belongs into no bin, or may not be kept");
  }
  if (tc->head[0] != nullptr) invariant_failed("I1", "the bin of no class holds a block");
  if (!tc->stash.busy()) tc->stash.check();  // a signal handler that forks may have interrupted a change of it
}

void is_empty(const ThreadCache* tc, const char* id, const char* what) {
  if (tc->stash.entries() != 0) invariant_failed(id, what);
  for (Slot slot = 0; slot < kSlots; slot++)
    if (tc->head[slot] != nullptr || tc->second[slot] != nullptr) invariant_failed(id, what);
}

void shared() {
  Depot::check();
  for (unsigned i = 0; i < kShards; i++) Central::of(i).check();
  for (unsigned i = 0; i < kPageHeaps; i++) PageHeap::number(i).check();
  large::check_spans();
  arenas.check();
}

}  // namespace hz3::check
