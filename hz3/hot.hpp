// The hot path, top to bottom in call order. A malloc that hits and a local free touch: the thread pointer, the class table
// (a byte), one bin head; and the page tag, the bin head and its room.
//
//   malloc(n)  ─► slot = table[n] ─► bin has a block ─► pop it
//                                  └ empty ─► alloc_slow: inbox ─► central ─► fresh run
//                n above the tiers ─► large_slow
//   free(p)    ─► tag = tags[page of p] ─► slot = tag ^ key is a slot: ours and local ─► push it ─► no room: bin_event_slow
//                │                        └ another shard's ─► free_remote: stash_push
//                └ not in the first arena, no tag, a large block ─► free_slow
//
// Preconditions: none; a thread without a cache has the static one, which is empty and matches no tag. Slow functions are
// tail-called: they get what was computed in registers and return to the caller of malloc or free.
#pragma once

#include "hz3/thread_cache.hpp"

namespace hz3 {

// A block of at most kMaxTierBytes, of a class that the thread's bin has run out of. ENOMEM and nullptr without memory.
[[gnu::noinline]] void* alloc_slow(size_t bytes);
// The same for a class; `zero` tells whether the block is zero but for its first word.
void* alloc_slow_zero(ThreadCache* tc, Slot slot, bool* zero);
// A block above the tiers. ENOMEM and nullptr without memory or above PTRDIFF_MAX.
HZ3_SLOW void* large_slow(size_t bytes);
// The same for an alignment (a power of two) and any size; `zero` tells whether the block is zero.
void* alloc_large(size_t alignment, size_t bytes, bool* zero);
// A block that some other shard may own, or none at all. `mismatch` is the low half of its tag xor tc->key.
[[gnu::noinline]] void free_remote(void* p, uint64_t mismatch, ThreadCache* tc);
// Whatever the hot path does not know: nullptr, large blocks, other arenas, foreign pointers, threads without a cache.
[[gnu::noinline]] void free_slow(void* p);

HZ3_ALWAYS_INLINE void* malloc_hot(size_t bytes) {
  if (unlikely(bytes > kMaxTierBytes)) return large_slow(bytes);
  const uint64_t slot = slot_of(bytes);
  ThreadCache* tc = tls_cache;
  void* block = as_result(tc->head[slot]);
  if (unlikely(block == nullptr)) return alloc_slow(bytes);
  tc->head[slot] = link_of(block);
  tc->room[slot] += kRoomUnit;
  return block;
}

HZ3_ALWAYS_INLINE void free_hot(void* p) {
  ThreadCache* tc = tls_cache;
  const size_t page = (reinterpret_cast<uintptr_t>(p) - racy_read(hot_map.base)) >> kPageShift;
  if (unlikely(page >= racy_read(hot_map.pages))) return free_slow(p);
  const uint64_t slot = load_tag_low(racy_read(hot_map.tags) + page) ^ tc->key;
  if (unlikely(slot >= kSlots)) return free_remote(p, slot, tc);
  set_link(p, tc->head[slot]);
  tc->head[slot] = p;
  if (unlikely(subtract_below_zero<kRoomUnit + kRoomLeak>(tc->room[slot]))) return bin_event_slow(p, slot, tc);
}

}  // namespace hz3
