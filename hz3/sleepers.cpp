// See hz3/sleepers.hpp.
#include "hz3/sleepers.hpp"

#include <pthread.h>
#include <cerrno>
#include <utility>

#include "hz3/background.hpp"
#include "hz3/bins.hpp"
#include "hz3/settings.hpp"

namespace hz3::sleepers {
namespace {

constexpr uint64_t kSleepsAfterMs = 100;     // at least; else the decay time
constexpr unsigned kLooksATick = 256;        // at caches
constexpr unsigned kBlocksATick = 64 << 10;  // sent home, or one cache's

// Guarded by the registry's lock.
constinit ThreadCache* next_look = nullptr;  // nullptr: the first
constinit unsigned unmaps = 0;               // calls that may unmap what a list leads to

// The time of a tick, or of now: a lock, or a processor, may have been waited for since. Tests' ticks come from the future.
uint64_t latest(uint64_t now_ms) {
  const uint64_t now = os::now_ms();
  return now > now_ms ? now : now_ms;
}

bool passed(uint64_t now_ms, uint64_t since_ms, uint64_t ms) { return now_ms >= since_ms && now_ms - since_ms >= ms; }

struct Lists {
  void* list[2 * kSlots];
  unsigned count = 0;
  unsigned blocks = 0;
  void add(void* head, unsigned most) {
    list[count++] = head;
    blocks += most;
  }
};

// False when the thread ended without a word (a bare SYS_exit; a first malloc in its last destructor): its TLS may be gone.
bool is_alive([[maybe_unused]] ThreadCache* tc) {
#if defined(__SANITIZE_THREAD__)
  return true;
#else
  const int result = pthread_mutex_trylock(&tc->alive);
  if (result == EOWNERDEAD) pthread_mutex_consistent(&tc->alive);
  if (result != EBUSY) pthread_mutex_unlock(&tc->alive);
  return result != EOWNERDEAD;
#endif
}

void park(ThreadCache* tc, uint64_t now_ms) {
  // relaxed, no pairs: who is in a slow call is not worth the trouble
  if (__atomic_load_n(&tc->in_slow_call, __ATOMIC_RELAXED)) return;
  // relaxed: these pair with the loads in SlowCall and in cache_in_seat(), by time
  __atomic_store_n(&tc->parked, true, __ATOMIC_RELAXED);
  ThreadCache* expected = tc;
  if (!__atomic_compare_exchange_n(tc->seat, &expected, &fresh_cache, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    __atomic_store_n(&tc->parked, false, __ATOMIC_RELAXED);  // another cache is there for a moment
  tc->parked_ms = latest(now_ms);
}

bool may_empty(ThreadCache* tc, uint64_t now_ms) {
  if (!passed(now_ms, tc->parked_ms, kGraceMs)) return false;
  // acquire: pairs with the release of ~SlowCall(), so that all is seen that the thread's last slow call left, its seat, too
  if (__atomic_load_n(&tc->in_slow_call, __ATOMIC_ACQUIRE)) return false;
  if (__atomic_load_n(tc->seat, __ATOMIC_RELAXED) == &fresh_cache) return true;
  __atomic_store_n(&tc->parked, false, __ATOMIC_RELAXED);  // the thread put something else there meanwhile
  return false;
}

// The blocks of a bin's first list that no stopped call of its thread hands out. They stay linked to what is before them.
void* rest_of_first(const ThreadCache* tc, Slot slot) {
  void* const* const head = &tc->head[slot];
  for (;;) {
    // acquire: pairs, by time or by the order of stores, with the stores of the hot path
    void* const first = __atomic_load_n(head, __ATOMIC_ACQUIRE);
    if (slot > kTierBins || first == nullptr) return first;
    void* const rest = __atomic_load_n(static_cast<void**>(first), __ATOMIC_ACQUIRE);
    if (__atomic_load_n(head, __ATOMIC_RELAXED) == first) return rest;  // else once more, and never again
  }
}

void empty(ThreadCache* tc, Lists& lists) {
  for (Slot slot = 1; slot < kSlots && tc->in_use; slot++) {  // it is not in a child of a signal handler's fork
    void*& second = tc->second[slot];
    if (second != nullptr) lists.add(second, tc->second_most[slot]);
    second = rest_of_first(tc, slot);
    if (second != nullptr) lists.add(second, tc->at_most[slot]);
    tc->overflowed[slot] = 0;
    shrink_limit(tc, slot);
  }
  tc->emptied = true;
}

// The length of a bin's first list after it is cut before `rest`, which is not the thread's any more: one that was left, and
// one that was freed on top of it, at most.
unsigned cut(ThreadCache* tc, Slot slot, const void* rest) {
  void** at = &tc->head[slot];
  unsigned length = 0;
  for (; *at != nullptr && *at != rest && length < kLeftOfTiers + 1; length++) at = static_cast<void**>(*at);
  *at = nullptr;
  return length;
}

// Looks at so many caches until there are blocks to send home: those of one cache, in `lists`. False when none is left to look
// at.
bool look(uint64_t tick_ms, uint64_t sleeps_after, unsigned& looks, Lists& lists) {
  LockGuard guard(thread_registry.mutex());
  if (unmaps != 0) return false;
  const uint64_t now_ms = latest(tick_ms);
  while (looks != 0) {
    looks--;
    ThreadCache* tc = next_look != nullptr ? next_look : thread_registry.first();
    if (tc == nullptr) return false;
    next_look = tc->next;
    if (!tc->in_use || tc->seat == nullptr || tc->emptied || tc == tls_own) continue;
    // relaxed, no pairs: the clock of a moment ago
    const bool sleeps = passed(now_ms, __atomic_load_n(&tc->now_ms, __ATOMIC_RELAXED), sleeps_after) &&
                        passed(now_ms, tc->woken_ms, sleeps_after);
    if (!tc->parked && !sleeps) continue;
    if (!is_alive(tc)) {
      tc->seat = nullptr;
    } else if (!tc->parked) {
      park(tc, now_ms);
    } else if (may_empty(tc, now_ms)) {
      published_to_me(tc);
      empty(tc, lists);
      if (lists.count != 0) return true;
    }
  }
  return false;
}

void go_round(uint64_t now_ms, uint64_t sleeps_after, unsigned looks, unsigned most_blocks) {
  for (unsigned blocks = 0; blocks < most_blocks;) {
    Lists lists;
    if (!look(now_ms, sleeps_after, looks, lists)) return;
    for (unsigned i = 0; i < lists.count; i++) return_home(lists.list[i]);
    blocks += lists.blocks;
  }
}

unsigned caches() { return static_cast<unsigned>(thread_registry.caches()); }

// Not for ThreadSanitizer, which would take what is never waited for as a part of the order of the program's locks.
bool hold([[maybe_unused]] ThreadCache* tc) {
#if defined(__SANITIZE_THREAD__)
  return true;
#else
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&tc->alive, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return pthread_mutex_lock(&tc->alive) == 0;
#endif
}

// With the lock held. Whether the cache was parked.
bool wake_locked(ThreadCache* tc) {
  if (tc->seat == nullptr) return false;
  tc->woken_ms = os::now_ms();
  // relaxed: its thread's own, but for who parks, by the same lock
  const bool parked = __atomic_exchange_n(&tc->parked, false, __ATOMIC_RELAXED);
  ThreadCache* expected = &fresh_cache;
  __atomic_compare_exchange_n(tc->seat, &expected, tc, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  if (!tc->emptied) return parked;
  tc->emptied = false;
  for (Slot slot = 1; slot < kSlots; slot++) {
    const void* const rest = std::exchange(tc->second[slot], nullptr);
    grant_room(tc, slot, cut(tc, slot, rest));
  }
  return parked;
}

// With the lock held, which it gives up.
void wake_and_unlock(ThreadCache* tc) {
  const bool any = wake_locked(tc);
  thread_registry.mutex().unlock();
  if (any) background::attend();
}

}  // namespace

void seat(ThreadCache* tc) {
  if (!hold(tc)) return;
  {
    LockGuard guard(thread_registry.mutex());
    tc->woken_ms = os::now_ms();
    tc->seat = &tls_cache;
  }
  background::attend();
}

void wake(ThreadCache* tc) {
  thread_registry.mutex().lock();
  wake_and_unlock(tc);
}

bool try_wake(ThreadCache* tc) {
  const bool locked = thread_registry.mutex().try_lock();
  if (locked) wake_and_unlock(tc);
  return locked;
}

void unseat(ThreadCache* tc) {
  {
    LockGuard guard(thread_registry.mutex());
    if (tc->seat == nullptr) return;
    wake_locked(tc);
    tc->seat = nullptr;
  }
#if !defined(__SANITIZE_THREAD__)
  pthread_mutex_unlock(&tc->alive);
#endif
}

void tick(uint64_t now_ms) {
  const uint64_t decay = settings::decay_ms();
  if (decay == settings::kNever) return;
  go_round(now_ms, decay > kSleepsAfterMs ? decay : kSleepsAfterMs, caches() < kLooksATick ? caches() : kLooksATick,
           kBlocksATick);
}

void empty_parked(uint64_t now_ms) { go_round(now_ms, UINT64_MAX, caches(), UINT32_MAX); }

bool any_awake() {
  if (settings::decay_ms() == settings::kNever) return false;
  LockGuard guard(thread_registry.mutex());
  for (const ThreadCache* tc = thread_registry.first(); tc != nullptr; tc = tc->next)
    if (tc->in_use && tc->seat != nullptr && !tc->emptied) return true;
  return false;
}

NoLooks::NoLooks() {
  LockGuard guard(thread_registry.mutex());
  unmaps++;
}
NoLooks::~NoLooks() {
  LockGuard guard(thread_registry.mutex());
  if (unmaps != 0) unmaps--;  // it is in a child of a signal handler's fork
}

void keep_only(ThreadCache* mine) {
  next_look = nullptr;
  unmaps = 0;
  if (mine == nullptr || mine->seat == nullptr || hold(mine)) return;  // the C library forgets what the parent's thread held
  wake_locked(mine);
  mine->seat = nullptr;
}

}  // namespace hz3::sleepers
