// How many free pages stay in memory, and for how long: the thresholds of hz3/page_heap.hpp.
//
// The atomics here are relaxed, stores and loads: each moves a threshold and none says that anything else can be read,
// so that no load pairs with a store.
#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"

namespace hz3 {
namespace {

// Pages that are free and not yet given back, over all heaps: what the reserve bounds. Changed by count_dirty(), read
// by dirty_pages().
constinit std::atomic<size_t> all_dirty{0};

// Pages in runs, and the most of them of late. Changed by note_used(), note_unused() and relax_reserve(); of a peak that
// two threads raise at once the lower one may stay.
constinit std::atomic<size_t> all_used{0};
constinit std::atomic<size_t> peak_used{0};

// Pages of spans, in use or cached: changed by note_spans().
constinit std::atomic<size_t> all_spans{0};

// Pages that were taken for runs in this window of swing_ms() and in the one before. note_used() adds; most_dirty_pages()
// reads and moves the window, and loses what is added meanwhile.
constinit std::atomic<size_t> taken{0}, taken_before{0};
constinit std::atomic<uint64_t> window_since_ms{0};

// When a thread last looked at the clock: stored by set_now(), read by soil(). It may lag behind, and go back a little
// when threads store in another order than they looked.
constinit std::atomic<uint64_t> latest_look_ms{0};

// Stored by set_several_threads(), read by swing_ms().
constinit std::atomic<bool> several_threads{false};

constexpr size_t kSwingReserves = 8;  // as many times the reserve may be dirty for a moment
constexpr size_t kLeastPages = 64;    // of the reserve, where the configured one is not less

// As many dirty pages as the soft limit leaves room for; a few in any case, so that not each free is a call into the kernel.
size_t room_below_soft_limit() {
  const size_t limit = settings::limit_pages(settings::kSoftLimitMib);
  if (likely(limit == settings::kAllPages)) return limit;
  const size_t in_use = all_used.load(std::memory_order_relaxed) + all_spans.load(std::memory_order_relaxed);
  return limit > in_use + kLeastPages ? limit - in_use : kLeastPages;
}

size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

}  // namespace

size_t PageHeap::dirty_pages() { return all_dirty.load(std::memory_order_relaxed); }

void PageHeap::count_dirty(int more) {
  dirty_pages_.fetch_add(static_cast<size_t>(more), std::memory_order_relaxed);
  all_dirty.fetch_add(static_cast<size_t>(more), std::memory_order_relaxed);
}

void PageHeap::note_used(size_t pages) {
  taken.fetch_add(pages, std::memory_order_relaxed);
  const size_t used = all_used.fetch_add(pages, std::memory_order_relaxed) + pages;
  if (used > peak_used.load(std::memory_order_relaxed)) peak_used.store(used, std::memory_order_relaxed);
}

void PageHeap::note_unused(size_t pages) { all_used.fetch_sub(pages, std::memory_order_relaxed); }

size_t PageHeap::held_pages() {
  return all_used.load(std::memory_order_relaxed) + all_spans.load(std::memory_order_relaxed) + dirty_pages();
}

namespace {
bool above(settings::Setting limit) {
  const size_t pages = settings::limit_pages(limit);
  return unlikely(pages != settings::kAllPages) && PageHeap::held_pages() > pages;
}
}  // namespace

bool PageHeap::above_soft_limit() { return above(settings::kSoftLimitMib); }
bool PageHeap::above_hard_limit() { return above(settings::kHardLimitMib); }

void PageHeap::note_spans(ptrdiff_t more) { all_spans.fetch_add(static_cast<size_t>(more), std::memory_order_relaxed); }

size_t PageHeap::reserve_pages() {
  const uint64_t decay = settings::decay_ms();
  if (decay == 0) return 0;
  if (decay == settings::kNever) return room_below_soft_limit();
  const size_t most = settings::reserve_pages();
  const size_t reserve = clamp(peak_used.load(std::memory_order_relaxed) / 32, lesser(kLeastPages, most), most);
  return lesser(reserve, room_below_soft_limit());
}

size_t PageHeap::most_dirty_pages(uint64_t now_ms) {
  const uint64_t decay = settings::decay_ms();
  if (decay == 0) return 0;
  if (decay == settings::kNever) return room_below_soft_limit();
  const size_t pages = taken_pages(now_ms);
  const size_t reserve = settings::reserve_pages();
  return lesser(clamp(pages, reserve, kSwingReserves * reserve), room_below_soft_limit());
}

// Relaxed, and threads may rotate the window at the same time: a heuristic.
size_t PageHeap::taken_pages(uint64_t now_ms) {
  const uint64_t since = window_since_ms.load(std::memory_order_relaxed);
  const uint64_t swing_ms = PageHeap::swing_ms();
  if (now_ms - since >= swing_ms) {
    taken_before.store(now_ms - since < 2 * swing_ms ? taken.load(std::memory_order_relaxed) : 0, std::memory_order_relaxed);
    taken.store(0, std::memory_order_relaxed);
    window_since_ms.store(now_ms, std::memory_order_relaxed);
  }
  return taken.load(std::memory_order_relaxed) + taken_before.load(std::memory_order_relaxed);
}

uint64_t PageHeap::swing_ms() {
  const uint64_t decay = settings::decay_ms();
  return several_threads.load(std::memory_order_relaxed) || decay < kSwingMs ? decay : kSwingMs;
}

void PageHeap::set_several_threads(bool several) { several_threads.store(several, std::memory_order_relaxed); }

void PageHeap::set_now(uint64_t now_ms) { latest_look_ms.store(now_ms, std::memory_order_relaxed); }
uint64_t PageHeap::looked_ms() { return latest_look_ms.load(std::memory_order_relaxed); }

void PageHeap::relax_reserve() {
  const size_t used = all_used.load(std::memory_order_relaxed);
  const size_t peak = peak_used.load(std::memory_order_relaxed);
  peak_used.store(peak - peak / 4 > used ? peak - peak / 4 : used, std::memory_order_relaxed);
}

}  // namespace hz3
