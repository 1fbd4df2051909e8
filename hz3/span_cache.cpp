// See hz3/span_cache.hpp.
#include "hz3/span_cache.hpp"

#include "hz3/large.hpp"
#include "hz3/message.hpp"
#include "hz3/settings.hpp"

namespace hz3::large {
namespace {

constexpr unsigned kExtents = 128;        // per shard
constexpr unsigned kPlacesTried = 8;      // in an extent
constexpr unsigned kExtensionsTried = 2;  // extents for which the arena is asked whether their neighbours are free
constexpr size_t kPurgeAhead = 64;        // pages that are purged beyond what has to be, so that not each free is a system call

// Free pages between spans, as many as there are, some of which are in memory.
struct Extent {
  Range range;
  size_t dirty;       // pages in memory
  uint64_t since_ms;  // when pages of it were last freed
  uint64_t swept_ms;  // when its pages were last looked at for their age; 0: not yet
};

class SpanCache {
 public:
  // What is left to do when the lock is released.
  class Rest {
   public:
    explicit Rest(SpanCache& cache) : cache_(cache) {}
    ~Rest();
    Rest(const Rest&) = delete;
    Rest& operator=(const Rest&) = delete;

   private:
    friend class SpanCache;
    SpanCache& cache_;
    Range released_[2] = {};  // whole segments for the arena
    Extent evicted_{};
  };

  // These lock for themselves.
  Range take(size_t pages, size_t alignment, bool* zero);
  Range take_extended(size_t pages, bool* zero);
  Range take_fresh(size_t pages, uint32_t alignment, bool* zero);
  Range take_unlisted(size_t pages, size_t alignment, bool* zero);
  void give(const Range& range, bool resident);
  bool grow(const Range& span, size_t more);
  // Gives pages back until what waits in all caches is within bounds, or nothing does in this one.
  void keep_within_bounds();
  void sweep(uint64_t now_ms, uint64_t decay_ms);
  void purge_everything();
  void check();

  Mutex lock;

 private:
  uint32_t owner() const;
  bool use_new(const Range& segments, const Range& span, Rest& rest);
  size_t free_from(Arena* arena, size_t end) const;
  size_t free_until(Arena* arena, size_t first) const;
  Extent remove(Extent& e);
  Extent set_aside(Extent& e);
  void purge(Extent& e, size_t keep);
  void purge_stretch(Extent& e, const Range& stretch);
  void purge_aged(Extent& e);
  void insert(const Extent& e, Rest& rest);
  void put_back(Extent e, Rest& rest);
  void end_set_aside(const Extent& e);
  Extent* oldest();
  static Range release_whole(const Range& range, Rest& rest);
  static size_t best_place(const Extent& e, size_t pages, size_t alignment, size_t most, size_t* missing);

  unsigned extents_ = 0;
  Extent extent_[kExtents] = {};
};
struct alignas(kCacheLine) PaddedCache : SpanCache {};
constinit PaddedCache caches[kShards];

uint32_t SpanCache::owner() const { return static_cast<uint32_t>(static_cast<const PaddedCache*>(this) - caches) + 1; }

// --- extents, with the lock held ---------------------------------------------------------------------------------------

// Segments from the arena become this shard's, for a span that ends in them. What is left at their end joins an extent behind.
// Whether the pages were zero.
bool SpanCache::use_new(const Range& segments, const Range& span, Rest& rest) {
  each_segment(segments, [this](Segment& s, unsigned, unsigned) { s.set_span_owner(owner()); });
  count_segment_pages(static_cast<ptrdiff_t>(segments.pages));
  const bool zero = start_use(span);
  if (span.end() != segments.end()) put_back(Extent{Range{span.arena, span.end(), segments.end() - span.end()}, 0, 0, 0}, rest);
  return zero;
}

// The first of the free pages that end before `end`.
size_t SpanCache::free_from(Arena* arena, size_t end) const {
  while (end != 0) {
    const Segment& s = *arena->segment(end - 1);
    if (s.span_owner() != owner()) break;
    const unsigned upto = (end - 1) % kSegmentPages + 1, from = s.used.clear_before(upto);
    end -= upto - from;
    if (from != 0) break;
  }
  return end;
}
// The end of the free pages from `first` on.
size_t SpanCache::free_until(Arena* arena, size_t first) const {
  while (first < arena->page_count()) {
    const Segment& s = *arena->segment(first);
    if (s.span_owner() != owner()) break;
    const unsigned from = first % kSegmentPages, end = s.used.next_set(from);
    first += end - from;
    if (end != kSegmentPages) break;
  }
  return first;
}

Extent SpanCache::remove(Extent& e) {
  const Extent extent = e;
  count_waiting(-static_cast<ptrdiff_t>(e.dirty));
  e = extent_[--extents_];
  return extent;
}

Extent SpanCache::set_aside(Extent& e) {
  set_used(e.range, true);
  return remove(e);
}

// Segments without a page in use or in memory go back to the arena. Which.
Range SpanCache::release_whole(const Range& range, Rest& rest) {
  const size_t first = round_up(range.first, kSegmentPages), end = range.end() / kSegmentPages * kSegmentPages;
  if (first >= end) return Range{};
  const Range whole{range.arena, first, end - first};
  each_segment(whole, [](Segment& s, unsigned, unsigned) { s.set_span_owner(0); });
  count_segment_pages(-static_cast<ptrdiff_t>(whole.pages));
  rest.released_[rest.released_[0].pages != 0] = whole;
  return whole;
}

// Free pages whose neighbours are in use: an extent, if any of them is in memory.
void SpanCache::insert(const Extent& e, Rest& rest) {
  if (e.dirty == 0) {
    release_whole(e.range, rest);
    return;
  }
  if (extents_ == kExtents) {
    Extent* least = extent_;
    for (Extent& other : extent_)
      if (other.dirty < least->dirty) least = &other;
    rest.evicted_ = set_aside(*least);
  }
  extent_[extents_++] = e;
  count_waiting(static_cast<ptrdiff_t>(e.dirty));
}

// Pages that were in use, or set aside, of which e.dirty are in memory: with the free ones beside them they are one extent.
void SpanCache::put_back(Extent e, Rest& rest) {
  set_used(e.range, false);
  size_t first = e.range.first, end = e.range.end();
  bool joined_first = false, joined_end = false;
  for (unsigned i = 0; i < extents_;) {
    const Range& other = extent_[i].range;
    const bool before = other.end() == e.range.first, behind = other.first == e.range.end();
    if (other.arena != e.range.arena || (!before && !behind)) {
      i++;
      continue;
    }
    const Extent neighbour = remove(extent_[i]);
    if (before) first = neighbour.range.first, joined_first = true;
    if (behind) end = neighbour.range.end(), joined_end = true;
    e.dirty += neighbour.dirty;
    if (neighbour.since_ms > e.since_ms) e.since_ms = neighbour.since_ms;
    if (neighbour.swept_ms > e.swept_ms) e.swept_ms = neighbour.swept_ms;
  }
  // Free pages beside it that are no extent: none of them is in memory.
  if (!joined_first) first = free_from(e.range.arena, first);
  if (!joined_end) end = free_until(e.range.arena, end);
  e.range.first = first;
  e.range.pages = end - first;
  insert(e, rest);
}

Extent* SpanCache::oldest() {
  Extent* found = nullptr;
  for (unsigned i = 0; i < extents_; i++)
    if (found == nullptr || extent_[i].since_ms < found->since_ms) found = &extent_[i];
  return found;
}

// The same when what was set aside for something done without the lock comes back.
void SpanCache::end_set_aside(const Extent& e) {
  Rest rest(*this);
  LockGuard guard(lock);
  put_back(e, rest);
}

SpanCache::Rest::~Rest() {
  for (const Range& r : released_)
    if (r.pages != 0) arenas.release(r.arena->segment(r.first), segments_for(r.pages));
  if (evicted_.dirty == 0) return;
  cache_.purge(evicted_, 0);
  cache_.end_set_aside(evicted_);
}

// --- spans ---------------------------------------------------------------------------------------------------------------

// The aligned place in an extent for so many pages where the fewest are missing in memory: at its start or end, or where a
// stretch of those in memory begins. More than `most` are missing when there is none.
size_t SpanCache::best_place(const Extent& e, size_t pages, size_t alignment, size_t most, size_t* missing) {
  *missing = most + 1;
  size_t best = e.range.first;
  const size_t last = (e.range.end() - pages) / alignment * alignment;
  const auto look = [&](size_t near) {
    const size_t at = round_up(near, alignment);
    if (at > last) return false;
    const size_t n = e.dirty == e.range.pages ? 0 : pages - count_dirty(Range{e.range.arena, at, pages});
    if (n < *missing) *missing = n, best = at;
    return *missing == 0;
  };
  if (look(e.range.first)) return best;
  Range stretch{};
  size_t from = e.range.first;
  for (unsigned i = 0; i < kPlacesTried && next_stretch(e.range, from, &Segment::dirty, &stretch) && stretch.first < last;
       i++) {
    if (stretch.first != from && look(stretch.first)) return best;
    from = stretch.end();
  }
  if (last >= e.range.first) look(last);
  return best;
}

// Where most of the pages are in memory; in the shortest extent where as many are.
Range SpanCache::take(size_t pages, size_t alignment, bool* zero) {
  Rest rest(*this);
  LockGuard guard(lock);
  Extent* best = nullptr;
  size_t best_at = 0, least_missing = pages;
  for (unsigned i = 0; i < extents_; i++) {
    Extent& e = extent_[i];
    if (e.range.pages < pages) continue;
    const bool longer = best != nullptr && e.range.pages >= best->range.pages;
    if (longer && least_missing == 0) continue;
    const size_t most = longer ? least_missing - 1 : least_missing;
    if (e.dirty < pages && pages - e.dirty > most) continue;
    size_t missing = 0;
    const size_t at = best_place(e, pages, alignment, most, &missing);
    if (missing > most) continue;
    best = &e, best_at = at, least_missing = missing;
  }
  if (best == nullptr) return Range{};
  if (least_missing != 0) note_missing();
  Extent e = remove(*best);
  const size_t end = e.range.end(), dirty = e.dirty - (pages - least_missing);
  const Range span{e.range.arena, best_at, pages};
  *zero = start_use(span);
  e.range.pages = best_at - e.range.first;
  e.dirty = e.range.pages != 0 ? count_dirty(e.range) : 0;
  const size_t dirty_behind = dirty - e.dirty;
  insert(e, rest);
  e.range = Range{span.arena, span.end(), end - span.end()};
  e.dirty = dirty_behind;
  insert(e, rest);
  return span;
}

// An extent that is too short, but has half of the pages in memory, and free segments behind it.
Range SpanCache::take_extended(size_t pages, bool* zero) {
  Extent e{};
  for (unsigned i = 0; i < kExtensionsTried; i++) {
    {
      LockGuard guard(lock);
      Extent* found = nullptr;
      for (unsigned k = 0; k < extents_; k++) {
        Extent& other = extent_[k];
        const bool may_do = other.range.end() % kSegmentPages == 0 && other.range.pages < pages && other.dirty >= pages / 2;
        const bool tried = i != 0 && other.range.arena == e.range.arena && other.range.first == e.range.first;
        if (may_do && !tried && (found == nullptr || other.dirty > found->dirty)) found = &other;
      }
      if (found == nullptr) return Range{};
      e = set_aside(*found);
    }
    const uint32_t more = segments_for(pages - e.range.pages);
    if (arenas.extend(e.range.arena->segment(e.range.end() - 1), more, ArenaSet::Behind::Freed)) {
      note_missing();
      const Range span{e.range.arena, e.range.first, pages};
      Rest rest(*this);
      LockGuard guard(lock);
      *zero = use_new(Range{e.range.arena, e.range.end(), size_t{more} * kSegmentPages}, span, rest);
      return span;
    }
    end_set_aside(e);
  }
  return Range{};
}

Range SpanCache::take_fresh(size_t pages, uint32_t alignment, bool* zero) {
  const uint32_t count = segments_for(pages);
  Segment* first = arenas.allocate(count, alignment);
  if (first == nullptr) return Range{};
  const size_t at = size_t{first->index} * kSegmentPages;
  const Range span{first->arena, at, pages};
  Rest rest(*this);
  LockGuard guard(lock);
  *zero = use_new(Range{first->arena, at, size_t{count} * kSegmentPages}, span, rest);
  return span;
}

// Where new segments are not to be had: free pages that are no extent, as none of them is in memory. Looks at all segments.
Range SpanCache::take_unlisted(size_t pages, size_t alignment, bool* zero) {
  Range span{};
  LockGuard guard(lock);
  arenas.any([&](Arena& arena) {
    for (size_t at = 0, end = arena.page_count(); at < end;) {
      const Segment& s = *arena.segment(at);
      const size_t base = at - at % kSegmentPages;
      const unsigned free = s.span_owner() == owner() ? s.used.next_clear(at % kSegmentPages) : kSegmentPages;
      if (free == kSegmentPages) {
        at = base + kSegmentPages;
        continue;
      }
      const Range found{&arena, base + free, free_until(&arena, base + free) - base - free};
      const size_t first = round_up(found.first, alignment);
      if (first + pages <= found.end() && count_dirty(found) == 0) {
        span = Range{&arena, first, pages};
        *zero = start_use(span);
        return true;
      }
      at = found.end();
    }
    return false;
  });
  return span;
}

void SpanCache::give(const Range& range, bool resident) {
  {
    Rest rest(*this);
    LockGuard guard(lock);
    each_segment(range, [resident](Segment& s, unsigned first, unsigned n) {
      resident ? s.dirty.set(first, n) : s.touched.clear(first, n);
    });
    put_back(Extent{range, resident ? range.pages : 0, os::now_ms(), 0}, rest);
  }
  keep_within_bounds();
}

bool SpanCache::grow(const Range& span, size_t more) {
  Arena* arena = span.arena;
  Extent behind{Range{arena, span.end(), 0}, 0, 0, 0};
  {
    Rest rest(*this);
    LockGuard guard(lock);
    Extent* found = nullptr;
    for (unsigned i = 0; i < extents_; i++)
      if (extent_[i].range.arena == arena && extent_[i].range.first == span.end()) found = &extent_[i];
    const size_t until = found != nullptr ? found->range.end() : free_until(arena, span.end());
    const bool enough = until >= span.end() + more;
    if (!enough && until % kSegmentPages != 0) return false;
    if (found != nullptr) behind = remove(*found);
    if (enough) {
      const Range added{arena, span.end(), more};
      if (behind.dirty != 0) behind.dirty -= count_dirty(added);
      start_use(added);
      behind.range = Range{arena, added.end(), until - added.end()};
      insert(behind, rest);
      return true;
    }
    behind.range.pages = until - span.end();
    set_used(behind.range, true);
  }
  const size_t end = behind.range.end();
  const uint32_t segments = segments_for(span.end() + more - end);
  if (!arenas.extend(arena->segment(end - 1), segments, ArenaSet::Behind::FreedOrFresh)) {
    if (behind.range.pages != 0) end_set_aside(behind);
    return false;
  }
  Rest rest(*this);
  LockGuard guard(lock);
  use_new(Range{arena, end, size_t{segments} * kSegmentPages}, Range{arena, span.end(), more}, rest);
  return true;
}

// --- what goes back --------------------------------------------------------------------------------------------------------

// Gives the pages of an extent that is set aside back to the kernel, without the lock while that is at it: all but the first
// `keep` that are in memory, and by one call, also where some of them are not: of a huge page the kernel may have brought in
// more than was asked for. Whole segments among them go back to the arena, so that none is purged again with the rest.
void SpanCache::purge(Extent& e, size_t keep) {
  size_t from = e.range.first;
  if (keep != 0) {
    LockGuard guard(lock);
    Range stretch{};
    while (keep != 0 && next_stretch(e.range, from, &Segment::dirty, &stretch)) {
      const size_t kept = keep < stretch.pages ? keep : stretch.pages;
      keep -= kept;
      from = stretch.first + kept;
    }
  }
  from -= from % kernel_pages(1);
  const Range purged{e.range.arena, from, e.range.end() - from};
  purge_stretch(e, purged);
  if (e.dirty == 0) return;  // it goes back as a whole
  Rest rest(*this);
  LockGuard guard(lock);
  const Range whole = release_whole(purged, rest);
  if (whole.pages == 0) return;
  set_used(Range{purged.arena, whole.first, purged.end() - whole.first}, false);
  e.range.pages = whole.first - e.range.first;
}

void SpanCache::purge_stretch(Extent& e, const Range& stretch) {
  {
    LockGuard guard(lock);
    e.dirty -= count_dirty(stretch);
    forget_dirty(stretch);
  }
  if (!tell_kernel(stretch.start(), stretch.pages << kPageShift, os::Advice::DontNeed)) return;
  LockGuard guard(lock);
  each_segment(stretch, [](Segment& s, unsigned first, unsigned n) { s.touched.clear(first, n); });
}

// Those pages of an extent that is set aside which the last visit saw already.
void SpanCache::purge_aged(Extent& e) {
  for (size_t from = e.range.first;;) {
    Range stretch{e.range.arena, from, 0};
    {
      LockGuard guard(lock);
      if (from == e.range.first && count_aging(e.range) == e.dirty) break;
      if (!next_stretch(e.range, from, &Segment::aging, &stretch)) return mark_aging(e.range);
    }
    purge_stretch(e, stretch);
    from = stretch.end();
  }
  purge(e, 0);
}

void SpanCache::keep_within_bounds() {
  for (;;) {
    Extent e;
    size_t over = 0;
    {
      over = pages_over_bounds();
      if (over == 0) return;
      LockGuard guard(lock);
      Extent* first = oldest();
      if (first == nullptr) return;
      e = set_aside(*first);
    }
    over += kPurgeAhead;
    purge(e, e.dirty > over ? e.dirty - over : 0);
    end_set_aside(e);
  }
}

// Looks at each extent twice in the decay time, and purges what it saw the last time already.
void SpanCache::sweep(uint64_t now_ms, uint64_t decay_ms) {
  for (;;) {
    Extent e;
    bool found = false;
    {
      LockGuard guard(lock);
      for (unsigned i = 0; i < extents_ && !found; i++) {
        Extent& next = extent_[i];
        if (next.swept_ms != 0 && now_ms - next.swept_ms < decay_ms / 8 * 3) continue;
        next.swept_ms = now_ms;
        found = count_aging(next.range) != 0;
        if (found) {
          e = set_aside(next);
        } else {
          mark_aging(next.range);
        }
      }
    }
    if (!found) return;
    purge_aged(e);
    end_set_aside(e);
  }
}

void SpanCache::purge_everything() {
  for (;;) {
    Extent e;
    {
      LockGuard guard(lock);
      if (extents_ == 0) return;
      e = set_aside(extent_[0]);
    }
    purge(e, 0);
    end_set_aside(e);
  }
}

void SpanCache::check() {
  LockGuard guard(lock);
  for (unsigned i = 0; i < extents_; i++) {
    const Range& r = extent_[i].range;
    if (extent_[i].dirty == 0 || extent_[i].dirty != count_dirty(r))
      invariant_failed("I18", "an extent's pages are miscounted");
    if (free_from(r.arena, r.end()) != r.first || free_until(r.arena, r.first) != r.end())
      invariant_failed("I18", "an extent is not all that is free between two spans");
  }
}

}  // namespace

Mutex& span_mutex(unsigned shard) { return caches[shard].lock; }
void check_spans() {
  for (SpanCache& cache : caches) cache.check();
}

Range take_cached_span(unsigned shard, size_t pages, size_t alignment, bool* zero) {
  Range span{};
  if (waiting_pages() != 0) {
    span = caches[shard].take(pages, alignment, zero);
    if (span.pages == 0 && alignment == 1) span = caches[shard].take_extended(pages, zero);
  }
  if (span.pages != 0) {
    note_taken();
  } else {
    note_missing();
  }
  return span;
}
Range take_fresh_span(unsigned shard, size_t pages, uint32_t alignment, bool* zero) {
  Range span = caches[shard].take_fresh(pages, alignment, zero);
  if (unlikely(span.pages == 0) && alignment == 1) span = caches[shard].take_unlisted(pages, 1, zero);
  return span;
}
void bound_cached_spans(unsigned shard) {
  if (waiting_pages() != 0) caches[shard].keep_within_bounds();
}

void give_span(unsigned shard, const Range& range) { caches[shard].give(range, true); }
void give_clean_span(unsigned shard, const Range& range) { caches[shard].give(range, false); }
bool extend_span(unsigned shard, const Range& span, size_t more) { return caches[shard].grow(span, more); }

// A tick comes by with `everything` false.
void purge_spans(uint64_t now_ms, bool everything) {
  if (!everything) relax_bounds();
  if (waiting_pages() == 0) return;
  const uint64_t decay = settings::decay_ms();
  if (!everything && decay == settings::kNever) return;
  for (SpanCache& cache : caches) everything ? cache.purge_everything() : cache.sweep(now_ms, decay);
}

}  // namespace hz3::large
