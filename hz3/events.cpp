// Deferred work of the thread cache: what happens at events, off the hot path. See hz3/thread_cache.hpp.
#include "hz3/remote/inbox.hpp"
#include "hz3/thread_cache.hpp"

#include "hz3/large.hpp"

namespace hz3 {
namespace {

constexpr unsigned kClockEvery = 16;    // slow calls between two looks at the clock
constexpr unsigned kLeastRoom = 2;      // blocks
constexpr unsigned kStashPatience = 8;  // slow calls after which even a small stash is flushed
constexpr uint64_t kTickMs = kPurgeDecayMs / 4 > 10 ? kPurgeDecayMs / 4 : 10;

std::atomic<uint64_t> next_tick_ms{0};  // relaxed: only decides who does the tick

// What the limits of all threads grew by together, in bytes. Relaxed: a budget, nothing is ordered by it.
std::atomic<size_t> all_granted{0};

// Cuts a list after its first `keep` blocks and returns the rest.
void* cut_after(void*& head, unsigned keep) {
  if (keep == 0) {
    void* rest = head;
    head = nullptr;
    return rest;
  }
  void* last = head;
  for (unsigned i = 1; i < keep; i++) last = link_of(last);
  void* rest = link_of(last);
  set_link(last, nullptr);
  return rest;
}

// Passes blocks of one class that leave a bin on to their owners: to central of the thread's own shard, else to the stash.
void send_home(ThreadCache* tc, Slot slot, void* list) {
  void* own = nullptr;
  while (list != nullptr) {
    void* block = list;
    list = link_of(block);
    const Tag tag = tag_of(block);
    if (likely(tag_shard(tag) == tc->shard)) {
      set_link(block, own);
      own = block;
    } else if (tc->stash.stash_push(tag_shard(tag), slot, block)) {
      tc->stash.stash_flush_all();
    }
  }
  if (own != nullptr) Central::of(tc->shard).put(own);
}

void empty_bin(ThreadCache* tc, Slot slot) {
  send_home(tc, slot, cut_after(tc->head[slot], 0));
  tc->room[slot] = tc->limit[slot] * kRoomUnit;
}

void shrink_limit(ThreadCache* tc, Slot slot) {
  const unsigned first = class_info(slot).limit_first;
  const size_t less = (tc->limit[slot] - first) * class_bytes(slot);
  tc->limit[slot] = static_cast<uint16_t>(first);
  tc->granted -= less;
  all_granted.fetch_sub(less, std::memory_order_relaxed);
}

// Sends the bins home that nothing was freed into since the last trim.
void trim_idle_bins(ThreadCache* tc) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    if (tc->room[slot] != tc->seen_room[slot]) {
      tc->seen_room[slot] = tc->room[slot];
    } else if (tc->head[slot] != nullptr) {
      shrink_limit(tc, slot);
      tc->overflowed[slot] = false;
      tc->keep_above[slot] = kKeepNone;
      empty_bin(tc, slot);
      tc->seen_room[slot] = tc->room[slot];
    }
  }
}

void look_at_clock(ThreadCache* tc) {
  const uint64_t now = os::now_ms();
  if (now - tc->last_trim_ms >= kPurgeDecayMs) {
    tc->last_trim_ms = now;
    trim_idle_bins(tc);
  }
  if (now >= next_tick_ms.load(std::memory_order_relaxed)) tick(now);
}

void flush_stash_when_due(ThreadCache* tc) {
  if (tc->stash.entries() == 0) return;
  if (tc->stash.due() || ++tc->stash_waits >= kStashPatience) {
    tc->stash_waits = 0;
    tc->stash.stash_flush_all();
  }
}

}  // namespace

void grow_limit(ThreadCache* tc, Slot slot) {
  const ClassInfo& c = class_info(slot);
  const unsigned limit = tc->limit[slot];
  const unsigned more = limit * 2 < c.limit_most ? limit : c.limit_most - limit;
  const size_t bytes = size_t{more} * c.size;
  if (tc->granted + bytes > kThreadBudgetBytes) return;
  if (all_granted.fetch_add(bytes, std::memory_order_relaxed) + bytes > kProcessBudgetBytes) {
    all_granted.fetch_sub(bytes, std::memory_order_relaxed);
    return;
  }
  tc->granted += bytes;
  tc->limit[slot] = static_cast<uint16_t>(limit + more);
}

void drop_grants(ThreadCache* tc) {
  all_granted.fetch_sub(tc->granted, std::memory_order_relaxed);
  tc->granted = 0;
}

void keep_grants_of(const ThreadCache* mine) {
  all_granted.store(mine != nullptr ? mine->granted : 0, std::memory_order_relaxed);
}

void tick(uint64_t now_ms) {
  uint64_t due = next_tick_ms.load(std::memory_order_relaxed);
  if (now_ms < due || !next_tick_ms.compare_exchange_strong(due, now_ms + kTickMs, std::memory_order_relaxed)) return;
  // Blocks sent to a shard whose threads sleep or have ended must not wait for ever.
  for (unsigned i = 0; i < kShards; i++) remote::drain_to_central(i);
  for (unsigned i = 0; i < kShards; i++) Central::of(i).release_spares();
  PageHeap::relax_reserve();
  large::purge_spans(now_ms, false);
  PageHeap::purge_all(now_ms, false);
}

void slow_call_event(ThreadCache* tc) {
  flush_stash_when_due(tc);
  if (++tc->slow_calls % kClockEvery == 0) look_at_clock(tc);
}

void bin_event_slow(void*, uint64_t wide_slot, ThreadCache* tc) noexcept {
  const Slot slot = static_cast<Slot>(wide_slot);
  const unsigned limit = tc->limit[slot];
  unsigned length = 0;
  for (void* b = tc->head[slot]; b != nullptr && length < limit; b = link_of(b)) length++;
  if (length >= limit) {
    length = limit / 2;
    tc->overflowed[slot] = true;
    send_home(tc, slot, cut_after(tc->head[slot], length));
  }
  tc->seen_room[slot] = kBusyBin;
  // A bin that is nearly full gets a little more room than it has, or it would be back here after a few frees.
  const unsigned least = kLeastRoom + limit / 8;
  tc->room[slot] = static_cast<int32_t>(limit - length > least ? limit - length : least) * kRoomUnit;
  flush_stash_when_due(tc);
  look_at_clock(tc);
}

void take_inbox(ThreadCache* tc) {
  void* list = remote::Inbox::of(tc->shard).take_all();
  void* rest = nullptr;
  while (list != nullptr) {
    void* block = list;
    list = link_of(block);
    const Slot slot = tag_slot(tag_of(block));
    if (likely(tc->room[slot] > static_cast<int32_t>(tc->limit[slot] * kRoomUnit * 3 / 4))) {
      tc->room[slot] -= kRoomUnit;
      set_link(block, tc->head[slot]);
      tc->head[slot] = block;
    } else {
      tc->overflowed[slot] = true;
      set_link(block, rest);
      rest = block;
    }
  }
  if (rest != nullptr) remote::pass_on(tc->shard, rest);
}

void flush_cache(ThreadCache* tc) {
  for (Slot slot = 1; slot < kSlots; slot++)
    if (tc->head[slot] != nullptr) empty_bin(tc, slot);
  tc->stash.stash_flush_all();
}

bool reclaim(ThreadCache* tc) {
  if (tc != nullptr) flush_cache(tc);
  for (unsigned i = 0; i < kShards; i++) {
    remote::drain_to_central(i);
    Central::of(i).release_all_spares();
  }
  const bool any = PageHeap::dirty_pages() + large::cached_span_bytes() != 0;
  large::purge_spans(os::now_ms(), true);
  PageHeap::purge_all(os::now_ms(), true);
  return any;
}

void reclaim_for_retry(ThreadCache* tc) {
  reclaim(tc);
  arenas.decommit_free();
  if (const uint64_t retired = arenas.retire_empty()) {
    PageHeap::forget_descriptors(retired);
    arenas.unmap(retired);
  }
}

void free_uncached(void* block, Tag tag) {
  set_link(block, nullptr);
  Central::of(tag_shard(tag)).put(block);
}

}  // namespace hz3
