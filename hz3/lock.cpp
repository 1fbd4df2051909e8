// The contended paths of the mutex in hz3/lock.hpp.
#include "hz3/lock.hpp"

#include "hz3/message.hpp"

namespace hz3 {
namespace {
constexpr int kSpins = 64;  // about as long as one batch transfer holds a lock
constinit std::atomic<uint32_t> identities{0};
}  // namespace

thread_local constinit uint32_t thread_identity = 0;

thread_local constinit LocksHeld locks_held;

void LocksHeld::note_locked() {
  if (count_++ != 0) invariant_failed("I22", "a thread takes a second lock");
}

uint32_t make_thread_identity() {
  // relaxed: only has to be unique. After 2^31 threads it wraps; two of that distance are not alive together.
  uint32_t me = 0;
  while (me == 0) me = (identities.fetch_add(1, std::memory_order_relaxed) + 1) & 0x7fffffff;
  thread_identity = me;
  return me;
}

void Mutex::lock_slow(uint32_t me) {
  for (int i = 0; i < kSpins; i++) {
    // relaxed, here and below: only whether to try; what the lock guards is ordered by the exchange that takes it
    uint32_t seen = state_.load(std::memory_order_relaxed);
    if (seen == 0) statistics::count(statistics::kLockRetries);
    // acquire: pairs with the release in unlock()
    if (seen == 0 && state_.compare_exchange_weak(seen, me << 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    cpu_relax();
  }
  for (;;) {
    uint32_t seen = state_.load(std::memory_order_relaxed);
    statistics::count(statistics::kLockRetries);
    if (seen == 0) {
      // Others may sleep still, so that our unlock() has to wake the next. acquire: pairs with the release in unlock()
      if (state_.compare_exchange_weak(seen, me << 1 | kSleepers, std::memory_order_acquire, std::memory_order_relaxed)) return;
      continue;
    }
    // relaxed: the mark is read by the exchange of the same word in unlock(), which cannot miss it
    if ((seen & kSleepers) == 0 &&
        !state_.compare_exchange_weak(seen, seen | kSleepers, std::memory_order_relaxed, std::memory_order_relaxed))
      continue;
    os::futex_wait(reinterpret_cast<uint32_t*>(&state_), seen | kSleepers);
  }
}

void Mutex::unlock_slow() { os::futex_wake(reinterpret_cast<uint32_t*>(&state_), 1); }

}  // namespace hz3
