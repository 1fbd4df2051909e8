// See hz3/span_bounds.hpp.
#include "hz3/span_bounds.hpp"

#include <atomic>

#include "hz3/large.hpp"
#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"

namespace hz3::large {
namespace {

constexpr size_t kMostReserves = 8;  // as many times the reserve the first bound may grow to
constexpr size_t kWaitPart = 24;     // of what is in use may wait beyond the peak
constexpr unsigned kPeakFade = 128;  // part of the peak that is forgotten at a tick

// relaxed, no pairs, all of these: bounds that may be overshot by what is in flight, and sums for reports.
constinit std::atomic<size_t> waiting{0};
constinit std::atomic<size_t> segment_pages{0};
constinit std::atomic<size_t> used_pages{0}, peak_pages{0};  // now and of late
constinit std::atomic<size_t> grown{0};                      // pages by which the first bound exceeds the reserve
constinit std::atomic<bool> refused{false};                  // pages, since a span was last asked for in vain
constinit std::atomic<bool> taken{false};                    // a span, since the last tick

size_t first_bound() {
  if (settings::decay_ms() == 0) return 0;
  return settings::reserve_pages() + grown.load(std::memory_order_relaxed);
}

size_t allowed() {
  if (PageHeap::above_soft_limit()) return 0;
  if (settings::decay_ms() == settings::kNever) return settings::kAllPages;
  const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
  const size_t more = used / kWaitPart + settings::reserve_pages() / 32;
  const size_t below_peak = (peak > used ? peak - used : 0) + more;
  const size_t first = first_bound();
  return below_peak < first ? below_peak : first;
}

}  // namespace

size_t cached_span_bytes() { return waiting_pages() << kPageShift; }
size_t free_span_bytes() {
  const size_t all = segment_pages.load(std::memory_order_relaxed), used = used_pages.load(std::memory_order_relaxed);
  return all > used ? (all - used) << kPageShift : 0;
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

void count_segment_pages(ptrdiff_t pages) { segment_pages.fetch_add(static_cast<size_t>(pages), std::memory_order_relaxed); }

void count_waiting(ptrdiff_t pages) {
  waiting.fetch_add(static_cast<size_t>(pages), std::memory_order_relaxed);
  PageHeap::note_spans(pages);
}

size_t waiting_pages() { return waiting.load(std::memory_order_relaxed); }

size_t pages_over_bounds() {
  const size_t now = waiting_pages(), most = allowed();
  if (now <= most) return 0;
  if (now > first_bound()) refused.store(true, std::memory_order_relaxed);
  return now - most;
}

void note_missing() {
  if (!refused.load(std::memory_order_relaxed) || !refused.exchange(false, std::memory_order_relaxed)) return;
  const size_t most = (kMostReserves - 1) * settings::reserve_pages(), now = grown.load(std::memory_order_relaxed);
  grown.store(now + first_bound() < most ? now + first_bound() : most, std::memory_order_relaxed);
}

void note_taken() { taken.store(true, std::memory_order_relaxed); }

void relax_bounds() {
  const size_t used = used_pages.load(std::memory_order_relaxed), peak = peak_pages.load(std::memory_order_relaxed);
  peak_pages.store(peak - peak / kPeakFade > used ? peak - peak / kPeakFade : used, std::memory_order_relaxed);
  if (!taken.exchange(false, std::memory_order_relaxed))
    grown.store(grown.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
}

}  // namespace hz3::large
