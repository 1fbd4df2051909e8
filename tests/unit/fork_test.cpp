// fork(): its handlers called by hand, and real forks in the middle of other threads' work.
#include "hz3/fork.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <csignal>

#include "hz3/bins.hpp"
#include "hz3/large.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::in_child;
using test::Worker;

// Signal handlers ask for it: no memory is allocated.
constexpr size_t kLocks = 2 + 2 * kShards + kPageHeaps;
std::array<Mutex*, kLocks> all_locks() {
  std::array<Mutex*, kLocks> locks;
  size_t n = 0;
  locks[n++] = &thread_registry.mutex();
  for (unsigned i = 0; i < kShards; i++) locks[n++] = &Central::of(i).mutex();
  for (unsigned i = 0; i < kPageHeaps; i++) locks[n++] = &PageHeap::number(i).mutex();
  for (unsigned i = 0; i < kShards; i++) locks[n++] = &large::span_mutex(i);
  locks[n++] = &arenas.mutex();
  return locks;
}

size_t held_by_me() {
  size_t n = 0;
  for (const Mutex* m : all_locks()) n += m->held_by_me();
  return n;
}

// Everything that a process needs an allocator for.
void work_a_little(uint64_t seed) {
  test::Random random(seed);
  std::vector<std::pair<unsigned char*, size_t>> live;
  for (int step = 0; step < 400; step++) {
    const size_t bytes = 1 + random.below(size_t{1} << (3 + random.below(step % 50 == 0 ? 19 : 13)));
    unsigned char* p = static_cast<unsigned char*>(random.below(2) != 0 ? malloc_hot(bytes) : api::calloc(1, bytes));
    ASSERT_NE(p, nullptr);
    memset(p, static_cast<int>(bytes), bytes);
    live.emplace_back(p, bytes);
    if (live.size() < 30) continue;
    std::swap(live[random.below(live.size())], live.back());
    auto [q, had] = live.back();
    ASSERT_TRUE(test::all_bytes(q, had, static_cast<unsigned char>(had)));
    if (random.below(4) == 0) q = static_cast<unsigned char*>(api::realloc(q, had + 100));
    free_hot(q);
    live.pop_back();
  }
  for (auto [p, bytes] : live) free_hot(p);
}

class Fork : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    flush_cache(tc);
  }
  void TearDown() override {
    EXPECT_EQ(held_by_me(), 0u);
    EXPECT_NOTHING_LOST();
  }
  unsigned other_shard() const { return (tc->shard + 1) % kShards; }
  ThreadCache* tc = nullptr;
};

TEST_F(Fork, PrepareTakesEveryLockAndParentReleasesThem) {
  for (int i = 0; i < 3; i++) {
    fork::prepare();
    EXPECT_EQ(held_by_me(), all_locks().size());
    fork::parent();
    EXPECT_EQ(held_by_me(), 0u);
  }
  work_a_little(1);
  test::in_thread([] { work_a_little(2); });
}

TEST_F(Fork, NestedHandlersCountAndTheLastReleases) {
  fork::prepare();
  fork::prepare();
  fork::prepare();
  EXPECT_EQ(held_by_me(), all_locks().size());
  fork::parent();
  fork::parent();
  EXPECT_EQ(held_by_me(), all_locks().size()) << "the fork that was interrupted goes on";
  fork::parent();
  EXPECT_EQ(held_by_me(), 0u);
  // A child of a nested fork, too, leaves the interrupted one its locks.
  fork::prepare();
  EXPECT_TRUE(in_child([] {
    EXPECT_EQ(held_by_me(), all_locks().size());
    fork::parent();
    EXPECT_EQ(held_by_me(), 0u);
    work_a_little(3);
  }));
  EXPECT_EQ(held_by_me(), all_locks().size());
  fork::parent();
}

TEST_F(Fork, ALockThatTheThreadHoldsAlreadyStaysHeld) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Blocks waiting = test::blocks_of(other_shard(), slot_of(64), 3);
  tc->stash.stash_push(other_shard(), slot_of(64), waiting[0]);
  test::push_to_inbox(other_shard(), {waiting[1], waiting[2]});
  for (Mutex* m : all_locks()) {
    m->lock();
    fork::prepare();
    EXPECT_EQ(held_by_me(), all_locks().size());
    EXPECT_EQ(tc->stash.entries(), 1u) << "an interrupted slow path is left as it is";
    EXPECT_EQ(Inbox::of(other_shard()).count(), 2u);
    fork::parent();
    EXPECT_TRUE(m->held_by_me());
    EXPECT_EQ(held_by_me(), 1u);
    m->unlock();
  }
  tc->stash.stash_flush_all();
  remote::drain_to_central(other_shard());
}

TEST_F(Fork, PrepareHandsOverTheStashAndEmptiesTheInboxes) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slot = slot_of(64);
  const Blocks blocks = test::blocks_of(other_shard(), slot, 10);
  for (int i = 1; i < 5; i++) tc->stash.stash_push(other_shard(), slot, blocks[i]);
  test::push_to_inbox(other_shard(), {blocks.begin() + 5, blocks.end()});
  fork::prepare();
  EXPECT_EQ(tc->stash.entries(), 0u);
  EXPECT_TRUE(Inbox::of(other_shard()).empty());
  EXPECT_EQ(Central::of(other_shard()).returned(slot), 9u);
  fork::parent();
  test::give_back({blocks[0]});
}

// A signal handler that forks in the middle of a change of the stash: a block's page cannot be read or written when a flush
// comes to it.
struct Interruption {
  static inline char* page = nullptr;
  static inline ThreadCache* tc = nullptr;
  static inline unsigned entries = 0;
  static inline bool was_busy = false;
  static void handler(int) {
    was_busy = tc->stash.busy();
    entries = tc->stash.entries();
    fork::prepare();
    if (tc->stash.entries() != entries) entries = ~0u;
    fork::parent();
    mprotect(page, kPageSize, PROT_READ | PROT_WRITE);
  }
};

TEST_F(Fork, AStashThatIsBeingChangedIsLeftAlone) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slot = slot_of(4096);
  const Blocks blocks = test::blocks_of(other_shard(), slot, 4);
  for (void* b : blocks) tc->stash.stash_push(other_shard(), slot, b);
  Interruption::page = static_cast<char*>(blocks[0]);
  Interruption::tc = tc;
  struct sigaction action {
  }, before{};
  action.sa_handler = Interruption::handler;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  mprotect(blocks[0], kPageSize, PROT_NONE);
  tc->stash.stash_flush_all();
  sigaction(SIGSEGV, &before, nullptr);
  EXPECT_TRUE(Interruption::was_busy);
  EXPECT_GE(Interruption::entries, 1u);
  EXPECT_LE(Interruption::entries, 4u);
  EXPECT_EQ(Inbox::of(other_shard()).count(), 4u);
  remote::drain_to_central(other_shard());
}

// A signal handler forks in the middle of another fork's prepare, while a thread holds a lock that prepare has not come to. In
// the child that thread is gone, and the interrupted prepare has to get the lock all the same.
struct InterruptedPrepare {
  static inline char* page = nullptr;
  static inline bool child_is_well = false;
  static void handler(int) {
    mprotect(page, kPageSize, PROT_READ | PROT_WRITE);
    child_is_well = in_child([] {
      work_a_little(8);
      fork::prepare();  // stands for what is left of the interrupted one
      EXPECT_EQ(held_by_me(), all_locks().size());
      fork::parent();
      fork::parent();
      EXPECT_EQ(held_by_me(), 0u);
    });
  }
};

TEST_F(Fork, ASignalHandlerForksWithinPrepareWhileAnotherThreadHoldsALock) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer objects to all that is done in a signal handler, in the child as well";
#endif
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slot = slot_of(4096);
  void* block = test::blocks_of(other_shard(), slot, 1).front();
  InterruptedPrepare::page = static_cast<char*>(block);
  struct sigaction action {
  }, before{};
  action.sa_handler = InterruptedPrepare::handler;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  std::atomic<bool> holds{false};
  std::thread holder([&] {
    const LockGuard guard(Central::of(0).mutex());
    holds = true;
    usleep(100000);  // long enough for the fork to happen meanwhile; if not, it is no test, but it passes
  });
  while (!holds) std::this_thread::yield();
  tc->stash.stash_push(other_shard(), slot, block);
  mprotect(block, kPageSize, PROT_NONE);
  fork::prepare();
  EXPECT_TRUE(InterruptedPrepare::child_is_well);
  fork::parent();
  holder.join();
  sigaction(SIGSEGV, &before, nullptr);
}

TEST_F(Fork, TheChildHasOneThreadWhoseCacheIsWhole) {
  const Blocks mine = {malloc_hot(64), malloc_hot(3000), malloc_hot(100000), malloc_hot(3 << 20)};
  for (void* b : mine) memset(b, 7, 64);
  free_hot(malloc_hot(200));
  const size_t in_bins = test::blocks_in_bins(tc);
  Worker worker;
  Blocks others;
  worker.run([&] {
    for (size_t bytes : {64, 3000, 100000, 3 << 20}) others.push_back(malloc_hot(bytes));
    for (int i = 0; i < 20; i++) others.push_back(malloc_hot(64));
  });
  const auto child = [&] {
    EXPECT_EQ(held_by_me(), 0u);
    EXPECT_EQ(test::blocks_in_bins(tc), in_bins);
    unsigned threads = 0;
    for (unsigned i = 0; i < kShards; i++) threads += thread_registry.live_threads(i);
    EXPECT_EQ(threads, 1u);
    EXPECT_EQ(thread_registry.threads(), 1u);
    EXPECT_EQ(thread_registry.live_threads(tc->shard), 1u);
    for (void* b : mine) EXPECT_TRUE(test::all_bytes(b, 64, 7));
    for (void* b : mine) free_hot(b);
    for (void* b : others) free_hot(b);
    work_a_little(4);
    api::trim();
    test::check_all();
  };
  EXPECT_TRUE(in_child(child));
  EXPECT_TRUE(in_child([&] { EXPECT_TRUE(in_child(child)); })) << "and so has its child";
  for (void* b : mine) free_hot(b);
  for (void* b : others) free_hot(b);
  worker.run([] { work_a_little(5); });
}

TEST_F(Fork, CachesOfThreadsThatAreGoneAreUsedAgainEmpty) {
  Worker worker;
  ThreadCache* theirs = worker.cache();
  const unsigned target = (theirs->shard + 1) % kShards;
  worker.run([&] {
    Blocks blocks;
    for (int i = 0; i < 20; i++) blocks.push_back(malloc_hot(64));
    for (void* b : blocks) free_hot(b);
    theirs->stash.stash_push(target, slot_of(64), test::blocks_of(target, slot_of(64), 1).front());
  });
  ASSERT_GT(test::blocks_in_bins(theirs), 0u);
  EXPECT_TRUE(in_child([&] {
    const size_t made = thread_registry.caches();
    std::set<ThreadCache*> caches;
    for (size_t i = 1; i < made; i++) {
      ThreadCache* tc = thread_registry.attach();
      EXPECT_EQ(test::blocks_in_bins(tc), 0u) << "a list that was being changed cannot be trusted";
      EXPECT_EQ(tc->stash.entries(), 0u);
      EXPECT_EQ(tc->granted, 0u);
      caches.insert(tc);
    }
    EXPECT_EQ(caches.size(), made - 1);
    EXPECT_EQ(thread_registry.caches(), made);
    EXPECT_EQ(caches.count(theirs), 1u);
  }));
  EXPECT_GT(test::blocks_in_bins(theirs), 0u) << "of the parent's nothing is touched";
  EXPECT_EQ(theirs->stash.entries(), 1u);
}

TEST_F(Fork, WhatWasGrantedToThreadsThatAreGoneIsFree) {
  std::vector<ThreadCache*> caches;
  const auto grow_all = [](ThreadCache* cache) {
    for (int round = 0; round < 16; round++)
      for (Slot slot = 1; slot < kSlots; slot++) grow_limit(cache, slot);
  };
  ThreadCache* last = nullptr;
  do {
    caches.push_back(last = thread_registry.attach());
    grow_all(last);
  } while (last->granted > 0 && caches.size() < 200);
  if (last->granted > 0) GTEST_SKIP() << "no number of caches uses the budget up";
  EXPECT_TRUE(in_child([&] {
    grow_all(tc);
    EXPECT_GT(tc->granted, 0u);
  }));
  for (ThreadCache* cache : caches) {
    drop_grants(cache);
    thread_registry.detach(cache);
  }
}

TEST_F(Fork, InboxesAreGivenUpInTheChild) {
  if constexpr (kShards < 2) GTEST_SKIP();
  // Prepare empties them; what a thread pushes between that and the fork may be half pushed in the child.
  const Blocks late = test::blocks_of(other_shard(), slot_of(64), 2);
  fork::prepare();
  test::push_to_inbox(other_shard(), late);
  EXPECT_TRUE(in_child([&] {
    fork::child();
    EXPECT_TRUE(Inbox::of(other_shard()).empty());
    EXPECT_EQ(held_by_me(), 0u);
    work_a_little(7);
  }));
  EXPECT_EQ(Inbox::of(other_shard()).count(), 2u);
  fork::parent();
  remote::drain_to_central(other_shard());
}

TEST_F(Fork, AThreadWithoutACacheForks) {
  test::in_thread([] {
    EXPECT_TRUE(is_static_cache(tls_cache));
    EXPECT_TRUE(in_child([] {
      for (unsigned i = 0; i < kShards; i++) EXPECT_EQ(thread_registry.live_threads(i), 0u);
      EXPECT_EQ(held_by_me(), 0u);
      work_a_little(6);
      EXPECT_FALSE(is_static_cache(tls_cache));
    }));
  });
}

// Threads that hand blocks to each other, so that inboxes, stashes and locks are all in use when the process forks.
TEST_F(Fork, BesideBusyThreads) {
  constexpr unsigned kThreads = 3, kSlotsOfExchange = 256, kForks = 25;
  std::vector<std::atomic<void*>> exchange(kSlotsOfExchange);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> working{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 21);
      for (unsigned step = 0; !stop; step++) {
        const size_t bytes = 1 + random.below(size_t{1} << (3 + random.below(step % 64 == 0 ? 19 : 12)));
        void* p = malloc_hot(bytes);
        memset(p, 1, bytes < 64 ? bytes : 64);
        free_hot(exchange[random.below(kSlotsOfExchange)].exchange(p));
        if (step == 1000) working++;
      }
    });
  while (working < kThreads) std::this_thread::yield();
  for (unsigned i = 0; i < kForks; i++) {
    void* others[8];
    for (unsigned k = 0; k < 8; k++) others[k] = exchange[(i * 8 + k) % kSlotsOfExchange].exchange(nullptr);
    EXPECT_TRUE(in_child([&] {
      EXPECT_EQ(held_by_me(), 0u);
      for (void* b : others) free_hot(b);
      work_a_little(i);
      api::trim();
      test::check_all();
      EXPECT_TRUE(in_child([&] { work_a_little(i + 1); }));
    }));
    for (void* b : others) free_hot(b);
    work_a_little(i);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  for (std::atomic<void*>& b : exchange) free_hot(b);
}

}  // namespace
}  // namespace hz3
