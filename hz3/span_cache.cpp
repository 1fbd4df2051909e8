// See hz3/span_cache.hpp.
#include "hz3/span_cache.hpp"

#include "hz3/large.hpp"
#include "hz3/message.hpp"
#include "hz3/settings.hpp"

#include <utility>

namespace hz3::large {
namespace {

constexpr unsigned kExtents = 128;        // per shard
constexpr size_t kMostReserves = 8;       // as many times the reserve the limit may grow to
constexpr size_t kWaitPart = 24;          // of what is in use may wait beyond the peak
constexpr unsigned kPeakFade = 128;       // part of the peak that is forgotten at a tick
constexpr unsigned kPlacesTried = 8;      // in an extent
constexpr unsigned kExtensionsTried = 2;  // extents for which the arena is asked whether their neighbours are free
constexpr size_t kPurgeAhead = 64;        // pages that are purged beyond what has to be, so that not each free is a system call

// relaxed, no pairs, all of these: bounds that may be overshot by what is in flight; the pages are behind their cache's lock.
constinit std::atomic<size_t> cached_pages{0};
constinit std::atomic<size_t> segment_pages{0};              // of the segments that hold spans
constinit std::atomic<size_t> used_pages{0}, peak_pages{0};  // of spans in use, now and of late
constinit std::atomic<size_t> grown{0};                      // pages by which the limit exceeds the reserve
constinit std::atomic<bool> refused{false};                  // pages, since a span was last asked for in vain
constinit std::atomic<bool> taken{false};                    // a span, since the last tick

// The pages that may wait.
size_t limit() {
  if (settings::decay_ms() == 0) return 0;
  return settings::reserve_pages() + grown.load(std::memory_order_relaxed);
}
size_t allowed() {
  if (PageHeap::above_soft_limit()) return 0;
  const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
  const size_t more = used / kWaitPart + settings::reserve_pages() / 32;
  const size_t below_peak = (peak > used ? peak - used : 0) + more;
  return below_peak < limit() ? below_peak : limit();
}

// Pages are not in memory that are asked for: if some were refused, more may wait from now on.
void note_missing() {
  if (!refused.load(std::memory_order_relaxed) || !refused.exchange(false, std::memory_order_relaxed)) return;
  const size_t most = (kMostReserves - 1) * settings::reserve_pages(), now = grown.load(std::memory_order_relaxed);
  grown.store(now + limit() < most ? now + limit() : most, std::memory_order_relaxed);
}

void count_cached(ptrdiff_t pages) {
  cached_pages.fetch_add(static_cast<size_t>(pages), std::memory_order_relaxed);
  PageHeap::note_spans(pages);
}

uint32_t segments_for(size_t pages) { return static_cast<uint32_t>((pages + kSegmentPages - 1) / kSegmentPages); }

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

void set_used(const Range& range, bool used) {
  each_segment(range, [used](Segment& s, unsigned first, unsigned n) { used ? s.used.set(first, n) : s.used.clear(first, n); });
}
size_t count_dirty(const Range& range) {
  size_t sum = 0;
  each_segment(range, [&](const Segment& s, unsigned first, unsigned n) { sum += s.dirty.count(first, n); });
  return sum;
}
// Of pages that a span has from now on. Whether they were zero.
bool start_use(const Range& range) {
  bool zero = true;
  each_segment(range, [&](Segment& s, unsigned first, unsigned n) {
    zero = zero && s.touched.count(first, n) == 0;
    s.used.set(first, n);
    s.touched.set(first, n);
    s.dirty.clear(first, n);
    s.aging.clear(first, n);
  });
  return zero;
}

// The pages that are dirty now are those that the next visit purges.
void mark_aging(const Range& range) {
  each_segment(range, [](Segment& s, unsigned first, unsigned n) {
    s.aging.clear(first, n);
    for (unsigned at = s.dirty.next_set(first); at < first + n;) {
      const unsigned end = s.dirty.next_clear(at);
      s.aging.set(at, (end < first + n ? end : first + n) - at);
      at = s.dirty.next_set(end);
    }
  });
}
size_t count_aged(const Range& range) {
  size_t sum = 0;
  each_segment(range, [&](const Segment& s, unsigned first, unsigned n) { sum += s.aging.count(first, n); });
  return sum;
}
// The first stretch of set bits from page `from` on, as far as it goes within a segment.
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
  Extent* oldest();
  void release_whole(const Range& range, Rest& rest);
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
  segment_pages.fetch_add(segments.pages, std::memory_order_relaxed);
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
  count_cached(-static_cast<ptrdiff_t>(e.dirty));
  e = extent_[--extents_];
  return extent;
}

Extent SpanCache::set_aside(Extent& e) {
  set_used(e.range, true);
  return remove(e);
}

// Segments without a page in use or in memory go back to the arena.
void SpanCache::release_whole(const Range& range, Rest& rest) {
  const size_t first = round_up(range.first, kSegmentPages), end = range.end() / kSegmentPages * kSegmentPages;
  if (first >= end) return;
  const Range whole{range.arena, first, end - first};
  each_segment(whole, [](Segment& s, unsigned, unsigned) { s.set_span_owner(0); });
  segment_pages.fetch_sub(whole.pages, std::memory_order_relaxed);
  rest.released_[rest.released_[0].pages != 0] = whole;
}

// Free pages whose neighbours are in use: an extent, if any of them is in memory.
void SpanCache::insert(const Extent& e, Rest& rest) {
  if (e.dirty == 0) return release_whole(e.range, rest);
  if (extents_ == kExtents) {
    Extent* least = extent_;
    for (Extent& other : extent_)
      if (other.dirty < least->dirty) least = &other;
    rest.evicted_ = set_aside(*least);
  }
  extent_[extents_++] = e;
  count_cached(static_cast<ptrdiff_t>(e.dirty));
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

SpanCache::Rest::~Rest() {
  for (const Range& r : released_)
    if (r.pages != 0) arenas.release(r.arena->segment(r.first), segments_for(r.pages));
  if (evicted_.dirty == 0) return;
  cache_.purge(evicted_, 0);
  Rest rest(cache_);
  LockGuard guard(cache_.lock);
  cache_.put_back(evicted_, rest);
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
    const bool extended = arenas.extend(e.range.arena->segment(e.range.end() - 1), more, ArenaSet::Behind::Freed);
    Rest rest(*this);
    LockGuard guard(lock);
    if (extended) {
      note_missing();
      const Range span{e.range.arena, e.range.first, pages};
      *zero = use_new(Range{e.range.arena, e.range.end(), size_t{more} * kSegmentPages}, span, rest);
      return span;
    }
    put_back(e, rest);
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
  const bool extended = arenas.extend(arena->segment(end - 1), segments, ArenaSet::Behind::FreedOrFresh);
  Rest rest(*this);
  LockGuard guard(lock);
  if (!extended) {
    if (behind.range.pages != 0) put_back(behind, rest);
    return false;
  }
  use_new(Range{arena, end, size_t{segments} * kSegmentPages}, Range{arena, span.end(), more}, rest);
  return true;
}

// --- what goes back --------------------------------------------------------------------------------------------------------

// Gives the pages of an extent that is set aside back to the kernel, without the lock while that is at it: all but the first
// `keep` that are in memory, and by one call, also where some of them are not: of a huge page the kernel may have brought in
// more than was asked for. Whole segments among them go back to the arena, so that none is purged again with the rest.
void SpanCache::purge(Extent& e, size_t keep) {
  size_t from = e.range.first;
  {
    LockGuard guard(lock);
    while (keep != 0) {
      const Segment& s = *e.range.arena->segment(from);
      const size_t base = from - from % kSegmentPages;
      const unsigned at = s.dirty.next_set(from % kSegmentPages), end = s.dirty.next_clear(at);
      const size_t kept = keep < end - at ? keep : end - at;
      keep -= kept;
      from = base + at + kept;
    }
  }
  from -= from % kernel_pages(1);
  const Range purged{e.range.arena, from, e.range.end() - from};
  purge_stretch(e, purged);
  if (e.dirty == 0) return;  // it goes back as a whole
  Rest rest(*this);
  LockGuard guard(lock);
  release_whole(purged, rest);
  if (rest.released_[0].pages == 0) return;
  set_used(Range{purged.arena, rest.released_[0].first, purged.end() - rest.released_[0].first}, false);
  e.range.pages = rest.released_[0].first - e.range.first;
}

void SpanCache::purge_stretch(Extent& e, const Range& stretch) {
  {
    LockGuard guard(lock);
    e.dirty -= count_dirty(stretch);
    each_segment(stretch, [](Segment& s, unsigned first, unsigned n) {
      s.dirty.clear(first, n);
      s.aging.clear(first, n);
    });
  }
  if constexpr (kDebugChecks)
    if (!locks_held.none()) invariant_failed("I23", "a lock is held while the kernel purges");
  if (!os::calls.advise(stretch.start(), stretch.pages << kPageShift, os::Advice::DontNeed)) return;
  LockGuard guard(lock);
  each_segment(stretch, [](Segment& s, unsigned first, unsigned n) { s.touched.clear(first, n); });
}

// Those pages of an extent that is set aside which the last visit saw already.
void SpanCache::purge_aged(Extent& e) {
  for (size_t from = e.range.first;;) {
    Range stretch{e.range.arena, from, 0};
    {
      LockGuard guard(lock);
      if (from == e.range.first && count_aged(e.range) == e.dirty) break;
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
      const size_t waits = cached_pages.load(std::memory_order_relaxed), most = allowed();
      if (waits <= most) return;
      over = waits - most;
      if (waits > limit()) refused.store(true, std::memory_order_relaxed);
      LockGuard guard(lock);
      Extent* first = oldest();
      if (first == nullptr) return;
      e = set_aside(*first);
    }
    over += kPurgeAhead;
    purge(e, e.dirty > over ? e.dirty - over : 0);
    Rest rest(*this);
    LockGuard guard(lock);
    put_back(e, rest);
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
        found = count_aged(next.range) != 0;
        if (found) {
          e = set_aside(next);
        } else {
          mark_aging(next.range);
        }
      }
    }
    if (!found) return;
    purge_aged(e);
    Rest rest(*this);
    LockGuard guard(lock);
    put_back(e, rest);
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
    Rest rest(*this);
    LockGuard guard(lock);
    put_back(e, rest);
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
size_t cached_span_bytes() { return cached_pages.load(std::memory_order_relaxed) << kPageShift; }
size_t free_span_bytes() {
  const size_t all = segment_pages.load(std::memory_order_relaxed), used = used_pages.load(std::memory_order_relaxed);
  return all > used ? (all - used) << kPageShift : 0;
}
void check_spans() {
  for (SpanCache& cache : caches) cache.check();
}

void recount_pages(size_t pages) {
  PageHeap::note_spans(static_cast<ptrdiff_t>(pages));
  used_pages.fetch_add(pages, std::memory_order_relaxed);
}

bool count_pages(size_t pages) {
  recount_pages(pages);
  if (unlikely(PageHeap::above_hard_limit())) {
    uncount_pages(pages);
    return false;
  }
  const size_t used = used_pages.load(std::memory_order_relaxed);
  if (used > peak_pages.load(std::memory_order_relaxed)) peak_pages.store(used, std::memory_order_relaxed);
  return true;
}

void uncount_pages(size_t pages) {
  PageHeap::note_spans(-static_cast<ptrdiff_t>(pages));
  used_pages.fetch_sub(pages, std::memory_order_relaxed);
}

Range take_cached_span(unsigned shard, size_t pages, size_t alignment, bool* zero) {
  Range span{};
  if (cached_pages.load(std::memory_order_relaxed) != 0) {
    span = caches[shard].take(pages, alignment, zero);
    if (span.pages == 0 && alignment == 1) span = caches[shard].take_extended(pages, zero);
  }
  if (span.pages != 0) {
    taken.store(true, std::memory_order_relaxed);
  } else {
    note_missing();
  }
  return span;
}
Range take_fresh_span(unsigned shard, size_t pages, uint32_t alignment, bool* zero) {
  return caches[shard].take_fresh(pages, alignment, zero);
}
void bound_cached_spans(unsigned shard) {
  if (cached_pages.load(std::memory_order_relaxed) != 0) caches[shard].keep_within_bounds();
}

void give_span(unsigned shard, const Range& range) { caches[shard].give(range, true); }
void give_clean_span(unsigned shard, const Range& range) { caches[shard].give(range, false); }
bool extend_span(unsigned shard, const Range& span, size_t more) { return caches[shard].grow(span, more); }

// A tick comes by with `everything` false.
void purge_spans(uint64_t now_ms, bool everything) {
  if (!everything) {
    const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
    peak_pages.store(peak - peak / kPeakFade > used ? peak - peak / kPeakFade : used, std::memory_order_relaxed);
    if (!taken.exchange(false, std::memory_order_relaxed))
      grown.store(grown.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  }
  if (cached_pages.load(std::memory_order_relaxed) == 0) return;
  const uint64_t decay = settings::decay_ms();
  if (!everything && decay == settings::kNever) return;
  for (SpanCache& cache : caches) everything ? cache.purge_everything() : cache.sweep(now_ms, decay);
}

}  // namespace hz3::large
