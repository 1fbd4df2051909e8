// How others get at the bins of a thread that sleeps: it holds what its last work made them grow to, and cannot give it back.
//
// Owner of a bin: the thread, whose hot path takes no lock and leaves no mark. So nobody comes to its bins while it may use
// them: they are taken from where it finds them. Three steps, all under the registry's lock:
//
//   parked    A thread that did not look at the clock for the decay time (100 ms at least) finds &fresh_cache in its tls_cache
//             (`seat`) instead of its cache. Its next call misses, as a thread's first does, and takes the cache back: wake(),
//             by the same lock.
//   emptied   At a later tick, kGraceMs on, the bins of a cache that is still parked go home: the second lists whole, the first
//             ones from their second block on. Nothing is written into a first list: where to cut it is noted in second[].
//   woken     The thread cuts its lists there, and counts what is left.
//
// What makes this right:
//   - After kGraceMs every processor sees what parking stored. So at most one call of the thread uses the cache that it read
//     from tls_cache before: one that was stopped in the midst of the hot path, for however long. It changes one list, once;
//     the thread's next call wakes the cache first.
//   - A malloc that was stopped hands out the first block, which therefore stays, and makes the second one the first, but does
//     not look into it. A free makes the first block the second. So at waking the place of the cut is the head, or the link of
//     one of the first two blocks. Large bins, which only slow calls pop from, are cut at the head.
//   - The second block is what the first one links to, if that is still the first after its link was read: a block is unlinked
//     before malloc returns it (stores become visible in their order), so it was a link, and not the program's data.
//   - Slow calls change all the rest. They set in_slow_call and then look at `parked` (SlowCall); who parks stores `parked`,
//   and
//     looks at in_slow_call kGraceMs later. A slow call that did not see `parked` looked before that was stored, or a moment
//     later, and its mark was stored before it looked; so the mark is seen. No fence is needed: time is one. Who empties looks
//     at that mark before it looks at the seat, where a slow call may have another cache for a moment.
//   - `seat` leads into the thread's TLS. It is nullptr before the thread's end; of a thread that ended without a word the
//     kernel says so by the mutex that it held, `alive`.
#pragma once

#include <atomic>

#include "hz3/thread_cache.hpp"

namespace hz3::sleepers {

inline constexpr uint64_t kGraceMs = 20;                       // a store takes nanoseconds; the clock may be coarse
inline constexpr unsigned kLeftOfTiers = 1, kLeftOfLarge = 0;  // blocks of a bin that stay

// From now on others may park the calling thread's cache, which is in its tls_cache.
void seat(ThreadCache* tc);
// From now on nobody may: the cache is woken if need be. Its thread alone.
void unseat(ThreadCache* tc);
// Puts the calling thread's cache back where its hot path finds it.
HZ3_SLOW void wake(ThreadCache* tc);
// The same, but does not wait for the lock: false when that is taken. In a child of a bare clone() it may be, for ever.
HZ3_SLOW bool try_wake(ThreadCache* tc);

// Parks those who sleep, and empties the bins of those who were parked: so many blocks that no tick takes long. Any thread.
void tick(uint64_t now_ms);
// Empties the bins of all who are parked.
void empty_parked(uint64_t now_ms);
// Whether some thread's bins are still to be reached, should it sleep. A moment old.
bool any_awake();
// In the child of fork(): only `mine` (or nobody, nullptr) is left.
void keep_only(ThreadCache* mine);

// Nobody looks into others' bins while there is one: what a list was read to lead to may be unmapped.
class NoLooks {
 public:
  NoLooks();
  ~NoLooks();
  NoLooks(const NoLooks&) = delete;
  NoLooks& operator=(const NoLooks&) = delete;
};

// Held by slow calls of the cache's thread for as long as they use its bins.
class SlowCall {
 public:
  explicit SlowCall(ThreadCache* tc) : tc_(tc), outer_(tc->in_slow_call) {
    // relaxed: see above; pairs with the load in may_empty(), and the load here with the store in park(), by time
    __atomic_store_n(&tc->in_slow_call, true, __ATOMIC_RELAXED);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler leaves the two in this order
    if (unlikely(__atomic_load_n(&tc->parked, __ATOMIC_RELAXED))) wake(tc);
  }
  // release: pairs with the acquire in may_empty()
  ~SlowCall() { __atomic_store_n(&tc_->in_slow_call, outer_, __ATOMIC_RELEASE); }
  SlowCall(const SlowCall&) = delete;
  SlowCall& operator=(const SlowCall&) = delete;

 private:
  ThreadCache* const tc_;
  const bool outer_;
};

}  // namespace hz3::sleepers
