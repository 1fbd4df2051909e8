// The thread cache: per thread one LIFO list of free blocks for each bin, and the remote stash.
//
// Owner: its thread; nobody else reads or writes one while the thread lives. Structures are recycled and never unmapped.
//
// Life of a thread's `tls_cache`:
//   &fresh_cache ──first malloc, or the kFreesBeforeCache-th free──► a cache of its own ──last TSD destructor──► &ended_cache
// Both static caches are empty for ever and match no tag, so that the hot path needs no test for them: every malloc misses
// and every free is "not local", and the slow paths find out why.
//
// A bin's list is bounded without counting it: countdown[slot] says how many frees may follow until somebody has to look.
// The look (bin_event_slow) walks at most `limit` blocks, sends the older half home when there are more, and does what
// must not wait without bound: stash, inboxes, purge.
#pragma once

#include "hz3/remote/stash.hpp"

namespace hz3 {

struct alignas(kCacheLine) ThreadCache {
  void* head[kSlots];           // [slot]: most recently freed first; [0] is not used
  int16_t countdown[kSlots];    // frees into the bin until its next look
  uint32_t key = kNoShardKey;   // local_key(shard): what a tag is compared with
  uint32_t shard;
  uint32_t slow_calls;          // drives the clock reads of the slow path
  uint32_t stash_waits;         // slow calls since the stash was last flushed
  uint64_t last_trim_ms;
  int16_t seen_countdown[kSlots];  // at the last trim: a bin whose countdown has not moved since is idle
  ThreadCache* next;            // in the list of all caches that ever were
  ThreadCache* next_free;       // in the list of those without a thread
  bool in_use;
  uint8_t destructor_rounds;
  remote::RemoteStash stash;
};

extern ThreadCache fresh_cache;
extern ThreadCache ended_cache;
extern thread_local constinit ThreadCache* tls_cache;

inline bool is_static_cache(const ThreadCache* tc) { return tc->key == kNoShardKey; }

// The calling thread's cache, made when there is none. nullptr after the thread's cache was torn down, or without memory.
HZ3_SLOW ThreadCache* own_cache_slow();

// Looks at a bin whose countdown has run out: bounds it and does deferred work. Event.
[[gnu::noinline]] void bin_event_slow(ThreadCache* tc, Slot slot);
// Deferred work of any slow call: stash, clock. Event.
void slow_call_event(ThreadCache* tc);
// Takes the inbox of the cache's shard into its bins; what exceeds their bounds goes to central.
void take_inbox(ThreadCache* tc);
// Sends everything that a cache holds to its owners: bins, stash. The cache stays usable.
void flush_cache(ThreadCache* tc);
// Returns a freed block to its owner without a cache.
HZ3_SLOW void free_uncached(void* block, Tag tag);

// Purges what has been free for long and serves inboxes that nobody reads, when the time has come. Any thread.
void tick(uint64_t now_ms);

class ThreadRegistry {
 public:
  // A cache attached to the shard with the fewest threads. nullptr without memory.
  ThreadCache* attach();
  // Takes a flushed cache back.
  void detach(ThreadCache* tc);
  unsigned live_threads(unsigned shard) const { return __atomic_load_n(&live_[shard], __ATOMIC_RELAXED); }
  size_t caches() const { return __atomic_load_n(&count_, __ATOMIC_RELAXED); }
  // In the child of fork(): only `mine` still has a thread.
  void keep_only(ThreadCache* mine);
  Mutex& mutex() { return lock_; }

 private:
  ThreadCache* allocate();

  Mutex lock_;
  ThreadCache* all_ = nullptr;
  ThreadCache* free_ = nullptr;
  char* chunk_ = nullptr;
  char* chunk_end_ = nullptr;
  size_t count_ = 0;
  unsigned live_[kShards] = {};
};
extern ThreadRegistry thread_registry;

}  // namespace hz3
