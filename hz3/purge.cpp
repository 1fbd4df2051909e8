// Free pages on their way back to the kernel: the purge of hz3/page_heap.hpp.
#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"

namespace hz3 {
namespace {

// A call into the kernel costs as much for one page as for many, and in a program of several threads an interruption of each
// processor that runs one. Where pages come and go, two thirds of the stretches were shorter than this, and had a tenth of the
// pages: they go once in the decay time, when most of them have been used again.
constexpr unsigned kStretchPages = 8;

// The pages [first, end) without the ends of kernel pages that they only touch.
void whole_kernel_pages(unsigned* first, unsigned* end) {
  const unsigned per = static_cast<unsigned>(os::page_size() >> kPageShift);
  if (per <= 1) return;
  *first = static_cast<unsigned>(round_up(*first, per));
  *end = *end / per * per;
}

// For how long short stretches of dirty pages are gathered. In what may be a huge page any stretch but the whole of it is
// short: to give it back the kernel has to split the page, and the rest of it is small pages from then on.
constexpr unsigned kHugePatience = 4;
uint64_t patience_ms(bool huge) { return (huge ? kHugePatience : 1) * settings::decay_ms(); }

// The stretches of set bits that are at least `least` long.
PageBits long_stretches(const PageBits& bits, unsigned least) {
  PageBits chosen = bits;
  for (unsigned at = bits.next_set(0); at < kSegmentPages;) {
    const unsigned end = bits.next_clear(at);
    if (end - at < least) chosen.clear(at, end - at);
    at = bits.next_set(end);
  }
  return chosen;
}

}  // namespace

// Purges the pages of a segment that have been dirty since the last visit (all dirty ones when `everything`), and marks
// those that are dirty now. Short stretches wait for their turn until the decay time is over. Called with the lock held;
// unlocks while in the kernel. Returns the number of pages given back.
unsigned PageHeap::purge_segment(Segment* s, uint64_t now_ms, bool everything) {
  PageBits chosen = everything ? s->dirty : s->dirty & s->aging;
  const bool huge = keeps_huge(s);
  if (everything || now_ms - s->swept_ms >= patience_ms(huge)) {
    s->swept_ms = now_ms;
  } else {
    chosen = long_stretches(chosen, huge ? kSegmentPages : kStretchPages);
  }
  unsigned pages = 0;
  for (unsigned w = 0; w < PageBits::kWords; w++) {
    s->dirty.word(w) &= ~chosen.word(w);
    s->aging.word(w) = s->dirty.word(w);
    s->used.word(w) |= chosen.word(w);
    pages += count_bits(chosen.word(w));
  }
  forget_dirty(s);
  s->dirty_pages = static_cast<uint16_t>(s->dirty_pages - pages);
  count_dirty(-static_cast<int>(pages));
  if (s->dirty_pages != 0) note_dirty(s);
  if (pages == 0) return 0;

  // Pages of the kernel's that are larger may have a part in use.
  const bool breaks = s->is_huge() && pages != kSegmentPages && os::page_size() == kPageSize;
  s->set_huge(false);
  s->free_pages = static_cast<uint16_t>(s->free_pages - pages);
  free_pages_.fetch_sub(pages, std::memory_order_relaxed);
  remeasure(s);

  lock_.unlock();
  if (breaks) break_up(s, s->page(chosen.next_set(0)));
  PageBits zeroed{};
  for (unsigned at = chosen.next_set(0); at < kSegmentPages;) {
    const unsigned end = chosen.next_clear(at);
    unsigned first = at, last = end;
    whole_kernel_pages(&first, &last);
    if (first < last) {
      const bool done = give_to_kernel(s->page(first), size_t{last - first} << kPageShift);
      if (done && kGivesBack == os::Advice::DontNeed) zeroed.set(first, last - first);
    }
    at = chosen.next_set(end);
  }
  lock_.lock();

  for (unsigned w = 0; w < PageBits::kWords; w++) {
    s->used.word(w) &= ~chosen.word(w);
    s->touched.word(w) &= ~zeroed.word(w);
  }
  s->free_pages = static_cast<uint16_t>(s->free_pages + pages);
  free_pages_.fetch_add(pages, std::memory_order_relaxed);
  remeasure(s);
  return pages;
}

void PageHeap::purge(uint64_t now_ms, bool everything) {
  LockGuard guard(lock_);
  // A segment goes to the end of the list when it is visited, so one round sees each at most once.
  for (size_t left = segments_; left != 0; left--) {
    Segment* s = dirty_first_;
    if (s == nullptr) return;
    const size_t dirty = dirty_pages();
    const bool all = everything || dirty > most_dirty_pages(now_ms);
    const uint64_t decay = dirty > reserve_pages() ? swing_ms() : settings::decay_ms();
    if (!all && now_ms - s->dirty_since_ms < decay / 2) return;
    if (s->collapsing) {  // it has its turn when it is done
      forget_dirty(s);
      note_dirty(s);
      continue;
    }
    // Where nothing was freed of late, there is no need to tell older pages from newer ones on a first visit.
    const bool huge = keeps_huge(s);
    purge_segment(s, now_ms, all || now_ms >= s->dirtied_ms + (huge ? patience_ms(true) : decay));
    if (s->free_pages == kSegmentPages && s->dirty_pages == 0 && !s->collapsing) {
      unlist(s);
      segments_--;
      free_pages_.fetch_sub(kSegmentPages, std::memory_order_relaxed);
      lock_.unlock();
      arenas.release(s, 1);
      lock_.lock();
    }
  }
}

void PageHeap::purge_all(uint64_t now_ms, bool everything) {
  // relaxed: a segment that is listed just now has its turn at the next tick
  for (unsigned i = 0; i < kPageHeaps; i++)
    if (number(i).dirty_segments_.load(std::memory_order_relaxed) != 0) number(i).purge(now_ms, everything);
}

}  // namespace hz3
