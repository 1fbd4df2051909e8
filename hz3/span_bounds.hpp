// How many pages of spans are in use, how many wait in memory, and how many may.
//
// A page that is freed stays in memory for the decay time at most: repeated allocations of many MiB would else fault every page
// in anew. How much may wait is bounded in three ways. In all it is the reserve of free pages, once more; that doubles, up to
// eight times, when a span is asked for after pages were refused, and falls back at ticks between which nothing was taken. And
// the cache hardly adds to the peak of the program: what is in use and what waits are together no more than what was in use of
// late, and a part of what is in use now.
//
// Owner: nobody; any thread. The pages themselves are behind the locks of their caches.
#pragma once

#include <cstddef>

namespace hz3::large {

// Counts pages of spans in use. False, and nothing is counted, when they would exceed the hard limit.
bool count_pages(size_t pages);
void uncount_pages(size_t pages);
// Counts those again that were uncounted for a moment.
void recount_pages(size_t pages);
// Counts pages of the segments that hold spans, and of those free ones in memory that wait.
void count_segment_pages(ptrdiff_t pages);
void count_waiting(ptrdiff_t pages);

size_t waiting_pages();
// How many wait above what may. If they are refused for the first bound, one that is missing later raises that.
size_t pages_over_bounds();
// A span was asked for some of whose pages are not in memory, or was taken from those that are.
void note_missing();
void note_taken();
// A tick comes by: what was in use of late fades, and so does a bound that was raised and of no use.
void relax_bounds();

}  // namespace hz3::large
