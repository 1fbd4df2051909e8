// A mutex on a futex word. Zero-initialised = unlocked, so it works before any constructor has run and needs no destructor.
//
// The word names the owner from the very instruction that acquires it: fork() may be called from a signal handler that
// interrupted a thread anywhere, and has to know which locks that thread holds.
//
// Protocol: state_ is 0 when free, else the owner's identity << 1, plus 1 when somebody may sleep. lock(): 0 -> identity
// (acquire) pairs with unlock()'s exchange to 0 (release).
#pragma once

#include <atomic>

#include "hz3/config.hpp"
#include "hz3/os.hpp"
#include "hz3/platform.hpp"
#include "hz3/statistics.hpp"

namespace hz3 {

// A number that only this thread has, from 1. Given out at first use; a child of fork() keeps its parent thread's.
HZ3_HIDDEN extern thread_local constinit uint32_t thread_identity;
HZ3_SLOW uint32_t make_thread_identity();

// How many locks the calling thread holds, in debug builds: at most one, and none while the kernel purges.
class LocksHeld {
 public:
  void note_locked();
  void note_unlocked() { count_--; }
  bool none() const { return count_ == 0; }

 private:
  uint32_t count_ = 0;
};
HZ3_HIDDEN extern thread_local constinit LocksHeld locks_held;

class Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() {
    if constexpr (kDebugChecks) locks_held.note_locked();
    lock_in_order();
  }
  // For fork alone, which takes all locks one after another.
  void lock_in_order() {
    uint32_t me = thread_identity;
    if (unlikely(me == 0)) me = make_thread_identity();
    statistics::count(statistics::kLocks);
    uint32_t expected = 0;
    // acquire: pairs with the release in unlock()
    if (!state_.compare_exchange_strong(expected, me << 1, std::memory_order_acquire, std::memory_order_relaxed)) lock_slow(me);
  }

  bool try_lock() {
    uint32_t me = thread_identity;
    if (unlikely(me == 0)) me = make_thread_identity();
    uint32_t expected = 0;
    // acquire: pairs with the release in unlock()
    if (!state_.compare_exchange_strong(expected, me << 1, std::memory_order_acquire, std::memory_order_relaxed)) return false;
    statistics::count(statistics::kLocks);
    if constexpr (kDebugChecks) locks_held.note_locked();
    return true;
  }

  void unlock() {
    if constexpr (kDebugChecks) locks_held.note_unlocked();
    unlock_in_order();
  }
  void unlock_in_order() {
    // release: pairs with the acquire in lock()
    if ((state_.exchange(0, std::memory_order_release) & kSleepers) != 0) unlock_slow();
  }

  // True only when the calling thread holds the lock. A thread sees its own stores, so relaxed is enough.
  bool held_by_me() const {
    const uint32_t me = thread_identity;
    return me != 0 && state_.load(std::memory_order_relaxed) >> 1 == me;
  }

 private:
  static constexpr uint32_t kSleepers = 1;

  HZ3_SLOW void lock_slow(uint32_t me);
  HZ3_SLOW void unlock_slow();

  std::atomic<uint32_t> state_{0};
};

class LockGuard {
 public:
  explicit LockGuard(Mutex& m) : mutex_(m) { mutex_.lock(); }
  ~LockGuard() { mutex_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace hz3
