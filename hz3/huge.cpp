// Segments that become huge pages: the part of hz3/page_heap.hpp that is about them.
//
// A segment without a free page is put on a list. A tick looks at those that were on it at the tick before, whether they are in
// memory as a whole, and has the kernel make them huge pages: at a tick, so that no allocation waits for the copy.
#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"

namespace hz3 {
namespace {
constexpr unsigned kAtOnce = 4;                            // of a heap: each is a copy of a segment
constexpr unsigned kDensePages = kSegmentPages / 16 * 15;  // in use and in memory
constexpr bool kPossible = kSegmentBytes % kHugePageBytes == 0;

// How many pages of a segment are in memory.
unsigned resident(const Segment* s) {
  const size_t part = 512 * os::page_size() < kSegmentBytes ? 512 * os::page_size() : kSegmentBytes;
  size_t bytes = 0;
  for (size_t at = 0; at < kSegmentBytes; at += part) bytes += os::resident_pages(s->start() + at, part) * os::page_size();
  return static_cast<unsigned>(bytes >> kPageShift);
}
}  // namespace

// Whether a purge of a part would break up a huge page of which most is in use.
bool PageHeap::keeps_huge(const Segment* s) {
  if (s->free_pages > kSegmentPages / 4) return false;
  return s->huge || settings::huge_pages() == HugePages::Always;
}

void PageHeap::note_full(Segment* s) {
  if (!kPossible || settings::huge_pages() != HugePages::Dense || s->huge || s->on_full_list) return;
  s->on_full_list = true;
  s->full_at_tick = false;
  s->full_next = full_;
  full_ = s;
  full_segments_.fetch_add(1, std::memory_order_relaxed);
}

void PageHeap::forget_full(Segment* s) {
  if (!s->on_full_list) return;
  s->on_full_list = false;
  Segment** at = &full_;
  while (*at != s) at = &(*at)->full_next;
  *at = s->full_next;
  full_segments_.fetch_sub(1, std::memory_order_relaxed);
}

// A segment that is marked as being collapsed. With the lock held; unlocks while the kernel copies. The pages may come and go
// meanwhile, what is in them stays as it is; but the segment stays, and is not purged.
void PageHeap::collapse(Segment* s) {
  const bool dense = kSegmentPages - s->free_pages >= kDensePages;
  lock_.unlock();
  const bool done = dense && resident(s) >= kDensePages && os::calls.advise(s->start(), kSegmentBytes, os::Advice::Collapse);
  lock_.lock();
  s->collapsing = false;
  if (s->free_pages == kSegmentPages) note_dirty(s);  // or it would not go back to the arena
  if (!done) return;
  s->huge = true;
  s->swept_ms = os::now_ms();
  // What is free in it is in memory now, too.
  const PageBits clean = ~s->used & ~s->dirty;
  for (unsigned at = clean.next_set(0); at < kSegmentPages;) {
    const unsigned end = clean.next_clear(at);
    soil(s, at, end - at, end - at);
    at = clean.next_set(end);
  }
}

void PageHeap::collapse_dense() {
  if (!kPossible || settings::huge_pages() != HugePages::Dense) return;
  for (PageHeap& heap : page_heaps) {
    // relaxed: one that is listed just now has its turn at the next tick
    if (heap.full_segments_.load(std::memory_order_relaxed) == 0) continue;
    LockGuard guard(heap.lock_);
    Segment* chosen[kAtOnce];
    unsigned n = 0;
    for (Segment* s = heap.full_; s != nullptr && n < kAtOnce; s = s->full_next) {
      if (s->full_at_tick) chosen[n++] = s;
      s->full_at_tick = true;
    }
    for (unsigned i = 0; i < n; i++) heap.forget_full(chosen[i]), chosen[i]->collapsing = true;
    for (unsigned i = 0; i < n; i++) heap.collapse(chosen[i]);
  }
}

}  // namespace hz3
