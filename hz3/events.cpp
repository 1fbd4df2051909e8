// Deferred work of the thread cache: what happens at events, off the hot path. See hz3/thread_cache.hpp.
#include "hz3/background.hpp"
#include "hz3/bins.hpp"
#include "hz3/check.hpp"
#include "hz3/cold.hpp"
#include "hz3/depot.hpp"
#include "hz3/large.hpp"
#include "hz3/remote/inbox.hpp"
#include "hz3/settings.hpp"
#include "hz3/sleepers.hpp"

namespace hz3 {
namespace {

constexpr unsigned kStashPatience = 8;  // slow calls after which even a small stash is flushed

// A thread that comes here so rarely may do nothing else for long but free a block now and then: the next few grants of room
// are small. No more of them, or one that has a burst of work after each pause would pay for it.
constexpr uint64_t kCalmMs = 5;
constexpr uint8_t kCalmGrants = 4;

std::atomic<uint64_t> next_tick_ms{0};  // relaxed: only decides who does the tick; all that it does takes locks

void flush_stash_when_due(ThreadCache* tc) {
  if (tc->stash.entries() == 0) return;
  if (tc->stash.due() || ++tc->stash_waits >= kStashPatience) {
    tc->stash_waits = 0;
    tc->stash.stash_flush_budget(remote::kFlushBatch);
  }
}

// Above the soft limit: gives back what is free, but for a few pages, which are not worth a call into the kernel for each. What
// waits between threads follows at the next tick.
HZ3_SLOW void relieve(uint64_t now_ms) {
  large::purge_spans(now_ms, true);
  if (PageHeap::dirty_pages() > PageHeap::reserve_pages()) PageHeap::purge_all(now_ms, true);
}

}  // namespace

bool worth_a_tick() {
  const bool decays = settings::decay_ms() != settings::kNever;
  if (decays && PageHeap::dirty_pages() + large::cached_span_bytes() != 0) return true;
  for (unsigned i = 0; i < kShards; i++)
    if (!remote::Inbox::of(i).empty() || (decays && Central::of(i).has_warm())) return true;
  return false;
}

bool anything_waits() {
  if (sleepers::any_awake() || worth_a_tick()) return true;
  for (unsigned i = 0; i < kShards; i++)
    if (Central::of(i).has_spares()) return true;
  for (Slot slot = 1; slot < kSlots; slot++)
    if (Depot::of(slot).blocks() != 0) return true;
  return false;
}

void tick(uint64_t now_ms) {
  uint64_t due = next_tick_ms.load(std::memory_order_relaxed);
  if (now_ms < due) return cooling::go_on(now_ms);
  if (!next_tick_ms.compare_exchange_strong(due, now_ms + settings::tick_ms(), std::memory_order_relaxed)) return;
  // Blocks sent to a shard whose threads sleep or have ended must not wait for ever.
  for (unsigned i = 0; i < kShards; i++) remote::drain_to_central(i);
  sleepers::tick(now_ms);
  if (unlikely(PageHeap::above_soft_limit())) Depot::send_all_home();
  Depot::send_idle_home();
  for (unsigned i = 0; i < kShards; i++) Central::of(i).release_spares();
  cooling::tick(now_ms);
  PageHeap::relax_reserve();
  PageHeap::set_several_threads(thread_registry.threads() > 1);
  large::purge_spans(now_ms, false);
  PageHeap::purge_all(now_ms, false);
  if constexpr (kDebugChecks) check::shared();
}

void slow_call_event(ThreadCache* tc) {
  const sleepers::SlowCall guard(tc);
  background::attend();
  if (unlikely(PageHeap::above_soft_limit())) relieve(os::now_ms());
  flush_stash_when_due(tc);
  tc->frees_since_look = 0;
  const uint64_t now = os::now_ms();
  if (likely(now == tc->now_ms)) return;
  tc->calm = now - tc->now_ms >= kCalmMs ? kCalmGrants : 0;
  __atomic_store_n(&tc->now_ms, now, __ATOMIC_RELAXED);  // no pairs: others see it a moment late
  statistics::add_up();
  PageHeap::set_now(now);
  if constexpr (kDebugChecks) check::cache(tc);
  trim_idle_bins(tc);
  if (now >= next_tick_ms.load(std::memory_order_relaxed) || cooling::due(now)) tick(now);
}

void take_inbox(ThreadCache* tc) {
  remote::Sorter rest;
  bool any = false;
  remote::Packs::for_each(remote::Inbox::of(tc->shard).take_all(), [&](void* block) {
    const Slot slot = tag_slot(tag_of(block));
    // A quarter, and half for what the thread frees itself: what others send back does not displace that.
    if (likely(tc->second[slot] == nullptr && most_in_bin(tc, slot) < tc->limit[slot] * kRoomUnit / 4)) {
      if (tc->room[slot] <= kRoomUnit) grant_more(tc, slot);
      push(tc, slot, block);
    } else {
      any = true;
      if (tc->overflowed[slot] == 0) tc->overflowed[slot] = 1;
      rest.add(block, slot);
    }
  });
  if (any) rest.pass_on(tc->shard);
}

void flush_cache(ThreadCache* tc) {
  const sleepers::SlowCall guard(tc);
  if constexpr (kDebugChecks) check::cache(tc);
  for (Slot slot = 1; slot < kSlots; slot++)
    if (tc->head[slot] != nullptr || tc->second[slot] != nullptr) empty_bin(tc, slot);
  tc->stash.stash_flush_all();
  statistics::add_up();
}

bool reclaim(ThreadCache* tc) {
  if (tc != nullptr) flush_cache(tc);
  sleepers::empty_parked(os::now_ms());
  Depot::send_all_home();
  Central::Work work{UINT32_MAX, UINT32_MAX, UINT32_MAX};
  for (unsigned i = 0; i < kShards; i++) {
    remote::drain_to_central(i);
    Central::of(i).release_all_spares();
    Central::of(i).cool(0, work);
  }
  const bool any = PageHeap::dirty_pages() + large::cached_span_bytes() != 0 || work.calls != UINT32_MAX;
  large::purge_spans(os::now_ms(), true);
  PageHeap::purge_all(os::now_ms(), true);
  thread_registry.trim();
  return any;
}

void reclaim_for_retry(ThreadCache* tc) {
  reclaim(tc);
  const sleepers::NoLooks guard;
  arenas.decommit_free();
  if (const uint64_t retired = arenas.retire_empty()) {
    PageHeap::forget_descriptors(retired);
    arenas.unmap(retired);
  }
}

void free_uncached(void* block, Tag tag) {
  statistics::count(statistics::kRemote);
  statistics::count(statistics::kCentralPuts);
  set_link(block, nullptr);
  Central::of(tag_shard(tag)).put(block);
  statistics::add_up();
}

}  // namespace hz3
