// Thread caches come and go: which shard they get, that their structures are used again, and threads that have none.
#include "hz3/thread_cache.hpp"

#include <pthread.h>

#include "hz3/bins.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::Call;
using test::Kernel;
using test::Worker;

unsigned live_threads() {
  unsigned sum = 0;
  for (unsigned i = 0; i < kShards; i++) sum += thread_registry.live_threads(i);
  return sum;
}

class ThreadCacheTest : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

// Of several with equally few, the first.
TEST_F(ThreadCacheTest, AttachGivesTheShardWithTheFewestThreads) {
  unsigned expected[kShards];
  for (unsigned i = 0; i < kShards; i++) expected[i] = thread_registry.live_threads(i);
  std::vector<ThreadCache*> caches;
  test::Random random(1);
  for (unsigned step = 0; step < 12 * kShards; step++) {
    if (step >= 4 * kShards && !caches.empty() && random.below(2) == 0) {
      std::swap(caches[random.below(caches.size())], caches.back());
      expected[caches.back()->shard]--;
      thread_registry.detach(caches.back());
      caches.pop_back();
    } else {
      ThreadCache* tc = thread_registry.attach();
      ASSERT_NE(tc, nullptr);
      ASSERT_EQ(tc->key, local_key(tc->shard));
      ASSERT_EQ(tc->shard, std::min_element(expected, expected + kShards) - expected);
      expected[tc->shard]++;
      caches.push_back(tc);
    }
    for (unsigned i = 0; i < kShards; i++) ASSERT_EQ(thread_registry.live_threads(i), expected[i]);
    ASSERT_EQ(thread_registry.threads(), live_threads());
  }
  EXPECT_EQ(std::set<ThreadCache*>(caches.begin(), caches.end()).size(), caches.size());
  for (ThreadCache* tc : caches) thread_registry.detach(tc);
}

TEST_F(ThreadCacheTest, TenThousandAttachAndDetachMakeOneStructure) {
  const size_t before = thread_registry.caches();
  for (int i = 0; i < 10000; i++) thread_registry.detach(thread_registry.attach());
  EXPECT_LE(thread_registry.caches(), before + 1);
}

TEST_F(ThreadCacheTest, StructuresOfManyThreadsAreAllUsedAgain) {
  size_t made = 0;
  for (int round = 0; round < 3; round++) {
    std::vector<ThreadCache*> caches;
    for (int i = 0; i < 50; i++) caches.push_back(thread_registry.attach());
    EXPECT_EQ(std::set<ThreadCache*>(caches.begin(), caches.end()).size(), caches.size());
    for (ThreadCache* tc : caches) thread_registry.detach(tc);
    if (round == 0) made = thread_registry.caches();
    EXPECT_EQ(thread_registry.caches(), made);
  }
}

TEST_F(ThreadCacheTest, ARecycledStructureIsAsNew) {
  ThreadCache* tc = thread_registry.attach();
  tc->overflowed[3] = true;
  tc->destructor_rounds = 2;
  tc->stash_waits = 5;
  tc->accepts[slot_of(64)] = kAllBlocks;
  grow_limit(tc, slot_of(1024));
  drop_grants(tc);
  thread_registry.detach(tc);
  ThreadCache* again = thread_registry.attach();
  ASSERT_EQ(again, tc);
  EXPECT_FALSE(again->overflowed[3]);
  EXPECT_EQ(again->destructor_rounds, 0);
  EXPECT_EQ(again->stash_waits, 0u);
  EXPECT_EQ(again->accepts[slot_of(64)], kOwnBlocks);
  EXPECT_EQ(again->limit[slot_of(1024)], class_info(slot_of(1024)).limit_first);
  EXPECT_EQ(memcmp(again->slot_map, kClassTables.slot_of, sizeof again->slot_map), 0);
  thread_registry.detach(again);
}

TEST_F(ThreadCacheTest, ThreadsThatComeAndGoShareOneStructure) {
  test::my_cache();
  const unsigned live = live_threads();
  test::in_thread([] { free_hot(malloc_hot(100)); });
  const size_t before = thread_registry.caches();
  for (int i = 0; i < 200; i++)
    test::in_thread([&] {
      free_hot(malloc_hot(100));
      EXPECT_EQ(live_threads(), live + 1);
    });
  EXPECT_EQ(live_threads(), live);
  EXPECT_EQ(thread_registry.caches(), before);
}

TEST_F(ThreadCacheTest, WhatAThreadHeldIsBackWhenItHasEnded) {
  test::my_cache();
  Blocks foreign;
  for (int i = 0; i < 50; i++) foreign.push_back(malloc_hot(64));
  test::in_thread([&] {
    Blocks blocks;
    for (size_t bytes : {16, 64, 1000, 3000, 4096, 30000, 50000, 262144})
      for (int i = 0; i < 40; i++) blocks.push_back(malloc_hot(bytes));
    for (void* b : blocks) free_hot(b);
    for (void* b : foreign) free_hot(b);
    EXPECT_GT(test::blocks_in_bins(tls_own), 0u);
  });
  for (unsigned i = 0; i < kShards; i++) remote::drain_to_central(i);
  flush_cache(test::my_cache());
  size_t runs = 0;
  for (unsigned i = 0; i < kShards; i++) {
    Central::of(i).release_all_spares();
    runs += Central::of(i).totals().runs;
  }
  EXPECT_EQ(runs, 0u);
}

TEST_F(ThreadCacheTest, AThreadThatFreesAFewBlocksNeedsNoCache) {
  Blocks blocks;
  for (int i = 0; i < 40; i++) blocks.push_back(malloc_hot(64));
  const unsigned live = live_threads();
  unsigned freed_without = 0;
  test::in_thread([&] {
    while (is_static_cache(tls_cache) && !blocks.empty()) {
      EXPECT_EQ(live_threads(), live);
      free_hot(blocks.back());
      blocks.pop_back();
      freed_without++;
    }
    EXPECT_EQ(live_threads(), live + 1);
    EXPECT_FALSE(blocks.empty());
    for (void* b : blocks) free_hot(b);
  });
  EXPECT_EQ(freed_without, 32u);
  EXPECT_EQ(live_threads(), live);
}

// All spare structures are taken first, so that the next one needs memory.
TEST_F(ThreadCacheTest, WithoutMemoryForACacheAThreadIsServedWithout) {
  std::vector<ThreadCache*> caches;
  Blocks mine;
  for (int i = 0; i < 40; i++) mine.push_back(malloc_hot(64));
  {
    Kernel kernel;
    for (Call refused : {Call::Commit, Call::Reserve}) {
      kernel.refuse(refused);
      while (ThreadCache* tc = thread_registry.attach()) {
        caches.push_back(tc);
        ASSERT_LT(caches.size(), 10000u);
      }
      const unsigned live = live_threads();
      test::in_thread([&] {
        Blocks blocks;
        for (size_t bytes : {1, 64, 2000, 4096, 20000}) {
          void* b = malloc_hot(bytes);
          ASSERT_NE(b, nullptr);
          memset(b, 1, bytes);
          void* c = api::calloc(1, bytes);
          ASSERT_NE(c, nullptr);
          EXPECT_TRUE(test::all_bytes(c, bytes, 0));
          memset(c, 2, bytes);
          blocks.insert(blocks.end(), {b, c});
        }
        EXPECT_EQ(test::as_set(blocks).size(), std::set<void*>(blocks.begin(), blocks.end()).size());
        for (void* b : blocks) free_hot(b);
        for (; mine.size() > (refused == Call::Commit ? 20 : 0); mine.pop_back()) free_hot(mine.back());
        EXPECT_EQ(tls_cache, &fresh_cache);
        void* large = malloc_hot(100000);
        EXPECT_NE(large, nullptr);
        large = api::realloc(large, 300000);
        EXPECT_NE(large, nullptr);
        free_hot(large);
        EXPECT_EQ(api::trim(), 1);
      });
      EXPECT_EQ(live_threads(), live);
      kernel.allow();
    }
  }
  for (ThreadCache* tc : caches) thread_registry.detach(tc);
}

pthread_key_t late_key;
int late_rounds = 0;
bool had_ended = false;
// Puts itself back as often as the C library allows, so that it is also called after the destructor of the thread's cache.
void late_destructor(void* value) {
  late_rounds++;
  free_hot(value);
  void* next = malloc_hot(200);
  EXPECT_NE(next, nullptr);
  if (tls_cache == &ended_cache) {
    had_ended = true;
    free_hot(next);
    return;
  }
  pthread_setspecific(late_key, next);
}

TEST_F(ThreadCacheTest, DestructorsOfOtherKeysAllocateAndFreeInEveryRound) {
  test::my_cache();  // its key is older, so its destructor is called first in each round
  const unsigned live = live_threads();
  ASSERT_EQ(pthread_key_create(&late_key, late_destructor), 0);
  test::in_thread([] { pthread_setspecific(late_key, malloc_hot(200)); });
  pthread_key_delete(late_key);
#if defined(__SANITIZE_THREAD__)
  EXPECT_EQ(late_rounds, PTHREAD_DESTRUCTOR_ITERATIONS - 1) << "the last one is ThreadSanitizer's";
#else
  EXPECT_EQ(late_rounds, PTHREAD_DESTRUCTOR_ITERATIONS);
#endif
  EXPECT_TRUE(had_ended);
  EXPECT_EQ(live_threads(), live);
}

TEST_F(ThreadCacheTest, StaticCachesStayEmptyAndMatchNothing) {
  for (const ThreadCache* tc : {&fresh_cache, &ended_cache}) {
    EXPECT_TRUE(is_static_cache(tc));
    EXPECT_EQ(test::blocks_in_bins(tc), 0u);
    for (uint8_t slot : tc->slot_map) EXPECT_EQ(slot, 0);
    for (uint16_t accepted : tc->accepts) EXPECT_EQ(accepted, kNoBlocks);
    for (unsigned shard = 0; shard < kShards; shard++) EXPECT_GT(tag_low(make_tag(1, shard)) ^ tc->key, kNoBlocks);
  }
}

TEST_F(ThreadCacheTest, AnInboxFillsBinsToAQuarterAndTheRestGoesToCentral) {
  ThreadCache* tc = test::my_cache();
  flush_cache(tc);
  const Slot slot = slot_of(64), other = slot_of(1024);
  const unsigned quarter = tc->limit[slot] / 4;
  Blocks blocks = test::blocks_of(tc->shard, slot, tc->limit[slot]);
  const Blocks few = test::blocks_of(tc->shard, other, 2);
  tc->overflowed[slot] = tc->overflowed[other] = false;
  const unsigned all = static_cast<unsigned>(blocks.size());
  blocks.insert(blocks.begin() + all / 2, few.begin(), few.end());
  test::push_to_inbox(tc->shard, blocks);
  take_inbox(tc);
  EXPECT_TRUE(Inbox::of(tc->shard).empty());
  const unsigned kept = test::bin_length(tc, slot);
  EXPECT_LE(kept, quarter);
  EXPECT_GE(kept, (quarter < 64 ? quarter : 64u) - 1) << "as far as its room goes";
  EXPECT_LE(most_in_bin(tc, slot), static_cast<int32_t>(quarter) * (kRoomUnit + kRoomLeak));
  EXPECT_TRUE(tc->overflowed[slot]);
  EXPECT_EQ(test::bin_length(tc, other), 2u);
  EXPECT_FALSE(tc->overflowed[other]);
  unsigned in_central = 0;
  for (void* b : blocks) in_central += tag_slot(tag_of(b)) == slot && test::contains(test::blocks_in(run_of(b)->free), b);
  EXPECT_EQ(in_central, all - kept);
  take_inbox(tc);
  EXPECT_EQ(test::bin_length(tc, slot), kept) << "an empty inbox changes nothing";
}

// What has leaked away of its room tells of a longer list than there was: for the inbox it starts afresh.
TEST_F(ThreadCacheTest, ABinThatHasRunEmptyHasRoomForTheInbox) {
  ThreadCache* tc = test::my_cache();
  flush_cache(tc);
  const Slot slot = slot_of(64);
  const unsigned quarter = tc->limit[slot] / 4u, sent = quarter / 2;
  const Blocks blocks = test::blocks_of(tc->shard, slot, sent);
  Blocks held;
  do held.push_back(malloc_hot(64));
  while (tc->head[slot] != nullptr);
  for (unsigned i = 0; i < quarter * kRoomUnit / kRoomLeak; i++) {
    free_hot(held.back());
    held.back() = malloc_hot(64);
  }
  ASSERT_EQ(test::bin_length(tc, slot), 0u);
  ASSERT_GE(most_in_bin(tc, slot), static_cast<int32_t>(quarter) * kRoomUnit) << "it looks a quarter full";
  test::push_to_inbox(tc->shard, blocks);
  held.push_back(malloc_hot(64));
  EXPECT_TRUE(test::contains(blocks, held.back()));
  EXPECT_EQ(test::bin_length(tc, slot), sent - 1);
  EXPECT_FALSE(tc->overflowed[slot]);
  for (void* b : held) free_hot(b);
}

}  // namespace
}  // namespace hz3
