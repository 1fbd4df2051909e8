// Arenas: large stretches of address space, cut into segments, with the page tags and the descriptors of segments and runs
// beside them.
//
// A stretch is found by a reservation of all of it (PROT_NONE), which is then given back: memory is mapped from the bottom of
// its parts upwards as it is needed, while the kernel places the mappings of others from the top downwards. So a limit on
// address space that a program sets for itself counts what is used, and no more. Where the kernel does not do so, the
// reservation is held, and made usable in place. What is somebody else's by then is never replaced: the arena is full there.
//
// One stretch holds, in this order: tags, run ids, segment descriptors, run descriptors, a bitmap of free segments and
// one of those of them that are not usable, then the segments. All of it is made usable from its start on, as far as it is
// needed. The first arena is what the hot path knows; others are added when it is full or had to be small, and only slow
// paths find their pages. Arenas but the first are given back when memory is short and they are empty.
//
// Owner: the process. ArenaSet's lock guards segment allocation; tags, run ids and descriptors are written by whoever owns
// the run. `committed_pages_` only grows while anything in the arena is in use: release in take_fresh(), and readers get the
// pointer they look up from the program, which ordered it after the growth. retire_empty() takes it back to 0.
#pragma once

#include <atomic>

#include "hz3/lock.hpp"
#include "hz3/segment.hpp"
#include "hz3/tag.hpp"

namespace hz3 {

// What free() reads of the first arena, on one line that is hardly ever written.
//
// Written under ArenaSet's lock: base and tags once, before pages is first raised from 0; pages only grows. A thread that
// frees a block of ours got it from the program, whose own synchronisation orders the block's allocation, and with it these
// writes, before the free: so plain reads see them. For any other pointer an old value of `pages` only sends the free to the
// slow path. So the release of `pages` (publish_hot_pages) has no acquire of its own to pair with: it keeps base and
// tags before it, and the program's synchronisation does the rest.
struct alignas(kCacheLine) HotMap {
  uintptr_t base;
  size_t pages;  // tags below this page index can be read
  Tag* tags;
};
HZ3_HIDDEN extern HotMap hot_map;

// A plain load that the compiler may fold into an operand; atomic where ThreadSanitizer looks on.
template <typename T>
HZ3_ALWAYS_INLINE T racy_read(const T& x) {
#if defined(__SANITIZE_THREAD__)
  return __atomic_load_n(&x, __ATOMIC_RELAXED);
#else
  return x;
#endif
}

// A zero-initialised part of the stretch that is made usable from its start on.
class MetaRegion {
 public:
  void place(char* base, size_t bytes, bool held) { base_ = base, bytes_ = bytes, usable_ = 0, held_ = held; }
  // Makes at least the first `bytes` usable. False when the kernel refuses.
  bool ensure(size_t bytes);
  char* base() const { return base_; }
  size_t usable() const { return usable_; }

 private:
  char* base_;
  size_t bytes_;
  size_t usable_;
  bool held_;  // reserved until it is made usable
};

class Arena {
 public:
  bool contains(const void* p) const {
    // acquire: pairs with the release in take_fresh()
    return reinterpret_cast<uintptr_t>(p) - base_ < committed_pages_.load(std::memory_order_acquire) << kPageShift;
  }
  size_t page_index(const void* p) const { return (reinterpret_cast<uintptr_t>(p) - base_) >> kPageShift; }
  // relaxed: for a block of ours the program ordered label() before this; for any other address it does not matter
  Tag tag(const void* p) const { return __atomic_load_n(&tags_[page_index(p)], __ATOMIC_RELAXED); }
  // The run that the page of `p` was last part of; meaningful only when the tag is not 0. relaxed: as tag(), pairs with
  // the store in label() through the program
  Run* run(const void* p) const { return runs_ + __atomic_load_n(&run_ids_[page_index(p)], __ATOMIC_RELAXED); }
  char* segment_start(uint32_t index) const { return reinterpret_cast<char*>(base_) + (size_t{index} << kSegmentShift); }
  char* page_start(size_t page) const { return reinterpret_cast<char*>(base_) + (page << kPageShift); }
  Segment* segment(size_t page) const { return segments_ + page / kSegmentPages; }  // that the page is in
  // Pages that have a segment. acquire: pairs with the release in take_fresh()
  size_t page_count() const { return committed_pages_.load(std::memory_order_acquire); }
  unsigned number() const { return number_; }
  size_t segments_in_use() const { return segments_used_ - free_segments_; }

  // Writes the tags and run ids of `pages` pages from `start` on.
  void label(const char* start, unsigned pages, Tag tag, const Run* run);
  // Sets the tags of `pages` pages to 0.
  void unlabel(const char* start, unsigned pages);

 private:
  friend class ArenaSet;
  static char* find_stretch(size_t bytes, bool* held);
  bool reserve(size_t bytes, size_t least);
  bool grow(uint32_t segments);
  bool commit_to(uint32_t end);
  Segment* take_fresh(uint32_t count, uint32_t alignment);
  Segment* take_freed(uint32_t count, uint32_t alignment);
  Segment* prepare(uint32_t first, uint32_t count);
  bool recommit(uint32_t first, uint32_t count);
  bool decommit_free();
  void unmap();
  bool is_free(uint32_t i) const { return (free_bits_[i / 64] >> (i % 64)) & 1; }
  void mark_free(uint32_t i) { free_bits_[i / 64] |= uint64_t{1} << (i % 64); }
  void mark_taken(uint32_t i) { free_bits_[i / 64] &= ~(uint64_t{1} << (i % 64)); }

  uintptr_t base_ = 0;
  std::atomic<size_t> committed_pages_{0};  // release in take_fresh() and retire_empty(), acquire in contains()
  Tag* tags_ = nullptr;
  uint32_t* run_ids_ = nullptr;
  Segment* segments_ = nullptr;
  Run* runs_ = nullptr;
  uint64_t* free_bits_ = nullptr;
  uint64_t* raw_bits_ = nullptr;  // of the free segments, those that are reserved but not usable
  char* reservation_ = nullptr;
  size_t reservation_bytes_ = 0;
  static constexpr unsigned kRegions = 6;
  enum { kTags, kRunIds, kSegments, kRuns, kFree, kRaw };
  MetaRegion region_[kRegions] = {};
  bool held_ = false;  // the reservation is
  uint32_t segments_max_ = 0;
  uint32_t segments_used_ = 0;     // segments below this index were taken at least once
  uint32_t segments_usable_ = 0;   // those below this index were made usable
  uint32_t segments_retired_ = 0;  // as many were, in an arena that is about to be unmapped
  uint32_t free_segments_ = 0;     // of those, free again
  uint32_t runs_used_ = 0;
  unsigned number_ = 0;
};

// All arenas. Every function may be called from any thread.
class ArenaSet {
 public:
  // The arena of an address; nullptr when it is not ours.
  Arena* find(const void* p) {
    if (likely(reinterpret_cast<uintptr_t>(p) - racy_read(hot_map.base) < racy_read(hot_map.pages) << kPageShift))
      return &arena_[0];
    return find_slow(p);
  }
  // `count` adjacent segments, the first at a multiple of `alignment` segments from address 0, all pages free and
  // unlabelled. Pages that may not be zero are marked `touched`. nullptr when memory or address space is exhausted.
  Segment* allocate(uint32_t count, uint32_t alignment = 1);
  // Takes back `count` segments that hold nothing.
  void release(Segment* first, uint32_t count);
  // When the kernel refuses memory: gives the commit charge of free segments back. True when there was any.
  bool decommit_free();
  // Then arenas without a segment in use, but never the first: this takes them out of use and returns their numbers as a
  // bit set, unmap() gives the addresses back once nobody keeps descriptors of theirs.
  uint64_t retire_empty();
  void unmap(uint64_t retired);
  // Allocates the `more` segments behind `last`, when they are free. False when they are not, or when some were never used and
  // it asks for Freed ones: whoever gives up what is before them each time would move on through all addresses.
  enum class Behind { Freed, FreedOrFresh };
  bool extend(Segment* last, uint32_t more, Behind behind);
  // Up to `n` run descriptors, linked by `next`, for a segment of `arena`. nullptr when the kernel refuses memory.
  Run* allocate_runs(Arena* arena, unsigned n);

  // f(arena) for each until it tells true.
  template <typename F>
  void any(F f) {
    // acquire: as in find_slow()
    const unsigned count = count_.load(std::memory_order_acquire);
    for (unsigned i = 0; i < count && !f(arena_[i]); i++) continue;
  }

  size_t bytes_in_use();
  // Checks that the free segments are those that are counted (debug builds and tests).
  void check();
  Mutex& mutex() { return lock_; }

 private:
  HZ3_SLOW Arena* find_slow(const void* p);
  Arena* add_arena(uint32_t least_segments);
  void publish_hot_pages();

  Mutex lock_;
  Arena arena_[kArenasMax];
  // Arenas that there may be: release in add_arena() pairs with the acquire in find_slow(), so that an arena is
  // complete before it is found. Relaxed where lock_ is held, under which alone it is written.
  std::atomic<unsigned> count_{0};
};
HZ3_HIDDEN extern ArenaSet arenas;

inline char* Segment::start() const { return arena->segment_start(index); }

// The tag of the page of any pointer; 0 when it is not ours.
inline Tag tag_of(const void* p) {
  Arena* a = arenas.find(p);
  return a != nullptr ? a->tag(p) : 0;
}
// The run of a block of ours (tag_of(p) != 0).
inline Run* run_of(const void* p) { return arenas.find(p)->run(p); }

}  // namespace hz3
