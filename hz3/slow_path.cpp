// The out-of-line half of hz3/hot.hpp.
#include <cerrno>

#include "hz3/hot.hpp"
#include "hz3/large.hpp"
#include "hz3/message.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3 {
namespace {

// A block for a thread that has no cache and shall not get one.
void* alloc_uncached(Slot slot, bool* zero) {
  Batch batch = Central::of(0).take(slot, 1);
  if (batch.head == nullptr) {
    reclaim_for_retry(nullptr);
    batch = Central::of(0).take(slot, 1);
  }
  *zero = batch.zero;
  if (batch.head == nullptr) errno = ENOMEM;
  return batch.head;
}

// How many frees a thread does before it gets a cache: a thread that frees a few blocks of others and ends, or whose C
// library frees after the last destructor, needs none.
constexpr uint32_t kFreesBeforeCache = 32;
thread_local constinit uint32_t early_frees = 0;

}  // namespace

void* alloc_slow_zero(ThreadCache* tc, Slot slot, bool* zero) {
  *zero = false;
  if (unlikely(is_static_cache(tc))) {
    tc = own_cache_slow();
    if (tc == nullptr) return alloc_uncached(slot, zero);
  }
  slow_call_event(tc);
  if (!remote::Inbox::of(tc->shard).empty()) {
    take_inbox(tc);
    if (void* block = tc->head[slot]) {
      tc->head[slot] = link_of(block);
      tc->room[slot] += kRoomUnit;
      return block;
    }
  }
  const ClassInfo& c = class_info(slot);
  if (tc->overflowed[slot]) {
    tc->overflowed[slot] = false;
    const unsigned twice = tc->limit[slot] * 2u;
    tc->limit[slot] = twice < c.limit_most ? static_cast<uint16_t>(twice) : c.limit_most;
  }
  Batch batch = Central::of(tc->shard).take(slot, c.refill);
  if (unlikely(batch.head == nullptr)) {
    reclaim_for_retry(tc);
    batch = Central::of(tc->shard).take(slot, c.refill);
    if (batch.head == nullptr) {
      errno = ENOMEM;
      return nullptr;
    }
  }
  *zero = batch.zero;
  tc->head[slot] = link_of(batch.head);
  tc->room[slot] = (tc->limit[slot] - static_cast<int32_t>(batch.count - 1)) * kRoomUnit;
  return batch.head;
}

void* alloc_slow(size_t bytes) {
  bool zero = false;
  return alloc_slow_zero(tls_cache, slot_of(bytes), &zero);
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

void* large_slow(size_t bytes) {
  bool zero = false;
  return alloc_large(1, bytes, &zero);
}

void free_remote(void* p, uint64_t mismatch, ThreadCache* tc) {
  const Tag tag = static_cast<Tag>(mismatch ^ tc->key);
  const Slot slot = tag_slot(tag);
  if (unlikely(slot - 1 >= kBins || is_static_cache(tc))) return free_slow(p);
  if (unlikely(tc->stash.stash_push(tag_shard(tag), slot, p))) slow_call_event(tc);
}

void free_slow(void* p) {
  if (p == nullptr) return;
  Arena* arena = arenas.find(p);
  if (arena == nullptr) return;  // another allocator's: not ours to touch
  const Tag tag = arena->tag(p);
  const Slot slot = tag_slot(tag);
  if (slot == kLargeSlot) {
    if (arena->run(p)->start != p) die("free", p, "not the start of a block");
    large::free(p, tag);
    if (ThreadCache* tc = tls_cache; !is_static_cache(tc)) slow_call_event(tc);
    return;
  }
  if (slot == 0) die("free", p, "no block starts here: freed before, or never allocated");
  ThreadCache* tc = tls_cache;
  if (is_static_cache(tc)) {
    if (tc == &ended_cache || ++early_frees < kFreesBeforeCache) return free_uncached(p, tag);
    tc = own_cache_slow();
    if (tc == nullptr) return free_uncached(p, tag);
  }
  if (tag_shard(tag) != tc->shard) return free_remote(p, tag_low(tag) ^ tc->key, tc);
  set_link(p, tc->head[slot]);
  tc->head[slot] = p;
  if ((tc->room[slot] -= kRoomUnit + kRoomLeak) < 0) bin_event_slow(p, slot, tc);
}

}  // namespace hz3
