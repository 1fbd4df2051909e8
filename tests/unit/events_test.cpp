// Deferred work: what slow calls do beside their own, what a tick does for those who do nothing, what reclaim gives back.
#include "hz3/bins.hpp"
#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::Worker;

class Events : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    flush_cache(tc);
    tc->trimmed_ms = tc->now_ms = os::now_ms();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  ThreadCache* tc = nullptr;
};

TEST_F(Events, ATickServesTheInboxesOfShardsThatSleep) {
  Blocks sent;
  for (unsigned i = 0; i < kShards; i++) {
    const Blocks blocks = test::blocks_of(i, slot_of(64), 3);
    sent.push_back(blocks[0]);
    test::push_to_inbox(i, blocks);
  }
  tick(os::now_ms());
  for (unsigned i = 0; i < kShards; i++) EXPECT_EQ(Inbox::of(i).count(), 3u) << "the time has not come";
  tick(test::later());
  for (unsigned i = 0; i < kShards; i++) EXPECT_TRUE(Inbox::of(i).empty());
  for (void* b : sent) EXPECT_NE(tag_of(b), 0u) << "its run is a spare";
  tick(test::later());
  for (void* b : sent) EXPECT_EQ(tag_of(b), 0u) << "and no longer";
  tick(test::later());
  tick(test::later());
  EXPECT_EQ(PageHeap::dirty_pages(), 0u) << "the pages went back to the kernel";
}

TEST_F(Events, TicksOfSeveralThreadsAreDoneByOne) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([] {
      for (int k = 0; k < 200; k++) {
        free_hot(malloc_hot(64));
        tick(test::later());
      }
    });
  for (std::thread& t : threads) t.join();
}

TEST_F(Events, ATickTellsThePageHeapsWhetherSeveralThreadsAreAtWork) {
  tick(test::later());
  EXPECT_EQ(PageHeap::swing_ms(), kSwingMs);
  {
    Worker worker;
    worker.cache();
    tick(test::later());
    EXPECT_EQ(PageHeap::swing_ms(), kPurgeDecayMs);
  }
  EXPECT_EQ(PageHeap::swing_ms(), kPurgeDecayMs) << "until the next one";
  tick(test::later());
  EXPECT_EQ(PageHeap::swing_ms(), kSwingMs);
}

TEST_F(Events, ASlowCallDoesATickThatIsDueAndNoOther) {
  Inbox& inbox = Inbox::of(kShards - 1);
  test::push_to_inbox(kShards - 1, test::blocks_of(kShards - 1, slot_of(64), 3));
  tc->now_ms = 0;
  slow_call_event(tc);
  EXPECT_EQ(inbox.count(), 3u) << "the next one is far ahead";
  tick(~uint64_t{0});  // after the end of time it is due at its beginning
  EXPECT_TRUE(inbox.empty());
  test::push_to_inbox(kShards - 1, test::blocks_of(kShards - 1, slot_of(64), 3));
  tc->now_ms = 0;
  slow_call_event(tc);
  EXPECT_TRUE(inbox.empty());
}

TEST_F(Events, ASmallStashIsFlushedAfterAFewSlowCalls) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  tc->stash_waits = 0;
  tc->stash.stash_push(other, slot_of(64), test::blocks_of(other, slot_of(64), 1).front());
  for (int i = 0; i < 7; i++) {
    slow_call_event(tc);
    EXPECT_EQ(tc->stash.entries(), 1u);
  }
  slow_call_event(tc);
  EXPECT_EQ(tc->stash.entries(), 0u);
  EXPECT_EQ(Inbox::of(other).count(), 1u);
  for (int i = 0; i < 7; i++) slow_call_event(tc);
  tc->stash.stash_push(other, slot_of(64), test::blocks_of(other, slot_of(64), 1).front());
  slow_call_event(tc);
  EXPECT_EQ(tc->stash.entries(), 1u) << "calls without a stash do not count";
  tc->stash.stash_flush_all();
  remote::drain_to_central(other);
}

TEST_F(Events, AStashThatIsDueIsFlushedByTheNextSlowCall) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  const Slot slot = slot_of(32768);
  for (unsigned i = 0; !tc->stash.due(); i++) tc->stash.stash_push(other, slot, test::blocks_of(other, slot, 1).front());
  tc->stash_waits = 0;
  free_hot(malloc_hot(32768));
  EXPECT_EQ(tc->stash.entries(), 0u);
  EXPECT_EQ(Inbox::of(other).count(), remote::kFlushBytes / 32768);
  remote::drain_to_central(other);
}

// Every kind of slow call: a miss, an overflow, a large block's allocation and its free, by others only if it has a bin.
TEST_F(Events, EverySlowCallCounts) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  tc->stash_waits = 0;
  tc->stash.stash_push(other, slot_of(64), test::blocks_of(other, slot_of(64), 1).front());
  uint32_t calls = 0;
  const auto expect_one_more = [&] { EXPECT_EQ(tc->stash_waits, ++calls); };
  void* b = malloc_hot(3000);
  expect_one_more();
  void* large = malloc_hot(kMaxBinBytes + 1);
  expect_one_more();
  free_hot(large);
  expect_one_more();
  // One of a bin is allocated by a miss; freed by a thread that does not keep it, it goes straight to its owner.
  large = malloc_hot(100000);
  expect_one_more();
  free_hot(large);
  EXPECT_EQ(tc->stash_waits, calls);
  free_hot(test::blocks_of(other, slot_of(200000), 1).front());
  expect_one_more();
  // An overflow only once in so many frees.
  tc->room[slot_of(3000)] = 0;
  tc->frees_since_look = 0;
  free_hot(b);
  EXPECT_EQ(tc->stash_waits, calls);
  b = malloc_hot(3000);
  tc->room[slot_of(3000)] = 0;
  tc->frees_since_look = 64 * kRoomUnit;
  free_hot(b);
  expect_one_more();
  tc->stash.stash_flush_all();
  remote::drain_to_central(other);
}

TEST_F(Events, BinsOfAThreadThatComesByRarelyAreTrimmedByAge) {
  if constexpr (kPurgeDecayMs == 0) GTEST_SKIP() << "every slow call trims";
  const auto in_use = [] {
    unsigned n = 0;
    for (Slot slot = 1; slot <= kTierBins; slot++) n += test::bin_length(tls_own, slot) != 0;
    return n;
  };
  for (Slot slot = 1; slot <= kTierBins; slot++) free_hot(malloc_hot(class_bytes(slot)));
  const unsigned full = in_use();
  ASSERT_GE(full, kTierBins / 2);
  // The thread was last here, and trimmed, so long ago.
  const auto come_by_after = [this](uint64_t ms) {
    tc->now_ms = tc->trimmed_ms = os::now_ms() - ms;
    slow_call_event(tc);
  };
  come_by_after(0);
  EXPECT_EQ(tc->seen_room[slot_of(64)], kBusyBin) << "too early to look";
  come_by_after(10 * kPurgeDecayMs);
  EXPECT_NE(tc->seen_room[slot_of(64)], kBusyBin);
  EXPECT_EQ(in_use(), full) << "in use since the last look";
  // However late it is, a slow call empties a few bins, so that none takes long.
  come_by_after(10 * kPurgeDecayMs);
  const unsigned at_once = full - in_use();
  EXPECT_GE(at_once, 1u);
  EXPECT_LE(at_once, 24u);
  for (int i = 0; i < 8; i++) come_by_after(kPurgeDecayMs);
  EXPECT_EQ(in_use(), 0u);
}

TEST_F(Events, ReclaimGivesBackWhatAnyoneHoldsAndTellsWhetherThereWasAny) {
  Worker worker;
  const unsigned other = worker.cache()->shard;
  worker.run([] { flush_cache(tls_own); });
  api::trim();
  EXPECT_EQ(api::trim(), 0) << "there is nothing";
  Blocks blocks;
  for (size_t bytes : {16, 1000, 4096, 20000, 100000, 5 << 20})
    for (int i = 0; i < 3; i++) blocks.push_back(malloc_hot(bytes));
  for (void* b : blocks) memset(b, 1, 16), free_hot(b);
  test::push_to_inbox(other, test::blocks_of(other, slot_of(64), 5));
  EXPECT_GT(arenas.bytes_in_use(), 0u);
  worker.run([] { EXPECT_EQ(api::trim(), 1); });
  EXPECT_TRUE(Inbox::of(other).empty());
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  EXPECT_GT(test::blocks_in_bins(tc), 0u) << "a thread's bins are its own to flush";
  EXPECT_EQ(api::trim(), 1);
  EXPECT_EQ(test::blocks_in_bins(tc), 0u);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
  EXPECT_EQ(api::trim(), 0);
}

}  // namespace
}  // namespace hz3
