// Descriptors of segments and runs. They live in the arena's metadata, never in the memory they describe.
#pragma once

#include <cstdint>

#include "hz3/page_bits.hpp"
#include "hz3/size_class.hpp"

namespace hz3 {

class Arena;
struct Segment;

// A run: consecutive pages cut into blocks of one class, or one large block. One cache line.
// Guarded by the lock of the shard that owns it (`shard`); a large block's run belongs to whoever holds the block.
struct alignas(kCacheLine) Run {
  void* free;  // blocks that came back, linked through their first word, but for those that start in cold pages
  Run* next;   // in the bin's list of runs with something to give, or in a list of spare descriptors
  Run* prev;
  char* start;
  Segment* segment;
  uint32_t pages;
  uint16_t free_count;   // blocks that came back
  uint16_t cold_count;   // those of them that start in cold pages, and are not on `free`
  uint16_t carved;       // blocks handed out at least once; those above are untouched
  uint16_t most_carved;  // as far as `carved` ever was: a run without blocks in use is carved anew from its start
  uint16_t capacity;     // blocks in all
  uint8_t slot;          // or kLargeSlot
  uint8_t shard;         // owner
  uint8_t list;          // which fullness list the run is on; kNoList when on none
  uint8_t changed;       // central's count of ticks when a block last came or went
  bool old_spare;        // was a spare at the last tick already
  bool zero : 1;         // the pages were zero when the run was made, so what is not carved yet still is
  bool dense : 1;        // see PageHeap::allocate
  uint32_t cold;         // a bit for each page that was given back while others of the run were in use: all blocks that start
                         // in it are free, carved, and not on `free`

  static constexpr uint8_t kNoList = 255;
  static constexpr unsigned kColdPages = 32;  // those behind them are never cold

  // The length of `free`.
  unsigned listed() const { return static_cast<unsigned>(free_count - cold_count); }
  bool is_cold(size_t offset) const {  // the page at this distance from the start
    return offset >> kPageShift < kColdPages && (cold >> (offset >> kPageShift) & 1) != 0;
  }
  bool all_free() const { return free_count == carved; }
  unsigned available() const { return free_count + static_cast<unsigned>(capacity - carved); }
};
static_assert(sizeof(Run) == kCacheLine);

// A segment: kSegmentBytes of an arena. Guarded by the lock of the page heap `heap` while a heap has it, by the arena's
// lock while it is free, by the lock of a shard's spans while it holds those.
struct Segment {
  PageBits used;     // allocated, or set aside by a purge in progress
  PageBits dirty;    // free, and the kernel has not been told so
  PageBits aging;    // dirty already when the purge last came by
  PageBits touched;  // may hold something other than zero
  Segment* next;     // in the heap's list by longest free extent
  Segment* prev;
  Segment* dirty_next;  // in the heap's list of segments with dirty pages, oldest first
  Segment* dirty_prev;
  Arena* arena;
  uint64_t dirty_since_ms;  // when it was put on that list
  uint64_t dirtied_ms;      // when pages of it were last freed, at the latest
  uint64_t swept_ms;        // when short stretches of dirty pages were last given back, too
  uint32_t index;           // within the arena
  uint32_t spans_of;        // the shard whose spans it holds, and 1; 0 when it holds none. See span_owner()
  uint16_t free_pages;
  uint16_t longest;  // length of the longest free extent
  uint16_t dirty_pages;
  uint16_t dense_pages;  // of runs that are to be dense
  uint16_t look_at;      // with so many pages in use it is asked whether it is worth a huge page
  uint8_t heap;          // the number of the page heap
  uint8_t list;          // which list of that heap; kNoList when on none
  bool on_dirty_list;
  bool collapsing;  // the kernel has it in hand, without a lock
  bool huge;        // was made a huge page, and no part of it was given back since

  static constexpr uint8_t kNoList = 255;
  char* start() const;
  // Written under the lock of the shard that it tells, or becomes. Relaxed, no pairs: a thread that holds the lock of its shard
  // reads its own number here, or any other, and then looks no further.
  unsigned span_owner() const { return __atomic_load_n(&spans_of, __ATOMIC_RELAXED); }
  void set_span_owner(unsigned owner) { __atomic_store_n(&spans_of, owner, __ATOMIC_RELAXED); }
  // Set under the lock of the heap. Relaxed, no pairs: who gives back pages of a run asks without it, and may be a moment late.
  bool is_huge() const { return __atomic_load_n(&huge, __ATOMIC_RELAXED); }
  void set_huge(bool is) { __atomic_store_n(&huge, is, __ATOMIC_RELAXED); }
  char* page(unsigned i) const { return start() + (size_t{i} << kPageShift); }
};

}  // namespace hz3
