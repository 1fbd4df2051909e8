// Ranges of pages that reach over segments, and the bits of their pages. See hz3/span_cache.hpp, whose lock guards those.
#pragma once

#include "hz3/page_heap.hpp"

namespace hz3::large {

// Pages of an arena's span segments, by their number in the arena.
struct Range {
  Arena* arena;
  size_t first;
  size_t pages;

  size_t end() const { return first + pages; }
  char* start() const { return arena->page_start(first); }
};

// Rounded up to whole pages of the kernel's, of which spans are made.
inline size_t kernel_pages(size_t pages) {
  const size_t page = os::page_size() >> kPageShift;
  return page > 1 ? round_up(pages, page) : pages;
}

inline uint32_t segments_for(size_t pages) { return static_cast<uint32_t>((pages + kSegmentPages - 1) / kSegmentPages); }

// f(segment, first page in it, pages) for each segment that a range has part of.
template <typename F>
void each_segment(const Range& range, F f) {
  for (size_t at = range.first; at != range.end();) {
    const unsigned first = at % kSegmentPages;
    const size_t left = range.end() - at;
    const unsigned n = left < kSegmentPages - first ? static_cast<unsigned>(left) : kSegmentPages - first;
    f(*range.arena->segment(at), first, n);
    at += n;
  }
}

void set_used(const Range& range, bool used);
// Pages that a span has from now on: used, touched, and neither dirty nor aging. Whether they were zero.
bool start_use(const Range& range);
// The pages that are dirty now become those that are aging.
void mark_aging(const Range& range);
// They are not in memory from now on, or about not to be.
void forget_dirty(const Range& range);
size_t count_dirty(const Range& range);
size_t count_aging(const Range& range);
// The first stretch of set bits from page `from` on, as far as it goes within a segment. False when there is none.
bool next_stretch(const Range& range, size_t from, PageBits Segment::*bits, Range* stretch);

}  // namespace hz3::large
