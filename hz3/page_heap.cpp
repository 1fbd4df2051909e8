// See hz3/page_heap.hpp.
#include "hz3/page_heap.hpp"

namespace hz3 {
namespace {

constinit PageHeap heaps[kShards];

// Pages that are free and not yet given back, over all heaps: what the reserve bounds. Relaxed: a threshold, not a count
// that anything relies on.
constinit std::atomic<size_t> all_dirty{0};

// A program whose free pages swing by more than the reserve would have them purged and faulted in again for ever. So the
// reserve grows by what is taken from the kernel again soon after it was purged on the spot, and shrinks with time.
// Relaxed: heuristics.
constinit std::atomic<size_t> extra_reserve{0};
constinit std::atomic<size_t> purged_on_the_spot{0};

void note_refault(size_t pages) {
  size_t purged = purged_on_the_spot.load(std::memory_order_relaxed);
  do {
    if (purged == 0) return;
    if (pages > purged) pages = purged;
  } while (!purged_on_the_spot.compare_exchange_weak(purged, purged - pages, std::memory_order_relaxed));
  extra_reserve.fetch_add(pages, std::memory_order_relaxed);
}

constexpr unsigned kDescriptorBatch = kPageSize / sizeof(Run);
constexpr unsigned kLook = 8;  // segments of a list that are compared for the fullest

}  // namespace

PageHeap& PageHeap::of(unsigned shard) { return heaps[shard]; }
size_t PageHeap::dirty_pages() { return all_dirty.load(std::memory_order_relaxed); }

void PageHeap::count_purged(size_t pages, bool on_the_spot) {
  all_dirty.fetch_sub(pages, std::memory_order_relaxed);
  if (on_the_spot) purged_on_the_spot.fetch_add(pages, std::memory_order_relaxed);
}

size_t PageHeap::reserve_pages() { return kPurgeReservePages + extra_reserve.load(std::memory_order_relaxed); }

void PageHeap::relax_reserve() {
  const size_t extra = extra_reserve.load(std::memory_order_relaxed);
  if (extra != 0) extra_reserve.fetch_sub((extra + 7) / 8, std::memory_order_relaxed);
  purged_on_the_spot.store(purged_on_the_spot.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
}

size_t PageHeap::free_pages() {
  size_t sum = 0;
  for (PageHeap& h : heaps) sum += h.free_pages_.load(std::memory_order_relaxed);
  return sum;
}

// --- lists of segments -----------------------------------------------------------------------------------------------

void PageHeap::unlist(Segment* s) {
  if (s->list == Segment::kNoList) return;
  (s->prev != nullptr ? s->prev->next : list_[s->list]) = s->next;
  if (s->next != nullptr) s->next->prev = s->prev;
  s->list = Segment::kNoList;
}

void PageHeap::relist(Segment* s) {
  const unsigned want = list_for(s->longest);
  if (s->list == want) return;
  unlist(s);
  s->list = static_cast<uint8_t>(want);
  s->prev = nullptr;
  s->next = list_[want];
  if (s->next != nullptr) s->next->prev = s;
  list_[want] = s;
}

void PageHeap::note_dirty(Segment* s) {
  if (s->on_dirty_list) return;
  s->on_dirty_list = true;
  s->dirty_since_ms = os::now_ms();
  s->dirty_next = nullptr;
  s->dirty_prev = dirty_last_;
  (dirty_last_ != nullptr ? dirty_last_->dirty_next : dirty_first_) = s;
  dirty_last_ = s;
}

void PageHeap::forget_dirty(Segment* s) {
  if (!s->on_dirty_list) return;
  s->on_dirty_list = false;
  (s->dirty_prev != nullptr ? s->dirty_prev->dirty_next : dirty_first_) = s->dirty_next;
  (s->dirty_next != nullptr ? s->dirty_next->dirty_prev : dirty_last_) = s->dirty_prev;
}

void PageHeap::adopt(Segment* s, unsigned self) {
  s->heap = static_cast<uint8_t>(self);
  s->on_dirty_list = false;
  segments_++;
  free_pages_.fetch_add(kSegmentPages, std::memory_order_relaxed);
  if (s->dirty_pages != 0) {
    all_dirty.fetch_add(s->dirty_pages, std::memory_order_relaxed);
    note_dirty(s);
  }
  relist(s);
}

// --- ranges of pages -------------------------------------------------------------------------------------------------

void PageHeap::take_range(Segment* s, unsigned first, unsigned pages) {
  const unsigned dirty = s->dirty.count(first, pages);
  if (dirty != 0) {
    s->dirty.clear(first, pages);
    s->aging.clear(first, pages);
    s->dirty_pages = static_cast<uint16_t>(s->dirty_pages - dirty);
    all_dirty.fetch_sub(dirty, std::memory_order_relaxed);
    if (s->dirty_pages == 0) forget_dirty(s);
  }
  if (dirty != pages) note_refault(pages - dirty);
  s->used.set(first, pages);
  s->free_pages = static_cast<uint16_t>(s->free_pages - pages);
  free_pages_.fetch_sub(pages, std::memory_order_relaxed);
  remeasure(s);
}

// Finds the longest free extent anew, after pages in the middle of one were taken.
void PageHeap::remeasure(Segment* s) {
  unsigned longest = 0;
  for (unsigned at = s->used.next_clear(0); at < kSegmentPages && longest < s->free_pages;) {
    const unsigned end = s->used.next_set(at);
    if (end - at > longest) longest = end - at;
    at = s->used.next_clear(end);
  }
  s->longest = static_cast<uint16_t>(longest);
  relist(s);
}

void PageHeap::free_range(Segment* s, unsigned first, unsigned pages) {
  s->used.clear(first, pages);
  s->free_pages = static_cast<uint16_t>(s->free_pages + pages);
  free_pages_.fetch_add(pages, std::memory_order_relaxed);
  const unsigned extent = s->used.next_set(first + pages) - s->used.clear_before(first);
  if (extent > s->longest) s->longest = static_cast<uint16_t>(extent);
  relist(s);
}

// The best place for `pages` pages: in the lists whose extents are just long enough first, there the fullest segment, in
// it the shortest extent; before that, pages that are in memory already.
Segment* PageHeap::find(unsigned pages, unsigned alignment, unsigned* at) {
  const unsigned need = pages + alignment - 1;  // an extent this long holds an aligned place
  Segment* best = nullptr;
  bool best_in_memory = false;
  for (unsigned list = list_for(need); list < kLists && best == nullptr; list++) {
    unsigned looked = 0;
    for (Segment* s = list_[list]; s != nullptr && looked < kLook; s = s->next, looked++) {
      if (s->longest < need) continue;
      const bool in_memory = s->dirty_pages >= pages;
      if (best == nullptr || in_memory > best_in_memory || (in_memory == best_in_memory && s->free_pages < best->free_pages)) {
        best = s;
        best_in_memory = in_memory;
      }
    }
  }
  if (best == nullptr) return nullptr;
  unsigned best_length = 2 * kSegmentPages + 1;
  for (unsigned first = best->used.next_clear(0); first < kSegmentPages;) {
    const unsigned end = best->used.next_set(first);
    // Pages that the kernel would have to provide again count as a longer extent.
    const unsigned length = end - first + (best->dirty.test(first) ? 0 : kSegmentPages);
    if (end - first >= need && length < best_length) {
      best_length = length;
      *at = static_cast<unsigned>(round_up(first, alignment));
      if (best_length == need) break;
    }
    first = best->used.next_clear(end);
  }
  return best;
}

// --- runs ------------------------------------------------------------------------------------------------------------

// A descriptor for a run in `arena`. Unlocks while it asks for more.
Run* PageHeap::descriptor(Arena* arena) {
  Run*& spare = spare_[arena->number()];
  if (spare == nullptr) {
    lock_.unlock();
    Run* batch = arenas.allocate_runs(arena, kDescriptorBatch);
    lock_.lock();
    if (batch == nullptr) return nullptr;
    Run* last = batch;
    while (last->next != nullptr) last = last->next;
    last->next = spare;
    spare = batch;
  }
  Run* run = spare;
  spare = run->next;
  return run;
}

Run* PageHeap::take_descriptor(unsigned self, Arena* arena) {
  LockGuard guard(heaps[self].lock_);
  return heaps[self].descriptor(arena);
}

void PageHeap::return_descriptor(unsigned self, Run* run) {
  PageHeap& heap = heaps[self];
  LockGuard guard(heap.lock_);
  Run*& spare = heap.spare_[run->segment->arena->number()];
  run->next = spare;
  spare = run;
}

Run* PageHeap::carve(Segment* s, unsigned at, unsigned pages) {
  const bool zero = s->touched.count(at, pages) == 0;
  take_range(s, at, pages);
  s->touched.set(at, pages);
  Run* run = descriptor(s->arena);
  if (run == nullptr) {
    free_range(s, at, pages);
    return nullptr;
  }
  run->free = nullptr;
  run->next = run->prev = nullptr;
  run->start = s->page(at);
  run->segment = s;
  run->pages = pages;
  run->zero = zero;
  run->list = Run::kNoList;
  return run;
}

Run* PageHeap::allocate_here(unsigned pages, unsigned alignment) {
  unsigned at = 0;
  Segment* s = find(pages, alignment, &at);
  return s != nullptr ? carve(s, at, pages) : nullptr;
}

Run* PageHeap::allocate(unsigned self, unsigned pages, unsigned alignment) {
  {
    LockGuard guard(heaps[self].lock_);
    if (Run* run = heaps[self].allocate_here(pages, alignment)) return run;
  }
  // Free pages of other shards: only of one that has many, so that shards do not end up sharing segments page by page.
  for (PageHeap& other : heaps) {
    if (&other == &heaps[self] || other.free_pages_.load(std::memory_order_relaxed) < kSegmentPages / 2 + pages) continue;
    LockGuard guard(other.lock_);
    if (Run* run = other.allocate_here(pages, alignment)) return run;
  }
  Segment* s = arenas.allocate(1);
  if (s == nullptr) {
    purge_all(os::now_ms(), true);
    s = arenas.allocate(1);
  }
  PageHeap& heap = heaps[self];
  if (s != nullptr) {
    LockGuard guard(heap.lock_);
    heap.adopt(s, self);
    return heap.carve(s, 0, pages);
  }
  for (PageHeap& other : heaps) {  // the last resort: whatever anybody has
    LockGuard guard(other.lock_);
    if (Run* run = other.allocate_here(pages, alignment)) return run;
  }
  return nullptr;
}

void PageHeap::free(Run* run) {
  Segment* s = run->segment;
  const unsigned self = s->heap;
  PageHeap& heap = heaps[self];
  const unsigned first = static_cast<unsigned>((run->start - s->start()) >> kPageShift);
  const unsigned pages = run->pages;
  bool over = false;
  {
    LockGuard guard(heap.lock_);
    heap.free_range(s, first, pages);
    s->dirty.set(first, pages);
    s->dirty_pages = static_cast<uint16_t>(s->dirty_pages + pages);
    heap.note_dirty(s);
    over = all_dirty.fetch_add(pages, std::memory_order_relaxed) + pages > reserve_pages();
    Run*& spare = heap.spare_[s->arena->number()];
    run->next = spare;
    spare = run;
  }
  if (unlikely(over)) heap.purge(os::now_ms(), false);
}

bool PageHeap::extend(Run* run, unsigned pages, bool* zero) {
  Segment* s = run->segment;
  PageHeap& heap = heaps[s->heap];
  LockGuard guard(heap.lock_);
  const unsigned end = static_cast<unsigned>((run->start - s->start()) >> kPageShift) + run->pages;
  const unsigned more = pages - run->pages;
  if (end + more > kSegmentPages || s->used.next_set(end) < end + more) return false;
  *zero = s->touched.count(end, more) == 0;
  heap.take_range(s, end, more);
  s->touched.set(end, more);
  run->pages = pages;
  return true;
}

void PageHeap::shrink(Run* run, unsigned pages) {
  Segment* s = run->segment;
  PageHeap& heap = heaps[s->heap];
  LockGuard guard(heap.lock_);
  const unsigned first = static_cast<unsigned>((run->start - s->start()) >> kPageShift) + pages;
  const unsigned less = run->pages - pages;
  heap.free_range(s, first, less);
  s->dirty.set(first, less);
  s->dirty_pages = static_cast<uint16_t>(s->dirty_pages + less);
  all_dirty.fetch_add(less, std::memory_order_relaxed);
  heap.note_dirty(s);
  run->pages = pages;
}

}  // namespace hz3
