// See hz3/span_cache.hpp.
#include "hz3/span_cache.hpp"

#include "hz3/large.hpp"
#include "hz3/settings.hpp"

namespace hz3::large {
namespace {

constexpr unsigned kCachedSpans = 32;     // per shard
constexpr size_t kMostReserves = 8;       // as many times the reserve the limit may grow to
constexpr unsigned kTailPart = 64;        // of a block's bytes may be in memory beyond it
constexpr unsigned kPeakFade = 128;       // part of the peak that is forgotten at a tick
constexpr unsigned kExtensionsTried = 2;  // spans for which the arena is asked whether their neighbours are free

struct CachedSpan {
  Segment* first;
  uint32_t count;   // segments
  size_t resident;  // bytes from the start that may be in memory
  uint64_t since_ms;
};

struct alignas(kCacheLine) SpanCache {
  Mutex lock;
  CachedSpan entry[kCachedSpans] = {};
};
constinit SpanCache caches[kShards];

// relaxed, no pairs, all of these: bounds that may be overshot by what is in flight; the spans are behind their cache's lock.
constinit std::atomic<size_t> cached_bytes{0};
constinit std::atomic<size_t> used_pages{0}, peak_pages{0};  // of spans in use, now and of late
constinit std::atomic<size_t> grown{0};                      // bytes by which the limit exceeds the reserve
constinit std::atomic<bool> refused{false};                  // a span, since one was last asked for in vain
constinit std::atomic<bool> taken{false};                    // a span, since the last tick

size_t reserve_bytes() { return settings::reserve_pages() << kPageShift; }

// The bytes that may wait.
size_t limit() {
  if (settings::decay_ms() == 0) return 0;
  return reserve_bytes() + grown.load(std::memory_order_relaxed);
}
size_t allowed() {
  const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
  const size_t below_peak = ((peak > used ? peak - used : 0) << kPageShift) + reserve_bytes() / 32;
  return below_peak < limit() ? below_peak : limit();
}

void count(const CachedSpan& e) {
  cached_bytes.fetch_add(e.resident, std::memory_order_relaxed);
  PageHeap::note_spans(static_cast<ptrdiff_t>(e.resident >> kPageShift));
}
void uncount(const CachedSpan& e) {
  cached_bytes.fetch_sub(e.resident, std::memory_order_relaxed);
  PageHeap::note_spans(-static_cast<ptrdiff_t>(e.resident >> kPageShift));
}

CachedSpan remove(CachedSpan& e) {
  const CachedSpan span = e;
  uncount(e);
  e.first = nullptr;
  return span;
}

CachedSpan* oldest(SpanCache& cache) {
  CachedSpan* found = nullptr;
  for (CachedSpan& e : cache.entry)
    if (e.first != nullptr && (found == nullptr || e.since_ms < found->since_ms)) found = &e;
  return found;
}

// Spans that have to go, once the lock is released.
struct Evicted {
  CachedSpan span[kCachedSpans + 1];
  unsigned n = 0;
  ~Evicted() {
    for (unsigned i = 0; i < n; i++) release_span(span[i].first, span[i].count);
  }
};

// With the lock held: the oldest go until what waits is within bounds.
void evict(SpanCache& cache, Evicted& evicted) {
  while (cached_bytes.load(std::memory_order_relaxed) > allowed()) {
    CachedSpan* e = oldest(cache);
    if (e == nullptr) return;
    if (cached_bytes.load(std::memory_order_relaxed) > limit()) refused.store(true, std::memory_order_relaxed);
    evicted.span[evicted.n++] = remove(*e);
  }
}

void insert(SpanCache& cache, const CachedSpan& span, Evicted& evicted) {
  CachedSpan* place = nullptr;
  for (CachedSpan& e : cache.entry)
    if (e.first == nullptr) place = &e;
  if (place == nullptr) {
    place = oldest(cache);
    evicted.span[evicted.n++] = remove(*place);
  }
  *place = span;
  count(span);
}

size_t distance(size_t a, size_t b) { return a < b ? b - a : a - b; }

// The span of as many segments that is in memory nearly as far as is asked for; else the shortest that is longer.
CachedSpan* best(SpanCache& cache, uint32_t segments, size_t bytes) {
  CachedSpan* found = nullptr;
  for (CachedSpan& e : cache.entry) {
    if (e.first == nullptr || e.count < segments) continue;
    if (found == nullptr || e.count < found->count ||
        (e.count == found->count && distance(e.resident, bytes) < distance(found->resident, bytes)))
      found = &e;
  }
  return found;
}

CachedSpan* starting_at(SpanCache& cache, const Segment* first) {
  for (CachedSpan& e : cache.entry)
    if (e.first == first) return &e;
  return nullptr;
}

// Neighbours that together are long enough, as one; first == nullptr when there are none.
CachedSpan joined(SpanCache& cache, uint32_t segments) {
  for (CachedSpan& start : cache.entry) {
    if (start.first == nullptr) continue;
    uint32_t length = start.count;
    while (length < segments) {
      const CachedSpan* next = starting_at(cache, start.first + length);
      if (next == nullptr) break;
      length += next->count;
    }
    if (length < segments) continue;
    CachedSpan span = remove(start);
    while (span.count < segments) {
      const CachedSpan more = remove(*starting_at(cache, span.first + span.count));
      if (more.resident != 0) span.resident = (size_t{span.count} << kSegmentShift) + more.resident;
      if (more.since_ms < span.since_ms) span.since_ms = more.since_ms;
      span.count += more.count;
    }
    return span;
  }
  return CachedSpan{};
}

// A span that is long enough, which leaves the cache but for what is too much of it.
CachedSpan take(SpanCache& cache, uint32_t segments, size_t bytes, Evicted& evicted) {
  CachedSpan* e = best(cache, segments, bytes);
  CachedSpan span = e != nullptr ? remove(*e) : joined(cache, segments);
  if (span.first == nullptr || span.count == segments) return span;
  const size_t front = size_t{segments} << kSegmentShift;
  insert(cache,
         {span.first + segments, span.count - segments, span.resident > front ? span.resident - front : 0, span.since_ms},
         evicted);
  span.count = segments;
  if (span.resident > front) span.resident = front;
  return span;
}

// The most of those that are too short, if the segments behind it are free.
CachedSpan extended(SpanCache& cache, uint32_t segments) {
  Segment* tried = nullptr;
  for (unsigned i = 0; i < kExtensionsTried; i++) {
    CachedSpan span{};
    {
      LockGuard guard(cache.lock);
      CachedSpan* found = nullptr;
      for (CachedSpan& e : cache.entry)
        if (e.first != nullptr && e.first != tried && e.count < segments && (found == nullptr || e.resident > found->resident))
          found = &e;
      if (found == nullptr) return CachedSpan{};
      span = remove(*found);
    }
    if (arenas.extend(span.first, span.count, segments - span.count)) {
      span.count = segments;
      return span;
    }
    tried = span.first;
    Evicted evicted;
    LockGuard guard(cache.lock);
    insert(cache, span, evicted);
  }
  return CachedSpan{};
}

}  // namespace

Mutex& span_mutex(unsigned shard) { return caches[shard].lock; }
size_t cached_span_bytes() { return cached_bytes.load(std::memory_order_relaxed); }

void set_touched(Segment* first, uint32_t count, bool touched) {
  for (uint32_t i = 0; i < count; i++)
    for (unsigned w = 0; w < PageBits::kWords; w++) first[i].touched.word(w) = touched ? ~uint64_t{0} : 0;
}

void release_span(Segment* first, uint32_t count) {
  const size_t bytes = size_t{count} << kSegmentShift;
  if (os::calls.advise(first->start(), bytes, os::Advice::DontNeed)) set_touched(first, count, false);
  first->span = 0;
  arenas.release(first, count);
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

Segment* take_cached(unsigned shard, uint32_t count, size_t bytes) {
  if (cached_span_bytes() == 0 && !refused.load(std::memory_order_relaxed)) return nullptr;
  SpanCache& cache = caches[shard];
  CachedSpan span{};
  {
    Evicted evicted;
    LockGuard guard(cache.lock);
    span = take(cache, count, bytes, evicted);
  }
  if (span.first == nullptr) span = extended(cache, count);
  if (span.first == nullptr) {
    if (refused.exchange(false, std::memory_order_relaxed)) {
      const size_t most = (kMostReserves - 1) * reserve_bytes(), now = grown.load(std::memory_order_relaxed);
      grown.store(now + limit() < most ? now + limit() : most, std::memory_order_relaxed);
    }
    // What is in use grows, and what may wait shrinks by that.
    Evicted evicted;
    LockGuard guard(cache.lock);
    evict(cache, evicted);
    return nullptr;
  }
  taken.store(true, std::memory_order_relaxed);
  const size_t keep = round_up(bytes, os::page_size());
  if (span.resident > keep + bytes / kTailPart)
    os::calls.advise(span.first->start() + keep, span.resident - keep, os::Advice::DontNeed);
  return span.first;
}

void give_span(unsigned shard, Segment* first, uint32_t count, size_t resident) {
  first->span = 0;
  const bool fits = resident <= limit();
  if (!fits) refused.store(true, std::memory_order_relaxed);
  if (!fits || resident > allowed() || PageHeap::above_soft_limit()) return release_span(first, count);
  SpanCache& cache = caches[shard];
  Evicted evicted;
  LockGuard guard(cache.lock);
  insert(cache, {first, count, resident, os::now_ms()}, evicted);
  evict(cache, evicted);
}

// A tick comes by with `everything` false.
void purge_spans(uint64_t now_ms, bool everything) {
  if (!everything) {
    const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
    peak_pages.store(peak - peak / kPeakFade > used ? peak - peak / kPeakFade : used, std::memory_order_relaxed);
    if (!taken.exchange(false, std::memory_order_relaxed))
      grown.store(grown.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  }
  if (cached_span_bytes() == 0) return;
  const uint64_t decay = settings::decay_ms();
  for (SpanCache& cache : caches) {
    Evicted evicted;
    LockGuard guard(cache.lock);
    for (CachedSpan& e : cache.entry)
      if (e.first != nullptr && (everything || now_ms - e.since_ms >= decay)) evicted.span[evicted.n++] = remove(e);
  }
}

}  // namespace hz3::large
