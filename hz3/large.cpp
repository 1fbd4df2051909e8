// See hz3/large.hpp.
#include "hz3/large.hpp"

#include "hz3/central.hpp"
#include "hz3/span_cache.hpp"

namespace hz3::large {
namespace {

constexpr size_t kMostSegments = UINT32_MAX / kSegmentPages;  // of a span: its pages are counted in 32 bits
// The tables of an arena are written for all segments that are skipped for an alignment: 20 MiB of them for this one.
constexpr size_t kMostAlignment = size_t{1} << 36;

size_t segments_for(size_t bytes) { return (bytes + kSegmentBytes - 1) >> kSegmentShift; }
size_t pages_for(size_t bytes) { return (bytes + kPageSize - 1) >> kPageShift; }

bool any_touched(const Segment* first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (first[i].touched.count() != 0) return true;
  return false;
}

void* allocate_span(unsigned shard, size_t bytes, size_t alignment, bool* zero) {
  const size_t wide_count = segments_for(bytes);
  if (wide_count > kMostSegments || alignment > kMostAlignment) return nullptr;
  const uint32_t count = static_cast<uint32_t>(wide_count);
  const uint32_t alignment_segments = alignment > kSegmentBytes ? static_cast<uint32_t>(alignment >> kSegmentShift) : 1;
  Segment* first = alignment_segments == 1 ? take_cached(shard, count, bytes) : nullptr;
  const size_t pages = pages_for(bytes);
  const bool counted = count_pages(pages);
  if (first == nullptr && counted) first = arenas.allocate(count, alignment_segments);
  Run* run = first != nullptr && counted ? PageHeap::take_descriptor(shard, first->arena) : nullptr;
  if (run == nullptr) {
    if (counted) uncount_pages(pages);
    if (first != nullptr) release_span(first, count);
    return nullptr;
  }
  *zero = !any_touched(first, count);
  set_touched(first, count, true);
  first->span = count;
  *run = Run{};
  run->start = first->start();
  run->segment = first;
  run->pages = static_cast<uint32_t>(pages);
  run->slot = kLargeSlot;
  run->shard = static_cast<uint8_t>(shard);
  run->list = Run::kNoList;
  first->arena->label(run->start, 1, make_tag(kLargeSlot, shard), run);
  return run->start;
}

void free_span(Run* run) {
  Segment* first = run->segment;
  const uint32_t count = first->span;
  const unsigned shard = run->shard;
  const size_t pages = run->pages;
  PageHeap::return_descriptor(shard, run);
  uncount_pages(pages);
  give_span(shard, first, count, pages << kPageShift);
}

// A span whose addresses are not ours any more: its segments stay taken for ever.
void lose_span(Run* run) {
  run->segment->arena->unlabel(run->start, 1);
  uncount_pages(run->pages);
  PageHeap::return_descriptor(run->shard, run);
}

bool resize_span(Run* run, size_t bytes) {
  Segment* first = run->segment;
  const size_t want = segments_for(bytes);
  const size_t pages = pages_for(bytes);
  if (want > kMostSegments) return false;
  const uint32_t count = static_cast<uint32_t>(want);
  const size_t more = pages > run->pages ? pages - run->pages : 0;
  if (more != 0 && !count_pages(more)) return false;
  if (count > first->span) {
    if (!arenas.extend(first, first->span, count - first->span)) {
      uncount_pages(more);
      return false;
    }
    set_touched(first + first->span, count - first->span, true);
  } else if (count < first->span) {
    release_span(first + count, first->span - count);
  }
  if (pages < run->pages) {
    uncount_pages(run->pages - pages);
    // To the end of its segments: of a huge page, what lies behind the block is in memory, too.
    const size_t end = size_t{count} << kSegmentShift;
    const size_t keep = round_up(pages << kPageShift, os::page_size());
    if (keep < end) os::calls.advise(run->start + keep, end - keep, os::Advice::DontNeed);
  }
  first->span = count;
  run->pages = static_cast<uint32_t>(pages);
  return true;
}

// False when the run would have to grow and its neighbour is in use.
bool resize_run(Run* run, unsigned pages) {
  if (pages > run->pages) {
    bool zero = false;
    return PageHeap::extend(run, pages, &zero);
  }
  if (pages < run->pages) PageHeap::shrink(run, pages);
  return true;
}

}  // namespace

void* allocate(unsigned shard, size_t bytes, size_t alignment, bool* zero) {
  const size_t pages = pages_for(bytes);
  const size_t alignment_pages = alignment > kPageSize ? alignment >> kPageShift : 1;
  if (pages << kPageShift > kSpanMinBytes || alignment_pages + pages > kSegmentPages / 2)
    return allocate_span(shard, bytes, alignment, zero);
  Run* run = PageHeap::allocate(shard, static_cast<unsigned>(pages), static_cast<unsigned>(alignment_pages),
                                static_cast<unsigned>(pages));
  if (run == nullptr) return nullptr;
  *zero = run->zero;
  run->slot = kLargeSlot;
  run->shard = static_cast<uint8_t>(shard);
  run->segment->arena->label(run->start, 1, make_tag(kLargeSlot, shard), run);
  return run->start;
}

void free(void* p, Tag) {
  Run* run = run_of(p);
  run->segment->arena->unlabel(run->start, 1);
  if (run->segment->span != 0) {
    free_span(run);
  } else {
    PageHeap::free(run, run->pages);
  }
}

size_t usable(const void* p) { return size_t{run_of(p)->pages} << kPageShift; }

bool resize_in_place(void* p, size_t bytes) {
  Run* run = run_of(p);
  const size_t pages = pages_for(bytes);
  if (run->segment->span != 0) return bytes > kSpanMinBytes / 2 && resize_span(run, bytes);
  return pages << kPageShift <= kSpanMinBytes && resize_run(run, static_cast<unsigned>(pages));
}

bool resize_binned_in_place(void* p, size_t bytes) {
  if (bytes <= kMaxTierBytes || bytes > kSpanMinBytes) return false;
  Run* run = run_of(p);
  const Slot slot = bytes <= kMaxBinBytes ? slot_of(bytes) : kLargeSlot;
  const unsigned pages = static_cast<unsigned>(pages_for(slot != kLargeSlot ? class_bytes(slot) : bytes));
  if (!resize_run(run, pages)) return false;
  Central::of(run->shard).reclassify(run, slot);
  run->segment->arena->label(run->start, 1, make_tag(slot, run->shard), run);
  return true;
}

void* move(unsigned shard, void* p, size_t bytes) {
  Run* from = run_of(p);
  if (from->segment->span == 0 || bytes <= kSpanMinBytes) return nullptr;
  const size_t held = round_up(size_t{from->pages} << kPageShift, os::page_size());
  if (bytes < held) return nullptr;
  bool zero = false;
  const size_t pages = from->pages;
  uncount_pages(pages);  // they are not held twice
  void* to = allocate_span(shard, bytes, 1, &zero);
  recount_pages(pages);
  if (to == nullptr) return nullptr;
  const os::Moved moved = os::calls.move(p, to, held);
  if (unlikely(moved != os::Moved::Yes)) {
    if (moved == os::Moved::Lost) {
      lose_span(run_of(to));
    } else {
      free(to, tag_of(to));
    }
    return nullptr;
  }
  from->segment->arena->unlabel(from->start, 1);
  Segment* first = from->segment;
  const uint32_t count = first->span;
  PageHeap::return_descriptor(from->shard, from);
  uncount_pages(pages);
  release_span(first, count);
  return to;
}

}  // namespace hz3::large
