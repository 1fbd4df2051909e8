// Where spans come from, and where they wait when they are freed.
//
// A span is a range of pages in segments that hold nothing but spans of one shard; several may share a segment. Free pages in
// memory between them wait, as extents, for the next span that fits: one takes the place with the most of its pages in memory,
// and the rest of an extent stays one. Free pages that are not in memory are not listed. They join an extent again when a
// neighbour is freed, and a segment of nothing else goes back to the arena. How many may wait: hz3/span_bounds.hpp.
//
// Owner: each shard's segments and extents are guarded by its lock, so that no call takes a process-wide lock in the usual
// case; no system call is done while it is held. Pages that the kernel or the arena is asked about in between are marked as
// used, so that nobody takes them, or joins what is freed beside them to them.
#pragma once

#include "hz3/span_bounds.hpp"
#include "hz3/span_pages.hpp"

namespace hz3::large {

// `pages` adjacent pages for a span, the first at a multiple of `alignment` pages, a segment at most, out of free ones in
// memory. A range of no pages when there are none that would do. `zero` tells whether all of them are zero.
Range take_cached_span(unsigned shard, size_t pages, size_t alignment, bool* zero);
// The same at the start of new segments, the first at a multiple of `alignment` segments. A range of no pages without memory.
Range take_fresh_span(unsigned shard, size_t pages, uint32_t alignment, bool* zero);
// Gives pages back that wait above what may, after more are in use.
void bound_cached_spans(unsigned shard);
// Takes pages back that are not in use any more and may be in memory: they wait, or go back to the kernel.
void give_span(unsigned shard, const Range& range);
// The same for pages whose memory is somewhere else now.
void give_clean_span(unsigned shard, const Range& range);
// Adds `more` pages behind a span to it. False when they are in use.
bool extend_span(unsigned shard, const Range& span, size_t more);

}  // namespace hz3::large
