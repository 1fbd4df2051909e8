// Central: per shard and bin, the runs that have blocks no thread holds.
//
// Owner: the shard. Everything is guarded by the shard's lock (one per shard); page heap calls happen outside it.
// A run is on the list of its fullness while it has something to give, on none while it has not, and leaves the shard when
// its last block comes back, or a tick later when it is the bin's spare. Refills take from the fullest run first, so that
// sparse ones empty.
//
// A run from which nothing was taken, and to which nothing came back, for the decay time gives those of its pages to the kernel
// in which all blocks are free, and is on the list of cold runs from then on, from which refills take last (cool()).
#pragma once

#include "hz3/lock.hpp"
#include "hz3/page_heap.hpp"

namespace hz3 {

// Blocks linked through their first word.
struct Batch {
  void* head;
  unsigned count;
  bool zero;  // all of it is still as the kernel gave it, the links apart
};

// Reading and writing of free-list links: the one place to change for encoded links.
HZ3_ALWAYS_INLINE void* link_of(const void* block) { return *static_cast<void* const*>(block); }
HZ3_ALWAYS_INLINE void set_link(void* block, void* next) { *static_cast<void**>(block) = next; }

// Sends blocks of any classes and owners to central of their owners. Any thread.
void return_home(void* list);

class Central {
 public:
  static Central& of(unsigned shard);

  // About `want` blocks of a class from runs that the shard has: never more when that is 1, else perhaps the whole list of a
  // run. None (head == nullptr) when the shard has none.
  Batch take(Slot slot, unsigned want);
  // The same from a new run; at least one block. head == nullptr when there is no memory.
  Batch make(Slot slot, unsigned want);
  // How many blocks of a class have come back and wait, a moment ago. Any thread, without the lock: relaxed, as it only
  // tells whether to ask; the blocks themselves come through take(), which locks.
  unsigned returned(Slot slot) const { return returned_[slot].load(std::memory_order_relaxed); }
  // How many runs of a class have blocks in use, a moment ago; the same.
  unsigned runs(Slot slot) const { return runs_[slot].load(std::memory_order_relaxed); }
  // Takes back those blocks of a list, of any classes, that this shard owns; returns the others, linked.
  void* put(void* list);

  // Makes a run of one block, which is in use, one of another class, or of none (kLargeSlot).
  void reclassify(Run* run, Slot slot);

  // Gives the spare runs to the page heap that have been spare since the last call. Called once a tick.
  void release_spares() {
    if (has_spares()) release_old_spares();
  }
  bool has_spares() const { return spares_.load(std::memory_order_relaxed) != 0; }
  // Gives all of them.
  void release_all_spares();

  // Gives pages back of runs that have blocks in use, and have been idle for so many ticks (less than 256; 0: of all), until
  // one part of `work` is used up. No lock is held while the kernel works: the purge takes the free blocks of a run for so
  // long, as a thread would.
  struct Work {
    unsigned visits;  // of runs
    unsigned links;   // between their free blocks
    unsigned calls;   // of the kernel
    bool left() const { return visits != 0 && links != 0 && calls != 0; }
  };
  void cool(unsigned idle_ticks, Work& work) {
    if (has_warm()) cool_warm(idle_ticks, work);
  }
  // Tells that a tick has passed.
  void age() {
    if (has_warm()) age_warm();
  }
  // Whether there are runs that cool() has still to look at. A moment old; never where huge pages are asked for from the
  // start, which a purge of parts would break up.
  bool has_warm() const { return (warm_word(0) | warm_word(1)) != 0 && cools(); }

  // Checks the invariants of every run on the lists (for tests). Dies with the ID of the broken one.
  void check();
  struct Totals {
    size_t runs = 0, run_bytes = 0, free_bytes = 0;
  };
  Totals totals();
  Mutex& mutex() { return lock_; }

 private:
  static constexpr unsigned kFullness = 4;
  static constexpr unsigned kCold = kFullness, kLists = kFullness + 1;
  Run*& first_of(Slot slot, unsigned list) { return list != kCold ? list_[slot][list] : cold_[slot]; }

  unsigned self() const;
  void check_run(const Run* run, Slot slot, unsigned list) const;
  void take_from_lists(Slot slot, unsigned want, Batch& batch);
  // Counts that are written under the lock, so that load and store need not be one operation, and that others read as a
  // hint without it: relaxed, nothing is ordered by them.
  static void count(std::atomic<uint32_t>& sum, int more) {
    sum.store(sum.load(std::memory_order_relaxed) + static_cast<unsigned>(more), std::memory_order_relaxed);
  }
  void count_returned(Slot slot, int more) { count(returned_[slot], more); }
  void count_runs(Slot slot, int more) { count(runs_[slot], more); }
  void count_spares(int more) { count(spares_, more); }
  void take_from_run(Run* run, unsigned want, Batch& batch);
  void relist(Run* run);
  void unlist(Run* run);
  void list(Run* run, unsigned list);
  uint64_t warm_word(unsigned i) const { return warm_[i].load(std::memory_order_relaxed); }
  void set_warm(Slot slot, bool warm);
  static bool cools();
  struct Cooling;
  void age_warm();
  void cool_warm(unsigned idle_ticks, Work& work);
  bool next_warm(Slot& slot) const;
  unsigned choose(Slot& slot, unsigned idle_ticks, Work& work, Cooling* chosen);
  // Whether a run with free blocks has likely enough a page without one in use: for sure, if each of those is in one page.
  static bool may_cool(const Run* run) { return run->carved - run->free_count <= static_cast<int>(run->pages); }
  // The list on which the first of them are: those of many small blocks are nearly empty.
  static unsigned least_list(Slot slot) {
    const RunShape shape = class_info(slot).run;
    return shape.blocks > 4 * shape.pages ? kFullness - 1 : 0;
  }
  static void find_pages(const Run* run, Cooling& c);
  bool take_out(Run* run, Cooling& c);
  void put_back(const Cooling& c);
  static unsigned warm(Run* run);
  static const char* fault_of(const Run* run, const void* block, unsigned back);
  Run* account(Run* run, unsigned back, Run* freed);
  Run* retire(Run* run, Run* freed);
  void release_old_spares();
  void release_spares_if(bool (*idle)(const Run*));
  static void release(Run* freed);

  Mutex lock_;
  // A bit for each class of which a block came back to a run that may_cool() since cool() looked, or was not idle then.
  // Written under the lock, read without it by has_warm(): relaxed, a hint.
  std::atomic<uint64_t> warm_[2] = {};
  uint8_t ticks_ = 0;                  // those that age() was told of
  Slot next_cool_ = 1;                 // with which class the next cool() begins
  Run* list_[kSlots][kFullness] = {};  // [0]: fewest free
  Run* cold_[kSlots] = {};             // those that cool() has looked at: the list kCold
  // A run whose blocks are all free, kept from one tick to the next in case the bin wants it back: making and dissolving
  // runs of a bin that lives around zero would cost more than the blocks.
  Run* spare_[kSlots] = {};
  // Written by count() alone. Read without the lock by release_spares(), runs() and returned(), in this order.
  std::atomic<uint32_t> spares_{0};
  std::atomic<uint32_t> runs_[kSlots] = {};      // with blocks in use
  std::atomic<uint32_t> returned_[kSlots] = {};  // sum of free_count of the runs on the lists
};
HZ3_HIDDEN extern Central centrals[kShards];
inline Central& Central::of(unsigned shard) { return centrals[shard]; }

}  // namespace hz3
