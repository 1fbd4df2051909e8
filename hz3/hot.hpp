// The hot path, top to bottom in call order. A malloc that hits touches the thread pointer, the size map (a byte), one bin head
// and its room; a free the thread pointer, the page tag, what the bin accepts, its head and its room; both the block's first
// word.
//
//   malloc(n)  ─► slot = slot_map[n] ─► bin has a block ─► pop it
//                                     └ empty ─► alloc_slow: inbox ─► central ─► other shards ─► fresh run
//                n above the tiers ─► large_slow
//   free(p)    ─► tag = tags[page of p] ─► tag ^ key <= accepts[slot]: ours, or kept ─► push it ─► no room: bin_event_slow
//                │                        └ another shard's, no tag, a large block ─► free_remote: stash_push or free_slow
//                └ not in the first arena ─► free_slow
//
// Whose block it is, is no branch of its own: where threads free each other's blocks a processor could not foresee it.
//
// Preconditions: none; a thread without a cache has the static one, which is empty and matches no tag. Slow functions are
// tail-called: they get what was computed in registers and return to the caller of malloc or free.
#pragma once

#include <cstring>

#include "hz3/thread_cache.hpp"

namespace hz3 {

// A block of at most kMaxTierBytes, of a class that the thread's bin has run out of. ENOMEM and nullptr without memory.
[[gnu::noinline]] void* alloc_slow(size_t bytes) noexcept;
// The same for a class; `zero` tells whether the block is zero but for its first word.
void* alloc_slow_zero(ThreadCache* tc, Slot slot, bool* zero);
// A block above the tiers. ENOMEM and nullptr without memory or above PTRDIFF_MAX.
HZ3_SLOW void* large_slow(size_t bytes) noexcept;
// The same for an alignment (a power of two) and any size; `zero` tells whether the block is zero.
void* alloc_large(size_t alignment, size_t bytes, bool* zero);
// A zeroed block of any size, for which the thread's bin has nothing.
[[gnu::noinline]] void* calloc_slow(size_t bytes) noexcept;
// A block that the thread's bin does not accept, or none at all. `mismatch` is the low half of its tag xor tc->key.
[[gnu::noinline]] void free_remote(void* p, uint64_t mismatch, ThreadCache* tc) noexcept;
// Whatever the hot path does not know: nullptr, large blocks, other arenas, foreign pointers, threads without a cache.
[[gnu::noinline]] void free_slow(void* p) noexcept;

HZ3_ALWAYS_INLINE void* pop_hot(ThreadCache* tc, uint64_t slot, void* block) {
  tc->head[slot] = link_of(block);
  tc->room[slot] += kRoomUnit;
  published(tc);
  return block;
}

// `Miss` and `Large` are alloc_slow and large_slow, or functions that call them and see to failure.
template <void* (*Miss)(size_t), void* (*Large)(size_t)>
HZ3_ALWAYS_INLINE void* allocate_hot(size_t bytes) {
  if (unlikely(bytes > kMaxTierBytes)) return Large(bytes);
  ThreadCache* tc = cache_in_seat();
  const uint64_t slot = tc->slot_map[(bytes + kQuantum - 1) / kQuantum];
  void* block = as_result(tc->head[slot]);
  if (unlikely(block == nullptr)) return Miss(bytes);
  return pop_hot(tc, slot, block);
}

HZ3_ALWAYS_INLINE void* malloc_hot(size_t bytes) { return allocate_hot<alloc_slow, large_slow>(bytes); }

// Clears `bytes`, a multiple of kQuantum, or one quantum when that is 0: from both ends, so that short blocks take no loop.
HZ3_ALWAYS_INLINE void zero_units(char* p, size_t bytes) {
  using Unit [[gnu::vector_size(kQuantum), gnu::may_alias]] = uint64_t;
  const auto clear = [p](size_t at) { *reinterpret_cast<Unit*>(p + at) = Unit{}; };
  clear(0);
  if (bytes <= kQuantum) return;
  clear(bytes - kQuantum);
  if (bytes <= 2 * kQuantum) return;
  clear(kQuantum);
  clear(bytes - 2 * kQuantum);
  for (size_t at = bytes - 3 * kQuantum; at > kQuantum; at -= kQuantum) {
    clear(at);
    __asm__("" : "+r"(at));  // or the compiler makes it a memset again
  }
}

HZ3_ALWAYS_INLINE void* calloc_hot(size_t bytes) {
  if (unlikely(bytes > kMaxTierBytes)) return calloc_slow(bytes);
  ThreadCache* tc = cache_in_seat();
  const size_t units = (bytes + kQuantum - 1) / kQuantum;
  const uint64_t slot = tc->slot_map[units];
  void* block = tc->head[slot];
  if (unlikely(block == nullptr)) return calloc_slow(bytes);
  pop_hot(tc, slot, block);
  constexpr size_t kInlineBytes = 256;  // up to here a few stores are faster than the call of memset
  if (unlikely(bytes > kInlineBytes)) return memset(block, 0, bytes);
  zero_units(static_cast<char*>(block), units * kQuantum);
  return block;
}

// A block aligned to `alignment`, a power of two, if the thread's bin has one; else nullptr.
HZ3_ALWAYS_INLINE void* aligned_hot(size_t alignment, size_t bytes) {
  if (unlikely(bytes > kMaxTierBytes || alignment > kPageSize)) return nullptr;
  ThreadCache* tc = cache_in_seat();
  uint64_t slot = tc->slot_map[(bytes + kQuantum - 1) / kQuantum];
  // Runs start on a page, so a class whose size is a multiple of the alignment has aligned blocks. The last one is.
  while ((class_bytes(static_cast<Slot>(slot)) & (alignment - 1)) != 0) slot++;
  void* block = as_result(tc->head[slot]);
  return likely(block != nullptr) ? pop_hot(tc, slot, block) : nullptr;
}

// The low half of the tag of the page that `p` is in. False when that is no page of the first arena.
HZ3_ALWAYS_INLINE bool find_tag_low(const void* p, uint64_t& low) {
  const size_t page = (reinterpret_cast<uintptr_t>(p) - racy_read(hot_map.base)) >> kPageShift;
  if (unlikely(page >= racy_read(hot_map.pages))) return false;
  low = load_tag_low(racy_read(hot_map.tags) + page);
  return true;
}

// In a statistics build: a block that was freed into the thread's bin may be another shard's.
inline void count_kept(uint64_t mismatch) {
  if (mismatch <= kOwnBlocks) return;
  statistics::count(statistics::kRemote);
  statistics::count(statistics::kKept);
}

HZ3_ALWAYS_INLINE void free_hot(void* p) {
  ThreadCache* tc = cache_in_seat();
  uint64_t low;
  if (unlikely(!find_tag_low(p, low))) return free_slow(p);
  const uint64_t slot = low % kTagSlots, mismatch = low ^ tc->key;
  if (unlikely(static_cast<uint16_t>(mismatch) > tc->accepts[slot])) return free_remote(p, mismatch, tc);
  count_kept(mismatch);
  set_link(p, tc->head[slot]);
  in_this_order();  // others may follow the list: hz3/sleepers.hpp
  tc->head[slot] = p;
  published(tc);
  if (unlikely(subtract_below_zero<kRoomUnit + kRoomLeak>(tc->room[slot]))) return bin_event_slow(p, slot, tc);
}

}  // namespace hz3
