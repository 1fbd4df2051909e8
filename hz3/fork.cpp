// See hz3/fork.hpp.
#include "hz3/fork.hpp"

#include <pthread.h>

#include "hz3/background.hpp"
#include "hz3/depot.hpp"
#include "hz3/large.hpp"
#include "hz3/remote/inbox.hpp"
#include "hz3/thread_cache.hpp"

namespace hz3::fork {
namespace {

// Every lock of the library in the order in which fork takes them, and which fork had to.
constexpr unsigned kLocks = 2 + 2 * kShards + kPageHeaps + kSlots;
constinit unsigned taken[kLocks] = {};  // 0: none, else 1 + its `nested`
constinit Mutex fork_lock;              // one thread that forks at a time: guards all of these
// Forks by signal handlers that interrupted this one. Each takes what those outside it have not come to, and releases it.
constinit unsigned nested = 0;
// What the code held that a forking signal handler interrupted: set aside until its fork is over (debug builds).
constexpr unsigned kNestedKept = 16;
[[maybe_unused]] constinit LocksHeld held_before[kNestedKept];

Mutex& lock_at(unsigned i) {
  if (i == 0) return thread_registry.mutex();
  if (--i < kShards) return Central::of(i).mutex();
  if ((i -= kShards) < kPageHeaps) return PageHeap::number(i).mutex();
  if ((i -= kPageHeaps) < kShards) return large::span_mutex(i);
  if ((i -= kShards) < kSlots) return Depot::of(i).mutex();
  return arenas.mutex();
}

void finish() {
  for (unsigned i = kLocks; i-- > 0;)
    if (taken[i] == nested + 1) {
      taken[i] = 0;
      lock_at(i).unlock_in_order();
    }
  if constexpr (kDebugChecks) locks_held = held_before[nested % kNestedKept];
  if (nested != 0) {
    nested--;
  } else {
    fork_lock.unlock_in_order();
  }
}

}  // namespace

void prepare() {
  if (fork_lock.held_by_me()) {
    nested++;
  } else {
    fork_lock.lock_in_order();
  }
  if constexpr (kDebugChecks) {
    held_before[nested % kNestedKept] = locks_held;
    locks_held = LocksHeld{};
  }
  bool interrupted = false;
  for (unsigned i = 0; i < kLocks; i++) interrupted = interrupted || lock_at(i).held_by_me();
  if (!interrupted) {
    ThreadCache* mine = tls_own;
    if (mine != nullptr && !mine->stash.busy()) mine->stash.stash_flush_all();
    for (unsigned i = 0; i < kShards; i++) remote::drain_to_central(i);
  }
  for (unsigned i = 0; i < kLocks; i++) {
    if (lock_at(i).held_by_me()) continue;
    lock_at(i).lock_in_order();
    taken[i] = nested + 1;
  }
}

void parent() { finish(); }

void child() {
  thread_registry.keep_only(tls_own);
  for (unsigned i = 0; i < kShards; i++) remote::Inbox::of(i).abandon();
  background::in_child();
  PageHeap::in_child();
  finish();
}

namespace {
// Before all other constructors, those of the libraries that were loaded before this one included (it is linked with -z
// initfirst): handlers registered later run earlier in prepare and later in parent and child, so all of them may allocate.
[[gnu::constructor(101)]] void register_handlers() { pthread_atfork(prepare, parent, child); }
}  // namespace

}  // namespace hz3::fork
