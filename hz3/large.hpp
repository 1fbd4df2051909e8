// Large blocks: above the tiers. Up to kSpanMinBytes they are page runs in segments, and the smaller of them blocks of bins
// (hz3/large_classes.hpp), of which there is only what is special here; above, spans: page ranges in
// segments of their own (hz3/span_cache.hpp), moved by the kernel when they grow. Their size is a multiple of the page.
//
// Owner of a large block's Run: whoever holds the block. Freed spans wait a short while in the cache of hz3/span_cache.hpp.
#pragma once

#include "hz3/page_heap.hpp"

namespace hz3::large {

// A block of at least `bytes` (not 0, at most PTRDIFF_MAX) aligned to `alignment`, a power of two. `zero` tells whether its
// content is zero. nullptr without memory.
void* allocate(unsigned shard, size_t bytes, size_t alignment, bool* zero);
// Frees the block at `p`, whose tag is `tag`. Any thread.
void free(void* p, Tag tag);
// Bytes that the block at `p` holds.
size_t usable(const void* p);
// Makes the block hold at least `bytes` in place, giving back what a shrink leaves over. False when it would have to move.
bool resize_in_place(void* p, size_t bytes);
// The same for a block of a bin of this tier.
bool resize_binned_in_place(void* p, size_t bytes);
// Moves the block to a new place of at least `bytes` by moving its pages instead of copying. nullptr when that cannot be
// done; the block is then as before.
void* move(unsigned shard, void* p, size_t bytes);

// Gives cached spans back that waited for the decay time, or all.
void purge_spans(uint64_t now_ms, bool everything);
// Free pages between spans that are in memory; and all of them. Bytes, a moment old where other threads are at work.
size_t cached_span_bytes();
size_t free_span_bytes();
Mutex& span_mutex(unsigned shard);
// Checks that the extents of free pages between spans are what they tell (debug builds and tests).
void check_spans();

}  // namespace hz3::large
