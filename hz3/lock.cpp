// The contended paths of the mutex in hz3/lock.hpp.
#include "hz3/lock.hpp"

namespace hz3 {
namespace {
constexpr int kSpins = 64;  // about as long as one batch transfer holds a lock
}  // namespace

void Mutex::lock_slow() {
  for (int i = 0; i < kSpins; i++) {
    uint32_t seen = state_.load(std::memory_order_relaxed);
    // acquire: pairs with the release in unlock()
    if (seen == 0 && state_.compare_exchange_weak(seen, 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    cpu_relax();
  }
  // acquire: pairs with the release in unlock(); 2 is kept so that our unlock() wakes the next sleeper
  while (state_.exchange(2, std::memory_order_acquire) != 0) {
    os::futex_wait(reinterpret_cast<uint32_t*>(&state_), 2);
  }
}

void Mutex::unlock_slow() { os::futex_wake(reinterpret_cast<uint32_t*>(&state_), 1); }

}  // namespace hz3
