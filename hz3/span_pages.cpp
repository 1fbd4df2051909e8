// See hz3/span_pages.hpp.
#include "hz3/span_pages.hpp"

namespace hz3::large {

void set_used(const Range& range, bool used) {
  each_segment(range, [used](Segment& s, unsigned first, unsigned n) { used ? s.used.set(first, n) : s.used.clear(first, n); });
}

bool start_use(const Range& range) {
  bool zero = true;
  each_segment(range, [&](Segment& s, unsigned first, unsigned n) {
    zero = zero && s.touched.count(first, n) == 0;
    s.used.set(first, n);
    s.touched.set(first, n);
  });
  forget_dirty(range);
  return zero;
}

void mark_aging(const Range& range) {
  each_segment(range, [](Segment& s, unsigned first, unsigned n) { s.aging.clear(first, n); });
  Range stretch{};
  for (size_t at = range.first; next_stretch(range, at, &Segment::dirty, &stretch); at = stretch.end())
    range.arena->segment(stretch.first)->aging.set(stretch.first % kSegmentPages, static_cast<unsigned>(stretch.pages));
}

void forget_dirty(const Range& range) {
  each_segment(range, [](Segment& s, unsigned first, unsigned n) {
    s.dirty.clear(first, n);
    s.aging.clear(first, n);
  });
}

size_t count_dirty(const Range& range) {
  size_t sum = 0;
  each_segment(range, [&](const Segment& s, unsigned first, unsigned n) { sum += s.dirty.count(first, n); });
  return sum;
}

size_t count_aging(const Range& range) {
  size_t sum = 0;
  each_segment(range, [&](const Segment& s, unsigned first, unsigned n) { sum += s.aging.count(first, n); });
  return sum;
}

bool next_stretch(const Range& range, size_t from, PageBits Segment::*bits, Range* stretch) {
  while (from < range.end()) {
    const PageBits& of = range.arena->segment(from)->*bits;
    const size_t base = from - from % kSegmentPages;
    const unsigned at = of.next_set(from % kSegmentPages);
    if (at != kSegmentPages && base + at < range.end()) {
      const size_t end = base + of.next_clear(at);
      *stretch = Range{range.arena, base + at, (end < range.end() ? end : range.end()) - base - at};
      return true;
    }
    from = base + kSegmentPages;
  }
  return false;
}

}  // namespace hz3::large
