// The cache of freed spans, and what spans count for in the limits of the heap.
//
// A span that is freed stays in memory for the decay time at most: repeated allocations of many MiB would else fault every page
// in anew. How much may wait is bounded in three ways. In all it is the reserve of free pages, once more; that doubles, up to
// eight times, when a span is asked for after one was refused, and falls back at ticks between which nothing was taken. And the
// cache does not add to the peak of the program: what is in use and what waits are together no more than what was in use of
// late, and a 32nd of the reserve.
//
// Owner: a cache per shard, guarded by its lock, so that no call takes a process-wide lock in the usual case; no system call is
// done while it is held. A span in it is nobody's: its segments are not tagged.
#pragma once

#include "hz3/page_heap.hpp"

namespace hz3::large {

// A span of exactly `count` segments for a block of `bytes`: one that waits and is in memory as far as possible, part of a
// larger one, several that are neighbours, or one that is made longer. What is in memory beyond `bytes`, and more than a
// little, is given back. nullptr when there is none.
Segment* take_cached(unsigned shard, uint32_t count, size_t bytes);
// Takes a span that is not in use any more, of which the first `resident` bytes may be in memory: it waits, or goes back.
void give_span(unsigned shard, Segment* first, uint32_t count, size_t resident);
// Gives a span's memory to the kernel and its segments to the arena.
void release_span(Segment* first, uint32_t count);
// Marks all pages of a span as possibly not zero, or as zero.
void set_touched(Segment* first, uint32_t count, bool touched);

// Counts pages of spans in use. False, and nothing is counted, when they would exceed the hard limit.
bool count_pages(size_t pages);
void uncount_pages(size_t pages);
// Counts those again that were uncounted for a moment.
void recount_pages(size_t pages);

}  // namespace hz3::large
