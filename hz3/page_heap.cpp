// See hz3/page_heap.hpp.
#include "hz3/page_heap.hpp"

#include "hz3/message.hpp"
#include "hz3/settings.hpp"

namespace hz3 {

constinit PageHeap page_heaps[kPageHeaps];

namespace {

PageHeap& heap_for(unsigned shard) { return page_heaps[shard % kPageHeaps]; }

constexpr unsigned kDescriptorBatch = kPageSize / sizeof(Run);
constexpr unsigned kLookDirty = 4;  // segments whose free pages are compared one by one
constexpr unsigned kLookPlaces = 8;
constexpr unsigned kLook = 8;                       // segments of a list that are compared for the fullest
constexpr unsigned kFirstLook = kSegmentPages / 8;  // pages in use: see hz3/huge.cpp

// The lowest set bit at a multiple of `alignment`; kSegmentPages when there is none.
unsigned first_aligned(const PageBits& bits, unsigned alignment) {
  unsigned at = bits.next_set(0);
  while (at < kSegmentPages && at % alignment != 0) at = bits.next_set(at + 1);
  return at;
}

}  // namespace

size_t PageHeap::free_pages() {
  size_t sum = 0;
  for (PageHeap& h : page_heaps) sum += h.free_pages_.load(std::memory_order_relaxed);
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
  dirty_segments_.fetch_add(1, std::memory_order_relaxed);
  s->dirty_since_ms = os::now_ms();
  s->dirty_next = nullptr;
  s->dirty_prev = dirty_last_;
  (dirty_last_ != nullptr ? dirty_last_->dirty_next : dirty_first_) = s;
  dirty_last_ = s;
}

void PageHeap::forget_dirty(Segment* s) {
  if (!s->on_dirty_list) return;
  s->on_dirty_list = false;
  dirty_segments_.fetch_sub(1, std::memory_order_relaxed);
  (s->dirty_prev != nullptr ? s->dirty_prev->dirty_next : dirty_first_) = s->dirty_next;
  (s->dirty_next != nullptr ? s->dirty_next->dirty_prev : dirty_last_) = s->dirty_prev;
}

void PageHeap::adopt(Segment* s, unsigned self) {
  s->heap = static_cast<uint8_t>(self);
  s->on_dirty_list = false;
  s->set_huge(settings::huge_pages() == HugePages::Always);
  s->look_at = kFirstLook;
  s->dense_pages = 0;
  if (s->is_huge()) s->swept_ms = os::now_ms();
  segments_++;
  free_pages_.fetch_add(kSegmentPages, std::memory_order_relaxed);
  if (s->dirty_pages != 0) {
    count_dirty(s->dirty_pages);
    note_dirty(s);
  }
  relist(s);
}

// --- ranges of pages -------------------------------------------------------------------------------------------------

void PageHeap::take_range(Segment* s, unsigned first, unsigned pages) {
  const bool in_longest = s->used.next_set(first + pages) - s->used.clear_before(first) == s->longest;
  const unsigned dirty = s->dirty.count(first, pages);
  if (dirty != 0) {
    s->dirty.clear(first, pages);
    s->aging.clear(first, pages);
    s->dirty_pages = static_cast<uint16_t>(s->dirty_pages - dirty);
    count_dirty(-static_cast<int>(dirty));
    if (s->dirty_pages == 0) forget_dirty(s);
  }
  s->used.set(first, pages);
  s->free_pages = static_cast<uint16_t>(s->free_pages - pages);
  free_pages_.fetch_sub(pages, std::memory_order_relaxed);
  note_used(pages);
  if (in_longest) remeasure(s);
}

unsigned PageHeap::longest_extent(const Segment* s) {
  unsigned longest = 0;
  for (unsigned at = s->used.next_clear(0); at < kSegmentPages && longest < s->free_pages;) {
    const unsigned end = s->used.next_set(at);
    if (end - at > longest) longest = end - at;
    at = s->used.next_clear(end);
  }
  return longest;
}

// Finds the longest free extent anew, after pages in the middle of one were taken.
void PageHeap::remeasure(Segment* s) {
  s->longest = static_cast<uint16_t>(longest_extent(s));
  relist(s);
}

void PageHeap::free_range(Segment* s, unsigned first, unsigned pages) {
  s->used.clear(first, pages);
  s->free_pages = static_cast<uint16_t>(s->free_pages + pages);
  free_pages_.fetch_add(pages, std::memory_order_relaxed);
  note_unused(pages);
  const unsigned extent = s->used.next_set(first + pages) - s->used.clear_before(first);
  if (extent > s->longest) s->longest = static_cast<uint16_t>(extent);
  if (s->free_pages == kSegmentPages) note_dirty(s);  // a clean one has to be seen by the purge, too, to go back to the arena
  relist(s);
}

// Where the first `soon` of `pages` free pages are in memory already. False when there is no such place.
bool PageHeap::in_memory(const Segment* s, unsigned pages, unsigned alignment, unsigned soon, unsigned* at) {
  if (soon == pages && alignment == 1) {  // a large block, of all of which a stretch of dirty pages is the place
    unsigned end;
    for (*at = s->dirty.next_set(0); *at != kSegmentPages; *at = s->dirty.next_set(end)) {
      end = s->dirty.next_clear(*at);
      if (end - *at >= pages) return true;
    }
    return false;
  }
  const PageBits starts = s->dirty.starts_of(soon) & (~s->used).starts_of(pages);
  *at = first_aligned(starts.first_of_stretches(), alignment);
  if (*at == kSegmentPages) *at = first_aligned(starts, alignment);
  return *at != kSegmentPages;
}

// A place for `pages` pages, at the start of a free extent if possible, so that one piece is left and not two; of the first
// few such places the one with most of what is needed soon in memory. kSegmentPages when there is none.
unsigned PageHeap::best_start(const Segment* s, unsigned pages, unsigned alignment, unsigned soon) {
  const PageBits starts = (~s->used).starts_of(pages);
  const PageBits firsts = starts.first_of_stretches();
  unsigned best = first_aligned(firsts, alignment);
  if (best == kSegmentPages) return first_aligned(starts, alignment);
  if (s->dirty_pages == 0) return best;
  unsigned most = s->dirty.count(best, soon);
  unsigned at = best;
  for (unsigned looked = 1; looked < kLookPlaces; looked++) {
    at = firsts.next_set(at + 1);
    if (at == kSegmentPages) break;
    const unsigned dirty = at % alignment == 0 ? s->dirty.count(at, soon) : 0;
    if (dirty > most) most = dirty, best = at;
  }
  return best;
}

// In a segment that has pages in memory which no run holds, of those freed into last; else in the fullest of the segments
// whose longest extent is just long enough.
PageHeap::Place PageHeap::find(unsigned pages, unsigned alignment, unsigned soon, Look look) {
  unsigned looked = 0;
  for (Segment* s = dirty_last_; s != nullptr && looked < kLookDirty; s = s->dirty_prev, looked++) {
    unsigned at;
    if (s->longest >= pages && s->dirty_pages >= soon && in_memory(s, pages, alignment, soon, &at)) return Place{s, at};
  }
  if (look == Look::InMemory) return Place{};
  const unsigned need = pages + alignment - 1;  // an extent this long holds an aligned place
  Segment* fullest = nullptr;
  for (unsigned list = list_for(need); list < kLists && fullest == nullptr; list++) {
    looked = 0;
    for (Segment* s = list_[list]; s != nullptr && looked < kLook; s = s->next, looked++)
      if (s->longest >= need && (fullest == nullptr || s->free_pages < fullest->free_pages)) fullest = s;
  }
  if (fullest == nullptr) return Place{};
  return Place{fullest, best_start(fullest, pages, alignment, soon)};
}

void PageHeap::check() {
  LockGuard guard(lock_);
  size_t free = 0, segments = 0, dirty = 0;
  for (unsigned list = 0; list < kLists; list++)
    for (const Segment* s = list_[list]; s != nullptr; s = s->next, segments++) {
      if (s->list != list || list_for(s->longest) != list) invariant_failed("I18", "a segment is on a wrong list");
      if (s->free_pages != kSegmentPages - s->used.count()) invariant_failed("I18", "a segment's free pages are miscounted");
      if (s->longest != longest_extent(s)) invariant_failed("I18", "a segment's longest extent is not the longest");
      if ((s->dirty & s->used).count() != 0 || (s->aging & ~s->dirty).count() != 0 || (s->dirty & ~s->touched).count() != 0)
        invariant_failed("I18", "a page is in two states");
      if (s->dirty_pages != s->dirty.count()) invariant_failed("I18", "a segment's dirty pages are miscounted");
      if (s->dirty_pages != 0 && !s->on_dirty_list)
        invariant_failed("I5", "the purge does not know of a segment with dirty pages");
      free += s->free_pages;
      dirty += s->dirty_pages;
    }
  if (free != free_pages_ || dirty != dirty_pages_ || segments != segments_) invariant_failed("I18", "a heap's sums are wrong");
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

void PageHeap::forget_descriptors(uint64_t retired) {
  for (PageHeap& h : page_heaps) {
    LockGuard guard(h.lock_);
    for (unsigned i = 0; i < kArenasMax; i++)
      if ((retired >> i) & 1) h.spare_[i] = nullptr;
  }
}

Run* PageHeap::take_descriptor(unsigned shard, Arena* arena) {
  PageHeap& heap = heap_for(shard);
  LockGuard guard(heap.lock_);
  return heap.descriptor(arena);
}

void PageHeap::return_descriptor(unsigned shard, Run* run) {
  PageHeap& heap = heap_for(shard);
  LockGuard guard(heap.lock_);
  Run*& spare = heap.spare_[run->segment->arena->number()];
  run->next = spare;
  spare = run;
}

Run* PageHeap::carve(Segment* s, unsigned at, unsigned pages, bool dense) {
  const bool zero = s->touched.count(at, pages) == 0;
  take_range(s, at, pages);
  Run* run = descriptor(s->arena);
  if (run == nullptr) {
    free_range(s, at, pages);
    soil(s, at, pages, 0);
    return nullptr;
  }
  run->free = nullptr;
  run->next = run->prev = nullptr;
  run->start = s->page(at);
  run->segment = s;
  run->pages = pages;
  run->zero = zero;
  run->dense = dense;
  run->list = Run::kNoList;
  if (dense) s->dense_pages = static_cast<uint16_t>(s->dense_pages + pages);
  if (unlikely(kSegmentPages - s->free_pages >= s->look_at)) consider_huge(s);
  return run;
}

Run* PageHeap::allocate_here(unsigned pages, unsigned alignment, unsigned soon, bool dense, Look look) {
  LockGuard guard(lock_);
  const Place place = find(pages, alignment, soon, look);
  if (place.segment == nullptr) return nullptr;
  return carve(place.segment, place.at, pages, dense);
}

// First pages that are in memory, of whatever heap; then others of the shard's own; then of a heap that has many, so that
// heaps do not end up sharing segments page by page.
Run* PageHeap::find_run(unsigned shard, unsigned pages, unsigned alignment, unsigned soon, bool dense) {
  const unsigned self = shard % kPageHeaps;
  for (unsigned i = 0; i < kPageHeaps; i++) {
    PageHeap& heap = page_heaps[(self + i) % kPageHeaps];
    if (heap.dirty_pages_.load(std::memory_order_relaxed) < soon) continue;
    if (Run* run = heap.allocate_here(pages, alignment, soon, dense, Look::InMemory)) return run;
  }
  PageHeap& heap = page_heaps[self];
  if (Run* run = heap.allocate_here(pages, alignment, soon, dense, Look::Anywhere)) return run;
  for (PageHeap& other : page_heaps) {
    if (&other == &heap || other.free_pages_.load(std::memory_order_relaxed) < kSegmentPages / 2 + pages) continue;
    if (Run* run = other.allocate_here(pages, alignment, soon, dense, Look::Anywhere)) return run;
  }
  if (Segment* s = arenas.allocate(1)) {
    LockGuard guard(heap.lock_);
    heap.adopt(s, self);
    return heap.carve(s, 0, pages, dense);
  }
  for (PageHeap& other : page_heaps)  // the last resort: whatever anybody has
    if (Run* run = other.allocate_here(pages, alignment, soon, dense, Look::Anywhere)) return run;
  return nullptr;
}

Run* PageHeap::allocate(unsigned shard, unsigned pages, unsigned alignment, unsigned soon, bool dense) {
  Run* run = find_run(shard, pages, alignment, soon, dense);
  if (run == nullptr || likely(!above_hard_limit())) return run;
  free(run, 0);
  return nullptr;
}

// Free pages from `first` on join the dirty ones as far as they are in memory: the first `written` of them are, of the others
// those that were before they were allocated.
size_t PageHeap::soil(Segment* s, unsigned first, unsigned pages, unsigned written) {
  s->touched.set(first, written);
  unsigned dirty = 0;
  for (unsigned at = s->touched.next_set(first); at < first + pages;) {
    unsigned end = s->touched.next_clear(at);
    if (end > first + pages) end = first + pages;
    s->dirty.set(at, end - at);
    dirty += end - at;
    at = s->touched.next_set(end);
  }
  if (dirty == 0) return dirty_pages();
  s->dirtied_ms = looked_ms();
  s->dirty_pages = static_cast<uint16_t>(s->dirty_pages + dirty);
  note_dirty(s);
  count_dirty(static_cast<int>(dirty));
  return dirty_pages();
}

void PageHeap::free(Run* run, unsigned written) {
  Segment* s = run->segment;
  const unsigned self = s->heap;
  PageHeap& heap = page_heaps[self];
  const unsigned first = static_cast<unsigned>((run->start - s->start()) >> kPageShift);
  const unsigned pages = run->pages;
  bool over = false;
  {
    LockGuard guard(heap.lock_);
    if (run->dense) s->dense_pages = static_cast<uint16_t>(s->dense_pages - pages);
    heap.free_range(s, first, pages);
    over = heap.soil(s, first, pages, written) > reserve_pages();
    Run*& spare = heap.spare_[s->arena->number()];
    run->next = spare;
    spare = run;
  }
  if (unlikely(over)) heap.purge(os::now_ms(), false);
}

bool PageHeap::extend(Run* run, unsigned pages, bool* zero) {
  Segment* s = run->segment;
  PageHeap& heap = page_heaps[s->heap];
  LockGuard guard(heap.lock_);
  const unsigned end = static_cast<unsigned>((run->start - s->start()) >> kPageShift) + run->pages;
  const unsigned more = pages - run->pages;
  if (end + more > kSegmentPages || s->used.next_set(end) < end + more) return false;
  *zero = s->touched.count(end, more) == 0;
  heap.take_range(s, end, more);
  if (unlikely(above_hard_limit())) {
    heap.free_range(s, end, more);
    heap.soil(s, end, more, 0);
    return false;
  }
  run->pages = pages;
  return true;
}

void PageHeap::shrink(Run* run, unsigned pages) {
  Segment* s = run->segment;
  PageHeap& heap = page_heaps[s->heap];
  LockGuard guard(heap.lock_);
  const unsigned first = static_cast<unsigned>((run->start - s->start()) >> kPageShift) + pages;
  const unsigned less = run->pages - pages;
  heap.free_range(s, first, less);
  heap.soil(s, first, less, less);
  run->pages = pages;
}

}  // namespace hz3
