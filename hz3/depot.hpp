// The depot: for each class, lists of free blocks on their way from one thread's bin to that of another, whoever owns them. A
// bin that overflows gives a list away as a whole, one that runs empty takes one as a whole: a lock and a few words, and no
// block is touched. What the depot has no room for goes to its owners, and what was not asked for between two ticks, too. It
// has room only for what is exchanged: its limit doubles when it is asked for a list that it had no room for, and is halved at
// ticks between which it was not made use of.
//
// Only for classes whose blocks share no cache lines with others: else two threads that write to neighbours would pay for it
// with each access, for as long as the blocks live.
//
// Owner: the process. Guarded by a lock for each class; no other lock is taken while it is held.
// In the model of the way between threads: tests/model/remote.pml.
// After J. Bonwick, J. Adams: Magazines and Vmem (USENIX 2001); there the lists are arrays of a fixed length.
#pragma once

#include "hz3/central.hpp"

namespace hz3 {

class alignas(kCacheLine) Depot {
 public:
  struct List {
    void* head;
    unsigned count;
  };
  static Depot& of(Slot slot);
  // Whether blocks of a class may go to whichever thread wants them.
  static bool serves(Slot slot) { return class_bytes(slot) % kCacheLine == 0; }

  // Takes a list of `count` blocks or less, linked through their first words. False when there is no room. Any thread.
  bool put(void* list, unsigned count);
  // The list that came last, of at most so many blocks; head == nullptr when there is none. Any thread.
  List take() {
    // relaxed: hints whether to come and look; all else is read under the lock
    if (lists_.load(std::memory_order_relaxed) == 0 && !overflowed_.load(std::memory_order_relaxed)) return List{};
    return take_slow();
  }
  // Sends the lists home that nobody asked for since the last call, of all classes. Called once a tick.
  static void send_idle_home();
  // Sends all of them home.
  static void send_all_home();

  // What it takes of the process' budget. With all locks held, or no other thread.
  static size_t granted();
  // Checks that the lists are of the class and no longer than is counted (debug builds and tests).
  static void check();
  // Blocks that wait, of this class, at most. Any thread, a moment old.
  unsigned blocks() const { return blocks_.load(std::memory_order_relaxed); }
  Mutex& mutex() { return lock_; }

 private:
  static constexpr unsigned kLists = 31;

  Slot self() const;
  List take_slow();
  void set_limit(size_t bytes);
  void* take_oldest();
  void* take_idle();
  void* take_any();
  size_t limit() const { return limit_.load(std::memory_order_relaxed); }
  void set_counts(unsigned lists, unsigned blocks) {
    lists_.store(lists, std::memory_order_relaxed);
    blocks_.store(blocks, std::memory_order_relaxed);
  }

  Mutex lock_;
  // Written under the lock, read without it as hints: relaxed, no load pairs with a store.
  std::atomic<uint32_t> lists_{0};
  std::atomic<uint32_t> blocks_{0};
  std::atomic<bool> overflowed_{false};  // since it was last asked for a list and had none
  std::atomic<size_t> limit_{0};         // bytes that it may hold, from the budget of the process
  bool used_ = false;                    // since the last tick
  uint32_t idle_ = 0;                    // the fewest lists there were since the last tick: so many were not asked for
  List list_[kLists] = {};
};
HZ3_HIDDEN extern Depot depots[kSlots];
inline Depot& Depot::of(Slot slot) { return depots[slot]; }

}  // namespace hz3
