// The thread cache: per thread one LIFO list of free blocks for each bin, and the remote stash.
//
// Owner: its thread. Nobody else reads or writes one while the thread lives, but as hz3/sleepers.hpp says. Structures are
// recycled and never unmapped.
//
// A bin's limit adapts in slow paths alone: it doubles when a bin that overflowed runs empty (what was sent home would have
// been of use), and falls back when nothing was freed into the bin for the decay time. Programs that only grow, or only
// shrink, do not raise it.
//
// Life of a thread's `tls_cache`:
//   &fresh_cache ──first malloc, or the kFreesBeforeCache-th free──► a cache of its own ──last TSD destructor──► &ended_cache
//   a cache of its own ──the thread sleeps, and is parked──► &fresh_cache ──its next call──► the same cache
// Both static caches are empty for ever and match no tag, so that the hot path needs no test for them: every malloc misses
// and every free is "not local", and the slow paths find out why.
//
// A bin is two lists. The hot path knows the first alone; when that has grown to half of the bin's limit it becomes the second
// one, and what was the second goes to its owners; a malloc that finds the first empty takes the second. That list may grow to
// the whole limit; then its lower half becomes the second again. So frees count nothing, and follow no list but the blocks on
// top of such a half, and what is sent home. A bin holds one and a half times its limit at most, and a few blocks. A thread
// that goes on freeing and takes nothing back keeps no second list in the end.
//
// room[slot] bounds the first list: it says how many more blocks it may take until bin_event_slow looks at it, in 1/64 of a
// block. A malloc gives back 64 and a free takes 65: the one that leaks is the epoch. Even a thread that never misses and never
// overflows a bin gets to bin_event_slow within 4096 frees of a class, where what must not wait without bound is done: stash,
// inboxes, purge. Because of the leak room does not tell the length of the list, but a bound: at most at_most - room / 64.
//
// A bin may hold blocks of any shard, if they are no smaller than a cache line (may_keep) and the thread allocates from it:
// then it accepts them all, and a remote free goes into the thread's own bin as a local one does. Of a class whose blocks share
// no cache line at all (Depot::serves), a list that overflows goes to the depot, from where a thread that has run out takes it;
// what the depot has no room for, and all else that leaves a bin, goes to its owners by their tags. Smaller blocks go to their
// owners at once, by the stash: two threads that write to neighbours would pay for it with each access.
#pragma once

#include <pthread.h>

#include "hz3/remote/stash.hpp"

namespace hz3 {

inline constexpr int32_t kRoomUnit = 64;
inline constexpr int32_t kRoomLeak = 1;

inline constexpr uint16_t kNoBlocks = 0, kOwnBlocks = kTagSlots - 1, kAllBlocks = 0xffff;

struct alignas(2 * kCacheLine) ThreadCache {
  // What the registry needs of a structure without a thread; all else may be given back to the kernel, and is zero then.
  ThreadCache* next;       // in the list of all caches that ever were
  ThreadCache* next_free;  // in the list of those without a thread
  bool in_use;
  uint8_t destructor_rounds;
  bool collides;  // when it got its shard another thread had that; only known to builds that tell of it

  void* head[kSlots];          // [slot]: most recently freed first; [0] is not used
  uint64_t key = kNoShardKey;  // local_key(shard): what a tag is compared with
  int32_t room[kSlots];        // blocks that still fit into the bin, times kRoomUnit, less the leak
  // [slot]: what low(tag) ^ key may be at most for a free block to go into the bin: kNoBlocks (all that is no bin, and all of
  // the static caches), kOwnBlocks or, where the thread keeps those of other shards, kAllBlocks.
  uint16_t accepts[kTagSlots];
  // The slots by size, as in the class tables: here, so that malloc finds them from the one pointer that it has. In the static
  // caches all are 0, a slot that is always empty.
  uint8_t slot_map[kMaxTierBytes / kQuantum + 1];
  uint16_t at_most[kSlots];      // blocks in the list when all room is used up
  void* second[kSlots];          // a list that was full; nullptr when there is none. Of one that is emptied, see sleepers.hpp
  uint16_t second_most[kSlots];  // blocks in it at most
  uint16_t limit[kSlots];        // blocks that the bin may hold; adapts between limit_first and limit_most of the class
  uint8_t overflowed[kSlots];    // how often since it last ran empty; no further than it matters
  uint32_t shard;
  bool in_slow_call;  // atomic, as the next: see hz3/sleepers.hpp
  bool parked;
  bool emptied;               // under the registry's lock, as the next three
  ThreadCache** seat;         // the thread's tls_cache, while others may take the cache from there
  uint64_t parked_ms;         // when they did
  uint64_t woken_ms;          // when the thread was seated or woken
  pthread_mutex_t alive;      // a robust one, held by the thread while it is seated
  uint32_t frees_since_look;  // at the clock, counted when bins get room for them
  uint32_t stash_waits;       // slow calls since the stash was last flushed
  uint32_t large_hits;        // mallocs of large bins that had a block
  uint64_t now_ms;            // atomic: when the thread was last in a slow path
  uint8_t calm;               // so many more grants of room are small: when it was there last, the time before was long ago
  uint64_t trimmed_ms;        // when bins were last looked at for trimming
  Slot next_trim;
  uint32_t shards_asked;      // how far past its own the search of a miss begins, where it does not ask all shards
  size_t granted;             // bytes by which the limits of all bins together exceed their first values
  int32_t seen_room[kSlots];  // when last looked at for trimming: a bin whose room has not changed since is idle; kBusyBin: it
                              // is not
  remote::RemoteStash stash;
};

HZ3_HIDDEN extern ThreadCache fresh_cache;
HZ3_HIDDEN extern ThreadCache ended_cache;
HZ3_HIDDEN extern thread_local constinit ThreadCache* tls_cache;
// What the hot path works with. Others put &fresh_cache there when they park the thread's cache: so it is read once by each
// call. relaxed: pairs, by time, with the exchange in sleepers.cpp
HZ3_ALWAYS_INLINE ThreadCache* cache_in_seat() { return racy_read(tls_cache); }
// The thread's cache also while that is parked; nullptr when it has none.
HZ3_HIDDEN extern thread_local constinit ThreadCache* tls_own;

inline constexpr int32_t kBusyBin = INT32_MIN;

inline bool is_static_cache(const ThreadCache* tc) { return tc->key == kNoShardKey; }

// The calling thread's cache, made when there is none. nullptr after the thread's cache was torn down, or without memory.
HZ3_SLOW ThreadCache* own_cache_slow();

// Looks at a bin that has no room left: bounds it and does deferred work. Event. The first argument, the block that was just
// freed, keeps the others in the registers where the hot path has them.
[[gnu::noinline]] void bin_event_slow(void* freed, uint64_t slot, ThreadCache* tc) noexcept;
// Deferred work of any slow call: stash, clock. Event.
void slow_call_event(ThreadCache* tc);
// Takes the inbox of the cache's shard into its bins; what exceeds their bounds goes to central.
void take_inbox(ThreadCache* tc);
// Sends everything that a cache holds to its owners: bins, stash. The cache stays usable.
void flush_cache(ThreadCache* tc);
// Returns a freed block to its owner without a cache.
HZ3_SLOW void free_uncached(void* block, Tag tag);

// Purges what has been free for long and serves inboxes that nobody reads, when the time has come (settings::tick_ms). Any
// thread.
void tick(uint64_t now_ms);
// Whether there is something that ticks will give back or pass on. A moment old.
bool anything_waits();
// The same but for spares, threads' caches and the depot, whose classes are many to look at.
bool worth_a_tick();

// Gives back everything that is free: the cache `tc` (when not nullptr), inboxes, spare runs, cached spans, free pages. True
// when free pages or spans were given back. Any thread.
bool reclaim(ThreadCache* tc);
// Before a call fails for want of memory: reclaims, and gives up commit charge and address space that nobody uses.
HZ3_SLOW void reclaim_for_retry(ThreadCache* tc);

class ThreadRegistry {
 public:
  // A cache attached to the shard with the fewest threads. nullptr without memory.
  ThreadCache* attach();
  // Takes a flushed cache back.
  void detach(ThreadCache* tc);
  // Gives the memory of structures without a thread back.
  void trim();
  // relaxed, as caches(): a hint by which nothing is read; what it leads to is behind the shard's lock
  unsigned live_threads(unsigned shard) const { return __atomic_load_n(&live_[shard], __ATOMIC_RELAXED); }
  size_t caches() const { return __atomic_load_n(&count_, __ATOMIC_RELAXED); }
  // Of the list by `next`. Under the lock.
  ThreadCache* first() { return all_; }
  size_t threads() const { return caches() - free_count_.load(std::memory_order_relaxed); }
  // In the child of fork(): only `mine` still has a thread.
  void keep_only(ThreadCache* mine);
  Mutex& mutex() { return lock_; }

 private:
  ThreadCache* allocate();
  void put_free(ThreadCache* tc);

  Mutex lock_;
  ThreadCache* all_ = nullptr;
  ThreadCache* free_ = nullptr;
  char* chunk_ = nullptr;
  char* chunk_end_ = nullptr;
  // Written under the lock (by the one thread there is in a child of fork()), read without it, relaxed on both sides:
  // no load pairs with a store, as none of them says that anything else can be read.
  size_t count_ = 0;                   // caches that were ever made: statistics
  std::atomic<size_t> free_count_{0};  // those without a thread: whether to give memory back
  unsigned live_[kShards] = {};        // threads by shard: whether to borrow of a class that shares cache lines
};
HZ3_HIDDEN extern ThreadRegistry thread_registry;

}  // namespace hz3
