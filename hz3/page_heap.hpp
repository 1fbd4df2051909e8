// The page heaps: segments, the page runs in them, and the way of free pages back to the kernel. There are fewer of them than
// shards: pages are asked for far more rarely than blocks, and what one heap holds free the others have to do without.
//
//   untouched ──allocate──► used ──free──► dirty ──(decay / 2)──► aging ──(decay / 2)──► purged (= untouched)
//                            ▲               │                      │
//                            └───allocate────┴──────────────────────┘
//   a segment whose pages are all untouched or purged goes back to the arena
//
// Transitions: allocate(), free(), purge() (which both marks pages as aging and purges those that were), release of a
// segment in purge().
//
// Guarded by lock_, one per heap; no two heaps' locks are ever held together, and none during a system call: a purge
// sets the pages aside as used, unlocks, calls madvise, locks again.
#pragma once

#include <atomic>

#include "hz3/arena.hpp"
#include "hz3/message.hpp"

namespace hz3 {

// Programs whose use swings faster than this, threads that wait for a processor with much in flight among them, find their
// pages in memory when they want them back (docs/experiments/purge-by-age.md). Where several threads are at work it is the
// whole decay time: each call that purges interrupts the processors of the others.
inline constexpr unsigned kSwingMs = 100 < kPurgeDecayMs ? 100 : kPurgeDecayMs;

// What the kernel is told of pages that nobody uses.
inline constexpr os::Advice kGivesBack = kPurgeAdvice == PurgeAdvice::Free   ? os::Advice::Free
                                         : kPurgeAdvice == PurgeAdvice::Cold ? os::Advice::Cold
                                                                             : os::Advice::DontNeed;

// Advice for the kernel, with no lock held. False when it refuses.
inline bool tell_kernel(void* pages, size_t bytes, os::Advice advice) {
  if constexpr (kDebugChecks)
    if (!locks_held.none()) invariant_failed("I23", "a lock is held while the kernel purges");
  return os::calls.advise(pages, bytes, advice);
}

inline bool give_to_kernel(void* pages, size_t bytes) { return tell_kernel(pages, bytes, kGivesBack); }

// Before a part of a segment that is_huge() is given back: has the kernel break up the huge page, by way of pages of that part.
// It would keep the whole of it in memory else, and only count it no longer. Clears the mark.
inline void break_up(Segment* s, void* pages) {
  s->set_huge(false);
  tell_kernel(pages, os::page_size(), os::Advice::Free);
}

inline constexpr unsigned kPageHeaps = kShards < 8 ? kShards : 8;

class PageHeap {
 public:
  // A run of `pages` pages (at most kSegmentPages / 2) for a shard, aligned to `alignment` pages, neither tagged nor carved:
  // the fields start, segment, pages, zero and dense are set. Its first `soon` pages are about to be written; if it is to be
  // `dense`, all of them are before long, as where no block is longer than a page. nullptr when there is no memory.
  static Run* allocate(unsigned shard, unsigned pages, unsigned alignment, unsigned soon, bool dense = false);
  // Takes a run back; its tags must be 0 by now. Its first `written` pages were in use, those behind them never. Any thread.
  static void free(Run* run, unsigned written);
  // Grows a run in place to `pages` pages; false when its neighbour is in use. The new pages are unlabelled. `zero` tells
  // whether they are.
  static bool extend(Run* run, unsigned pages, bool* zero);
  // Gives back all but the first `pages` pages.
  static void shrink(Run* run, unsigned pages);
  // Gives back what has been free for the decay time (`everything`: all that is free) and empty segments. Any thread.
  static void purge_all(uint64_t now_ms, bool everything);

  static size_t dirty_pages();
  // The dirty pages that are kept until they decay: a 32nd of what was in use of late, at most the configured reserve. Those
  // above it decay within the time of a swing.
  static size_t reserve_pages();
  // The dirty pages that are kept at all, what exceeds them goes on the spot: the configured reserve; more, within bounds, in
  // a program that took as many for new runs in the last moments: its use swings, and it will want them back.
  static size_t most_dirty_pages(uint64_t now_ms);
  // What the limits of hz3/settings.hpp are about: pages in runs, dirty ones, and those of spans, in use or cached.
  static size_t held_pages();
  static bool above_soft_limit();
  static bool above_hard_limit();
  // Pages that were taken for runs of late: within the last swing_ms() and as long before.
  static size_t taken_pages(uint64_t now_ms);
  // Tells of so many more pages of spans, or fewer.
  static void note_spans(ptrdiff_t more);
  // Tells the page heaps what time it is: they do not look at the clock for every run that is freed. Any thread.
  static void set_now(uint64_t now_ms);
  // Tells them whether more than one thread is at work. Once a tick.
  static void set_several_threads(bool several);
  static uint64_t swing_ms();
  // Lets the memory of what was in use fade. Called once a tick.
  static void relax_reserve();
  static size_t free_pages();
  // Checks the books of every segment (debug builds and tests).
  void check();
  Mutex& mutex() { return lock_; }
  static PageHeap& number(unsigned i);
  // In a child of fork(), with all locks held: forgets what other threads had the kernel do.
  static void in_child();
  // Forgets the unused run descriptors of the arenas in the bit set, which are about to be unmapped.
  static void forget_descriptors(uint64_t arenas);
  // A run descriptor for a span, which no heap lists.
  static Run* take_descriptor(unsigned shard, Arena* arena);
  static void return_descriptor(unsigned shard, Run* run);

 private:
  // Lists by the length of the longest free extent: 0 for none free, else 1 + log2.
  static constexpr unsigned kLists = log2_floor(kSegmentPages) + 2;
  static unsigned list_for(unsigned longest) { return longest == 0 ? 0 : 1 + log2_floor(longest); }

  enum class Look { InMemory, Anywhere };
  static Run* find_run(unsigned shard, unsigned pages, unsigned alignment, unsigned soon, bool dense);
  Run* allocate_here(unsigned pages, unsigned alignment, unsigned soon, bool dense, Look look);
  struct Place {
    Segment* segment;
    unsigned at;
  };
  static bool in_memory(const Segment* s, unsigned pages, unsigned alignment, unsigned soon, unsigned* at);
  static unsigned best_start(const Segment* s, unsigned pages, unsigned alignment, unsigned soon);
  Place find(unsigned pages, unsigned alignment, unsigned soon, Look look);
  Run* carve(Segment* s, unsigned at, unsigned pages, bool dense);
  void adopt(Segment* s, unsigned self);
  void free_range(Segment* s, unsigned first, unsigned pages);
  void take_range(Segment* s, unsigned first, unsigned pages);
  void remeasure(Segment* s);
  static unsigned longest_extent(const Segment* s);
  void relist(Segment* s);
  void unlist(Segment* s);
  size_t soil(Segment* s, unsigned first, unsigned pages, unsigned written);
  void note_dirty(Segment* s);
  void forget_dirty(Segment* s);
  void purge(uint64_t now_ms, bool everything);
  unsigned purge_segment(Segment* s, uint64_t now_ms, bool everything);
  static bool keeps_huge(const Segment* s);
  void consider_huge(Segment* s);
  bool worth_a_huge_page(const Segment* s) const;
  void collapse(Segment* s);
  void count_dirty(int more);
  static void note_used(size_t pages);
  static void note_unused(size_t pages);
  static uint64_t looked_ms();
  Run* descriptor(Arena* arena);

  Mutex lock_;
  Segment* list_[kLists] = {};
  Segment* dirty_first_ = nullptr;
  Segment* dirty_last_ = nullptr;
  Run* spare_[kArenasMax] = {};  // unused run descriptors, by arena
  size_t segments_ = 0;
  unsigned collapsing_ = 0;  // segments that are
  // relaxed: changed under lock_, read without it as hints for those who look for pages to share, and for statistics.
  // No load pairs with a store: whoever acts on one takes lock_ and looks again.
  std::atomic<size_t> free_pages_{0};
  std::atomic<size_t> dirty_pages_{0};
  std::atomic<size_t> dirty_segments_{0};  // on the list for the purge to look at; purge_all() locks when there are any
};
HZ3_HIDDEN extern PageHeap page_heaps[kPageHeaps];
inline PageHeap& PageHeap::number(unsigned i) { return page_heaps[i]; }

}  // namespace hz3
