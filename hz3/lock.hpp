// A mutex on a futex word. Zero-initialised = unlocked, so it works before any constructor has run and needs no destructor.
// It knows its owner, because fork() may be called from a signal handler that interrupted the holder.
//
// Protocol: state_ 0 free, 1 held, 2 held with sleepers. lock(): 0 -> 1 (acquire) pairs with unlock()'s exchange to 0 (release).
#pragma once

#include <atomic>

#include "hz3/os.hpp"
#include "hz3/platform.hpp"

namespace hz3 {

// An address that only this thread has; used as its identity.
inline const void* this_thread_identity() { return __builtin_thread_pointer(); }

class Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() {
    uint32_t expected = 0;
    // acquire: pairs with the release in unlock()
    if (!state_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) lock_slow();
    owner_.store(this_thread_identity(), std::memory_order_relaxed);  // read by held_by_me() of the same thread alone
  }

  bool try_lock() {
    uint32_t expected = 0;
    // acquire: pairs with the release in unlock()
    if (!state_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) return false;
    owner_.store(this_thread_identity(), std::memory_order_relaxed);
    return true;
  }

  void unlock() {
    owner_.store(nullptr, std::memory_order_relaxed);
    // release: pairs with the acquire in lock()
    if (state_.exchange(0, std::memory_order_release) == 2) unlock_slow();
  }

  // True only when the calling thread holds the lock. A thread sees its own stores, so relaxed is enough.
  bool held_by_me() const { return owner_.load(std::memory_order_relaxed) == this_thread_identity(); }

 private:
  HZ3_SLOW void lock_slow();
  HZ3_SLOW void unlock_slow();

  std::atomic<uint32_t> state_{0};
  std::atomic<const void*> owner_{nullptr};
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
