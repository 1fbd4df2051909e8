// See hz3/large.hpp.
#include "hz3/large.hpp"

#include <atomic>

#include "hz3/central.hpp"
#include "hz3/span_cache.hpp"

namespace hz3::large {
namespace {

constexpr size_t kMostPages = UINT32_MAX;  // of a span
// The tables of an arena are written for all segments that are skipped for an alignment: 20 MiB of them for this one.
constexpr size_t kMostAlignment = size_t{1} << 36;

// A block of less is copied: each end of one that was moved may be one of a mapping of its own, of which the kernel allows
// 65,530.
constexpr size_t kMoveMinBytes = 2 * kSegmentBytes;

// How many blocks may yet be moved. A moved one may leave some five mappings, which stay when it is freed, until its addresses
// are mapped anew: of the limit on mappings so a part is used at most, and then blocks are copied. And none after a move that
// has lost its target: the kernel refuses at that limit, and whether it unmapped the target before cannot be told. relaxed, no
// pair: nothing else is read by it, and two threads at once may move one more.
constexpr int kMostMoves = 2048;
constinit std::atomic<int> moves_left{kMostMoves};

size_t pages_for(size_t bytes) { return (bytes + kPageSize - 1) >> kPageShift; }
size_t span_pages_for(size_t bytes) {
  return bytes > kMostPages << kPageShift ? kMostPages + 1 : kernel_pages(pages_for(bytes));
}

Range range_of(const Run* run) {
  Arena* arena = run->segment->arena;
  return Range{arena, arena->page_index(run->start), run->pages};
}

enum class Place { Any, NewSegments };

void* allocate_span(unsigned shard, size_t bytes, size_t alignment, Place place, bool* zero) {
  const size_t pages = span_pages_for(bytes);
  if (pages > kMostPages || alignment > kMostAlignment) return nullptr;
  const size_t alignment_pages = alignment > kPageSize ? alignment >> kPageShift : 1;
  const uint32_t segments = alignment > kSegmentBytes ? static_cast<uint32_t>(alignment >> kSegmentShift) : 1;
  Range span{};
  if (place == Place::Any && segments == 1) span = take_cached_span(shard, pages, alignment_pages, zero);
  const bool counted = count_pages(pages);
  if (span.pages == 0 && counted) span = take_fresh_span(shard, pages, segments, zero);
  Run* run = span.pages != 0 && counted ? PageHeap::take_descriptor(shard, span.arena) : nullptr;
  if (run == nullptr) {
    if (counted) uncount_pages(pages);
    if (span.pages != 0) give_span(shard, span);
    return nullptr;
  }
  bound_cached_spans(shard);
  *run = Run{};
  run->start = span.start();
  run->segment = span.arena->segment(span.first);
  run->pages = static_cast<uint32_t>(pages);
  run->slot = kLargeSlot;
  run->shard = static_cast<uint8_t>(shard);
  run->list = Run::kNoList;
  span.arena->label(run->start, 1, make_tag(kLargeSlot, shard), run);
  return run->start;
}

// Gives up the descriptor of a span.
void retire(Run* run) {
  uncount_pages(run->pages);
  PageHeap::return_descriptor(run->shard, run);
}

void free_span(Run* run) {
  const Range range = range_of(run);
  const unsigned shard = run->shard;
  retire(run);
  give_span(shard, range);
}

// A span whose addresses are not ours any more: its pages stay in use for ever.
void lose_span(Run* run) {
  run->segment->arena->unlabel(run->start, 1);
  retire(run);
}

bool resize_span(Run* run, size_t bytes) {
  const size_t pages = span_pages_for(bytes);
  if (pages > kMostPages) return false;
  if (pages > run->pages) {
    const size_t more = pages - run->pages;
    if (!count_pages(more)) return false;
    if (!extend_span(run->shard, range_of(run), more)) {
      uncount_pages(more);
      return false;
    }
  } else if (pages < run->pages) {
    const size_t less = run->pages - pages;
    uncount_pages(less);
    give_span(run->shard, Range{run->segment->arena, range_of(run).first + pages, less});
  }
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
    return allocate_span(shard, bytes, alignment, Place::Any, zero);
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
  if (run->segment->span_owner() != 0) {
    free_span(run);
  } else {
    PageHeap::free(run, run->pages);
  }
}

size_t usable(const void* p) { return size_t{run_of(p)->pages} << kPageShift; }

bool resize_in_place(void* p, size_t bytes) {
  Run* run = run_of(p);
  const size_t pages = pages_for(bytes);
  if (run->segment->span_owner() != 0) return bytes > kSpanMinBytes / 2 && resize_span(run, bytes);
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
  if (from->segment->span_owner() == 0 || bytes <= kSpanMinBytes) return nullptr;
  const size_t held = size_t{from->pages} << kPageShift;
  if (bytes < held || held < kMoveMinBytes || moves_left.load(std::memory_order_relaxed) <= 0) return nullptr;
  bool zero = false;
  const size_t pages = from->pages;
  uncount_pages(pages);  // they are not held twice
  // The kernel throws away what is in memory at the target, and each end of a moved block may be one of a mapping of its own.
  void* to = allocate_span(shard, bytes, 1, Place::NewSegments, &zero);
  recount_pages(pages);
  if (to == nullptr) return nullptr;
  const os::Moved moved = os::calls.move(p, to, held);
  if (unlikely(moved != os::Moved::Yes)) {
    if (moved == os::Moved::Lost) {
      moves_left.store(0, std::memory_order_relaxed);
      lose_span(run_of(to));
    } else {
      free(to, tag_of(to));
    }
    return nullptr;
  }
  moves_left.fetch_sub(1, std::memory_order_relaxed);
  from->segment->arena->unlabel(from->start, 1);
  const Range range = range_of(from);
  const unsigned owner = from->shard;
  retire(from);
  give_clean_span(owner, range);
  return to;
}

}  // namespace hz3::large
