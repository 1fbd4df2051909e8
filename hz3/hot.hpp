// The hot path, top to bottom in call order. A malloc that hits and a local free touch: the thread pointer, the class table
// (a byte), one bin head; and the page tag, the bin head and its countdown.
//
//   malloc(n)  ─► slot = table[n] ─► bin has a block ─► pop it
//                                  └ empty ─► alloc_slow: inbox ─► central ─► fresh run
//                n above the tiers ─► large_slow
//   free(p)    ─► tag = tags[page of p] ─► slot = tag ^ key is a slot: ours and local ─► push it ─► countdown, bin_event_slow
//                │                        └ another shard's ─► free_remote: stash_push
//                └ not in the first arena, no tag, a large block ─► free_slow
//
// Preconditions: none; a thread without a cache has the static one, which is empty and matches no tag. Slow functions are
// tail-called: they get what was computed in registers and return to the caller of malloc or free.
#pragma once

#include "hz3/thread_cache.hpp"

namespace hz3 {

// A block of a class that the thread's bin has run out of. ENOMEM and nullptr without memory.
[[gnu::noinline]] void* alloc_slow(ThreadCache* tc, Slot slot);
// The same; `zero` tells whether the block is zero but for its first word.
void* alloc_slow_zero(ThreadCache* tc, Slot slot, bool* zero);
// A block above the tiers. ENOMEM and nullptr without memory or above PTRDIFF_MAX.
HZ3_SLOW void* large_slow(size_t bytes);
// A block that some other shard may own, or none at all.
[[gnu::noinline]] void free_remote(ThreadCache* tc, void* p, Tag tag);
// Whatever the hot path does not know: nullptr, large blocks, other arenas, foreign pointers, threads without a cache.
[[gnu::noinline]] void free_slow(void* p);

HZ3_ALWAYS_INLINE void* malloc_hot(size_t bytes) {
  ThreadCache* tc = tls_cache;
  if (unlikely(bytes > kMaxTierBytes)) return large_slow(bytes);
  const Slot slot = slot_of(bytes);
  void* block = tc->head[slot];
  if (unlikely(block == nullptr)) return alloc_slow(tc, slot);
  tc->head[slot] = link_of(block);
  return block;
}

HZ3_ALWAYS_INLINE void free_hot(void* p) {
  ThreadCache* tc = tls_cache;
  const size_t page = (reinterpret_cast<uintptr_t>(p) - hot_map.base) >> kPageShift;
  // relaxed: the program ordered the allocation of p, and with it the growth of the map, before this call
  if (unlikely(page >= __atomic_load_n(&hot_map.pages, __ATOMIC_RELAXED))) return free_slow(p);
  const Tag tag = __atomic_load_n(&hot_map.tags[page], __ATOMIC_RELAXED);
  const Slot slot = tag_low(tag) ^ tc->key;
  if (unlikely(slot >= kSlots)) return free_remote(tc, p, tag);
  set_link(p, tc->head[slot]);
  tc->head[slot] = p;
  if (unlikely(--tc->countdown[slot] < 0)) return bin_event_slow(tc, slot);
}

}  // namespace hz3
