// Life and attachment of thread caches; see hz3/thread_cache.hpp.
#include "hz3/background.hpp"
#include "hz3/bins.hpp"
#include "hz3/check.hpp"

#include <pthread.h>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "hz3/message.hpp"
#include "hz3/sleepers.hpp"

namespace hz3 {

constinit ThreadCache fresh_cache{};
constinit ThreadCache ended_cache{};
thread_local constinit ThreadCache* tls_cache = &fresh_cache;
thread_local constinit ThreadCache* tls_own = nullptr;
constinit ThreadRegistry thread_registry{};

namespace {

// Caches are cut from chunks of this size.
constexpr size_t kChunkBytes = round_up(sizeof(ThreadCache), 256 << 10);
constexpr size_t kKeptInMemory = 64;  // structures without a thread
// Of PTHREAD_DESTRUCTOR_ITERATIONS = 4: others' destructors go first. For ThreadSanitizer the thread ends in the fourth.
#if defined(__SANITIZE_THREAD__)
constexpr unsigned kDestructorRounds = 2;
#else
constexpr unsigned kDestructorRounds = 3;
#endif

pthread_key_t exit_key;
uint32_t exit_key_state = 0;  // atomic. 0 none, 1 being made, 2 made; 3 the system has none left

void give_up(ThreadCache* tc, ThreadCache* instead) {
  sleepers::unseat(tc);
  flush_cache(tc);
  drop_grants(tc);
  if constexpr (kDebugChecks) check::is_empty(tc, "I2", "a cache that is given up still holds a block");
  tls_cache = instead;
  tls_own = nullptr;
  thread_registry.detach(tc);
}

// Runs as a TSD destructor. Puts itself back until the last round, because destructors of other keys may still free.
void on_thread_exit(void* value) {
  ThreadCache* tc = static_cast<ThreadCache*>(value);
  if (tc != tls_own) return;
  if (++tc->destructor_rounds <= kDestructorRounds && pthread_setspecific(exit_key, tc) == 0) return;
  give_up(tc, &ended_cache);
  background::thread_ended();
}

bool have_exit_key() {
  // acquire: pairs with the release below, so that who sees 2 sees the key
  uint32_t state = __atomic_load_n(&exit_key_state, __ATOMIC_ACQUIRE);
  if (state >= 2) return state == 2;
  // relaxed: only decides who makes the key; that is published by the release below
  if (state == 0 && __atomic_compare_exchange_n(&exit_key_state, &state, 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    state = pthread_key_create(&exit_key, on_thread_exit) == 0 ? 2 : 3;
    // release: pairs with the acquire above
    __atomic_store_n(&exit_key_state, state, __ATOMIC_RELEASE);
    return state == 2;
  }
  return false;  // another thread is making it: this call goes without a cache
}

// Called without a lock and with the cache in place: a handler of SIGABRT may allocate.
[[maybe_unused]] HZ3_SLOW void tell_of_collision(const ThreadCache* tc) {
  Line().text("hz3: a thread starts on shard ").number(tc->shard).text(", which another thread has").print();
  if constexpr (kCollisionFailfast) abort();
}

}  // namespace

ThreadCache* own_cache_slow() {
  ThreadCache* tc = cache_in_seat();
  if (likely(!is_static_cache(tc))) return tc;
  if constexpr (kDebugChecks) check::is_empty(tc, "I15", "a static cache holds a block");
  if (tc == &ended_cache) return nullptr;
  if (tls_own != nullptr) {  // it was parked
    sleepers::wake(tls_own);
    return tls_own;
  }
  if (!have_exit_key()) return nullptr;
  tc = thread_registry.attach();
  if (tc == nullptr) return nullptr;
  tls_cache = tls_own = tc;  // before pthread_setspecific, which may call calloc
  if (likely(pthread_setspecific(exit_key, tc) == 0)) {
    sleepers::seat(tc);
    if constexpr (kCollisionShot || kCollisionFailfast)
      if (tc->collides) tell_of_collision(tc);
    return tc;
  }
  // Nobody would tell us of the thread's end: it goes without a cache.
  give_up(tc, &fresh_cache);
  return nullptr;
}

// A structure, recycled or new; its lists are empty. Called with the lock held.
ThreadCache* ThreadRegistry::allocate() {
  if (ThreadCache* tc = free_) {
    free_ = tc->next_free;
    free_count_.fetch_sub(1, std::memory_order_relaxed);
    return tc;
  }
  if (chunk_ == nullptr || static_cast<size_t>(chunk_end_ - chunk_) < sizeof(ThreadCache)) {
    char* p = static_cast<char*>(os::calls.reserve(kChunkBytes));
    if (p == nullptr) return nullptr;
    if (!os::calls.commit(p, kChunkBytes)) {
      os::calls.release(p, kChunkBytes);
      return nullptr;
    }
    chunk_ = p;
    chunk_end_ = p + kChunkBytes;
  }
  ThreadCache* tc = reinterpret_cast<ThreadCache*>(chunk_);
  chunk_ += sizeof(ThreadCache);
  tc->next = all_;
  all_ = tc;
  __atomic_store_n(&count_, count_ + 1, __ATOMIC_RELAXED);  // under the lock; atomic for caches()
  return tc;
}

ThreadCache* ThreadRegistry::attach() {
  LockGuard guard(lock_);
  ThreadCache* tc = allocate();
  if (tc == nullptr) return nullptr;
  unsigned shard = 0;
  for (unsigned i = 1; i < kShards; i++)
    if (live_[i] < live_[shard]) shard = i;
  if constexpr (kCollisionShot || kCollisionFailfast) tc->collides = live_[shard] != 0;
  __atomic_store_n(&live_[shard], live_[shard] + 1, __ATOMIC_RELAXED);  // under the lock; atomic for live_threads()
  tc->shard = shard;
  tc->key = local_key(shard);
  tc->in_use = true;
  tc->destructor_rounds = 0;
  tc->seat = nullptr;
  tc->in_slow_call = tc->parked = tc->emptied = false;
  tc->stash_waits = 0;
  memcpy(tc->slot_map, kClassTables.slot_of, sizeof tc->slot_map);
  reset_bins(tc);
  return tc;
}

namespace {
// Gives the whole kernel pages in a structure without a thread back.
void give_pages_back(ThreadCache* tc) {
  const uintptr_t page = os::page_size();
  const uintptr_t first = round_up(reinterpret_cast<uintptr_t>(&tc->head), page);
  const uintptr_t end = reinterpret_cast<uintptr_t>(tc + 1) / page * page;
  if (first < end) os::calls.advise(reinterpret_cast<void*>(first), end - first, os::Advice::DontNeed);
}
}  // namespace

// A process that once had thousands of threads does not keep their structures in memory for ever.
void ThreadRegistry::detach(ThreadCache* tc) {
  // relaxed: the count of a moment ago is good enough, as it decides about the caller's own structure
  if (free_count_.load(std::memory_order_relaxed) >= kKeptInMemory) give_pages_back(tc);
  LockGuard guard(lock_);
  __atomic_store_n(&live_[tc->shard], live_[tc->shard] - 1, __ATOMIC_RELAXED);
  tc->in_use = false;
  put_free(tc);
}

void ThreadRegistry::trim() {
  LockGuard guard(lock_);
  for (ThreadCache* tc = free_; tc != nullptr; tc = tc->next_free) give_pages_back(tc);
}

void ThreadRegistry::put_free(ThreadCache* tc) {
  tc->next_free = free_;
  free_ = tc;
  free_count_.fetch_add(1, std::memory_order_relaxed);
}

void ThreadRegistry::keep_only(ThreadCache* mine) {
  keep_grants_of(mine);
  sleepers::keep_only(mine);
  for (unsigned i = 0; i < kShards; i++) live_[i] = 0;  // plain: there is no other thread
  free_ = nullptr;
  free_count_.store(0, std::memory_order_relaxed);
  for (ThreadCache* tc = all_; tc != nullptr; tc = tc->next) {
    if (tc == mine) {
      live_[tc->shard] = 1;
      continue;
    }
    if (tc->in_use) {
      // The thread was stopped anywhere, between two stores even: its lists cannot be trusted and are given up.
      for (Slot slot = 0; slot < kSlots; slot++) tc->head[slot] = tc->second[slot] = nullptr;
      tc->stash.abandon();
      tc->in_use = false;
    }
    put_free(tc);
  }
}

}  // namespace hz3
