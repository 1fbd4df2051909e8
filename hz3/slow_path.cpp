// The out-of-line half of hz3/hot.hpp.
#include <cerrno>

#include "hz3/bins.hpp"
#include "hz3/depot.hpp"
#include "hz3/hot.hpp"
#include "hz3/large.hpp"
#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"
#include "hz3/sleepers.hpp"

namespace hz3 {
namespace {

// How many frees a thread does before it gets a cache: a thread that frees a few blocks of others and ends, or whose C
// library frees after the last destructor, needs none.
constexpr uint32_t kFreesBeforeCache = 32;
thread_local constinit uint32_t early_frees = 0;

constexpr unsigned kAdoptAt = 64;  // blocks in an inbox that its owner has not come for
constexpr unsigned kLargeHitsAnEvent = 16;
constexpr unsigned kShardsAsked = 16;  // at most, in one search for blocks of other shards

// Blocks that another shard has and does not use: those in central, and inboxes that fill up because their owner's threads
// sleep, wait for a processor, or have ended. For want of them this shard would make a new run.
Batch borrow(ThreadCache* tc, Slot slot, unsigned want) {
  const bool shares_lines = !Depot::serves(slot);
  bool adopted = false;
  constexpr bool kAsksAll = kShards <= kShardsAsked + 1;
  // After a search that found nothing with the next ones, so that within two or more each shard is asked.
  unsigned shard = kAsksAll ? tc->shard : (tc->shard + tc->shards_asked) % kShards;
  for (unsigned asked = 0; asked < kShardsAsked && asked + 1 < kShards; asked++) {
    shard = shard + 1 < kShards ? shard + 1 : 0;
    if (!kAsksAll && shard == tc->shard) continue;
    if (!adopted && remote::Inbox::of(shard).count() >= kAdoptAt) {
      adopted = true;
      remote::drain_to_central(shard);
    }
    Central& central = Central::of(shard);
    if (central.returned(slot) < want || (shares_lines && thread_registry.live_threads(shard) != 0)) continue;
    const Batch batch = central.take(slot, want);
    if (batch.head != nullptr) return batch;
  }
  if constexpr (!kAsksAll) tc->shards_asked = (tc->shards_asked + kShardsAsked) % kShards;
  return Batch{nullptr, 0, false};
}

// Blocks of a class for a thread of a shard (`tc` may be nullptr), after its inbox was looked at.
Batch refill(ThreadCache* tc, Slot slot, unsigned want) {
  Central& central = Central::of(tc != nullptr ? tc->shard : 0);
  Batch batch{nullptr, 0, false};
  if (slot <= kTierBins) {  // of the others none waits in central: a run of one block is dissolved when that comes back
    batch = central.take(slot, want);
    if (batch.head == nullptr && kShards > 1 && tc != nullptr) batch = borrow(tc, slot, want);
  }
  if (batch.head == nullptr) batch = central.make(slot, want);
  if (unlikely(batch.head == nullptr)) {
    reclaim_for_retry(tc);
    batch = central.make(slot, want);
    if (batch.head == nullptr) errno = ENOMEM;
  }
  return batch;
}

}  // namespace

void* alloc_slow_zero(ThreadCache* tc, Slot slot, bool* zero) {
  *zero = false;
  if (unlikely(is_static_cache(tc))) {
    tc = own_cache_slow();
    if (tc == nullptr) {
      const Batch batch = refill(nullptr, slot, 1);
      *zero = batch.zero;
      return batch.head;
    }
  }
  const sleepers::SlowCall guard(tc);
  if (unlikely(tc->head[slot] != nullptr)) return pop(tc, slot);  // the cache was parked
  if (use_second(tc, slot)) return pop(tc, slot);  // no event: the frees that it was granted room for lead to one
  slow_call_event(tc);
  if (tc->overflowed[slot] != 0) {
    tc->overflowed[slot] = 0;
    grow_limit(tc, slot);
  }
  if (!remote::Inbox::of(tc->shard).empty()) {
    grant_room(tc, slot, 0);  // what it was told of the list that is gone would leave blocks of the inbox no room
    take_inbox(tc);
    if (tc->head[slot] != nullptr) return pop(tc, slot);
  }
  tc->accepts[slot] = may_keep(slot) ? kAllBlocks : kOwnBlocks;
  if (use_depot(tc, slot)) return pop(tc, slot);
  const Batch batch = refill(tc, slot, class_info(slot).refill);
  if (unlikely(batch.head == nullptr)) return nullptr;
  *zero = batch.zero;
  // A single block's link is not read: that would map a page which the program may be about to write.
  tc->head[slot] = batch.count > 1 ? link_of(batch.head) : nullptr;
  grant_room(tc, slot, batch.count - 1);
  return batch.head;
}

void* alloc_slow(size_t bytes) noexcept {
  bool zero = false;
  return alloc_slow_zero(cache_in_seat(), slot_of(bytes), &zero);
}

void* alloc_large(size_t alignment, size_t bytes, bool* zero) {
  void* p = nullptr;
  if (bytes <= PTRDIFF_MAX) {
    ThreadCache* tc = own_cache_slow();
    if (tc != nullptr) slow_call_event(tc);
    const unsigned shard = tc != nullptr ? tc->shard : 0;
    p = large::allocate(shard, bytes, alignment, zero);
    if (unlikely(p == nullptr)) {
      reclaim_for_retry(tc);
      p = large::allocate(shard, bytes, alignment, zero);
    }
  }
  if (p == nullptr) errno = ENOMEM;
  return p;
}

namespace {

// A block above the tiers, of a bin if there is one of its size.
HZ3_ALWAYS_INLINE void* large_zero(size_t bytes, bool* zero) {
  if (unlikely(bytes > kMaxBinBytes)) return alloc_large(1, bytes, zero);
  ThreadCache* tc = cache_in_seat();
  const Slot slot = slot_of(bytes);
  *zero = false;
  if (unlikely(tc->head[slot] == nullptr)) return alloc_slow_zero(tc, slot, zero);
  const sleepers::SlowCall guard(tc);
  if (unlikely(tc->head[slot] == nullptr)) return alloc_slow_zero(tc, slot, zero);  // its bins were emptied meanwhile
  void* block = pop(tc, slot);  // before the event, which may send the rest of the bin home
  // In a program of few and large blocks these are the calls that see time pass.
  if (unlikely(++tc->large_hits % kLargeHitsAnEvent == 0)) slow_call_event(tc);
  return block;
}

}  // namespace

void* large_slow(size_t bytes) noexcept {
  bool zero = false;
  return large_zero(bytes, &zero);
}

void* calloc_slow(size_t bytes) noexcept {
  bool zero = false;
  void* p = bytes <= kMaxTierBytes ? alloc_slow_zero(cache_in_seat(), slot_of(bytes), &zero) : large_zero(bytes, &zero);
  if (p == nullptr) return nullptr;
  if (!zero) return memset(p, 0, bytes);
  if (bytes <= kMaxBinBytes) set_link(p, nullptr);
  if constexpr (kDebugChecks) {
    // Compared with itself one byte on: libc's way is quick in a build for coverage, too, where a loop over gigabytes is not.
    const char* first = static_cast<const char*>(p);
    if (bytes != 0 && (*first != 0 || memcmp(first, first + 1, bytes - 1) != 0))
      invariant_failed("I17", "a block that is called zero is not");
  }
  return p;
}

namespace {

// What is no block of a tier, or is freed by a thread without a cache. Event, if a large block goes to its owner: a thread that
// frees nothing else sees time pass.
HZ3_SLOW void free_remote_slow(void* p, Tag tag, ThreadCache* tc) {
  const Slot slot = tag_slot(tag);
  if (slot - 1 >= kBins || is_static_cache(tc)) return free_slow(p);
  statistics::count(statistics::kRemote);
  send_away(tc, tag_shard(tag), slot, p);
  slow_call_event(tc);
}

}  // namespace

void free_remote(void* p, uint64_t mismatch, ThreadCache* tc) noexcept {
  const Tag tag = static_cast<Tag>(mismatch ^ tc->key);
  const Slot slot = tag_slot(tag);
  if (unlikely(slot - 1 >= kTierBins || is_static_cache(tc))) return free_remote_slow(p, tag, tc);
  statistics::count(statistics::kRemote);
  if (unlikely(tc->stash.stash_push(tag_shard(tag), slot, p))) slow_call_event(tc);
}

void free_slow(void* p) noexcept {
  if (p == nullptr) return;
  Arena* arena = arenas.find(p);
  if (arena == nullptr) return;  // another allocator's: not ours to touch
  const Tag tag = arena->tag(p);
  const Slot slot = tag_slot(tag);
  if (slot == kLargeSlot) {
    if (arena->run(p)->start != p) die("free", p, "not the start of a block");
    large::free(p, tag);
    if (ThreadCache* tc = tls_own; tc != nullptr && cache_in_seat() != &ended_cache) slow_call_event(tc);
    return;
  }
  if (slot == 0) die("free", p, "no block starts here: freed before, or never allocated");
  ThreadCache* tc = cache_in_seat();
  if (is_static_cache(tc)) {
    if (tc == &ended_cache || (tls_own == nullptr && ++early_frees < kFreesBeforeCache)) return free_uncached(p, tag);
    if (tls_own != nullptr && !sleepers::try_wake(tls_own)) {  // it stays parked, and others do not reach its stash
      statistics::count(statistics::kRemote);
      send_away(tls_own, tag_shard(tag), slot, p);
      return;
    }
    tc = own_cache_slow();
    if (tc == nullptr) return free_uncached(p, tag);
  }
  const uint64_t mismatch = tag_low(tag) ^ tc->key;
  if (mismatch > tc->accepts[slot]) return free_remote(p, mismatch, tc);
  count_kept(mismatch);
  push(tc, slot, p);
  if (tc->room[slot] < 0) bin_event_slow(p, slot, tc);
}

}  // namespace hz3
