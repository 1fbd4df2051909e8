// Where a bin that has run empty gets its blocks from, what a thread without a cache does, and frees of what is not ours.
#include <cstdlib>

#include "hz3/bins.hpp"
#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::Call;
using test::Kernel;
using test::Worker;

class SlowPath : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    flush_cache(tc);
    tc->trimmed_ms = os::now_ms();
    for (unsigned i = 0; i < kShards; i++) Central::of(i).release_all_spares();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }

  unsigned next_shard(unsigned by = 1) const { return (tc->shard + by) % kShards; }
  // Blocks that a shard had given out and that are back; others of their runs stay out, in held_.
  Blocks returned_to(unsigned shard, Slot slot, unsigned n) {
    std::set<hz3::Run*> runs;
    Blocks blocks;
    while (blocks.size() < n) {
      void* b = test::blocks_of(shard, slot, 1).front();
      (runs.insert(run_of(b)).second ? held_ : blocks).push_back(b);
    }
    test::give_back(blocks);
    EXPECT_EQ(Central::of(shard).returned(slot), n);
    return blocks;
  }
  void give_back_held() {
    test::give_back(held_);
    held_.clear();
  }
  ThreadCache* tc = nullptr;
  Blocks held_;
};

TEST_F(SlowPath, AMissTakesARefillAndNoMore) {
  for (Slot slot : {Slot{1}, slot_of(64), slot_of(4096), Slot{kTierBins}}) {
    const unsigned refill = class_info(slot).refill;
    returned_to(tc->shard, slot, 2 * refill);
    void* b = malloc_hot(class_bytes(slot));
    EXPECT_EQ(test::bin_length(tc, slot), refill - 1);
    EXPECT_EQ(Central::of(tc->shard).returned(slot), refill);
    free_hot(b);
    give_back_held();
    flush_cache(tc);
    EXPECT_EQ(Central::of(tc->shard).returned(slot), 0u);
  }
}

TEST_F(SlowPath, TheInboxIsServedBeforeCentral) {
  const Slot slot = slot_of(64);
  const Blocks in_central = returned_to(tc->shard, slot, 40);
  const Blocks sent = test::blocks_of(tc->shard, slot, 3);
  for (void* b : sent) EXPECT_TRUE(test::contains(in_central, b)) << "the fullest run gives first";
  test::push_to_inbox(tc->shard, sent);
  Blocks got;
  for (int i = 0; i < 3; i++) got.push_back(malloc_hot(64));
  EXPECT_EQ(test::as_set(got), test::as_set(sent));
  EXPECT_EQ(Central::of(tc->shard).returned(slot), 37u);
  for (void* b : got) free_hot(b);
  give_back_held();
}

TEST_F(SlowPath, AnInboxWithoutTheClassIsTakenAllTheSame) {
  const Slot slot = slot_of(64), other = slot_of(4096);
  const Blocks sent = test::blocks_of(tc->shard, other, 1);
  test::push_to_inbox(tc->shard, sent);
  void* b = malloc_hot(64);
  EXPECT_EQ(tag_of(b), make_tag(slot, tc->shard));
  EXPECT_TRUE(Inbox::of(tc->shard).empty());
  EXPECT_EQ(tc->head[other], sent[0]) << "the bin has it, not central";
  EXPECT_EQ(malloc_hot(4096), sent[0]);
  free_hot(sent[0]);
  free_hot(b);
}

class Borrow : public SlowPath {
 protected:
  void SetUp() override {
    if constexpr (kShards < 2) GTEST_SKIP();
    SlowPath::SetUp();
    tc->shards_asked = 0;
  }
  // The shard whose block a miss gets.
  unsigned shard_of_new_block(Slot slot) {
    void* b = malloc_hot(class_bytes(slot));
    const unsigned shard = tag_shard(tag_of(b));
    free_hot(b);
    flush_cache(tc);
    for (unsigned i = 0; i < kShards; i++) remote::drain_to_central(i);
    return shard;
  }
  const Slot slot = slot_of(64);
  const unsigned want = class_info(slot).refill;
};

TEST_F(Borrow, BlocksThatCameBackToAnotherShardAreTakenBeforeANewRun) {
  const Blocks blocks = returned_to(next_shard(), slot, want);
  void* b = malloc_hot(64);
  EXPECT_TRUE(test::contains(blocks, b));
  EXPECT_EQ(test::bin_length(tc, slot), want - 1);
  EXPECT_EQ(Central::of(next_shard()).returned(slot), 0u);
  EXPECT_EQ(Central::of(tc->shard).totals().runs, 0u) << "no run was made";
  free_hot(b);
  flush_cache(tc);
  EXPECT_EQ(Inbox::of(next_shard()).count(), want) << "and they go home afterwards";
  remote::drain_to_central(next_shard());
  give_back_held();
}

TEST_F(Borrow, NotFewerThanARefill) {
  returned_to(next_shard(), slot, want - 1);
  EXPECT_EQ(shard_of_new_block(slot), tc->shard);
  EXPECT_EQ(Central::of(next_shard()).returned(slot), want - 1);
  give_back_held();
}

TEST_F(Borrow, NotWhileTheShardHasBlocksOfItsOwn) {
  const Blocks own = returned_to(tc->shard, slot, 1);
  returned_to(next_shard(), slot, want);
  void* b = malloc_hot(64);
  EXPECT_EQ(b, own[0]);
  free_hot(b);
  give_back_held();
}

TEST_F(Borrow, FromAnInboxThatNobodyComesFor) {
  for (unsigned count : {63u, 64u}) {
    tc->shards_asked = 0;
    const Blocks sent = test::blocks_of(next_shard(), slot, count);
    const Blocks held = test::blocks_of(next_shard(), slot, 1);
    test::push_to_inbox(next_shard(), sent);
    void* b = malloc_hot(64);
    EXPECT_EQ(tag_shard(tag_of(b)), count < 64 ? tc->shard : next_shard());
    EXPECT_EQ(test::contains(sent, b), count == 64);
    EXPECT_EQ(Inbox::of(next_shard()).empty(), count == 64);
    free_hot(b);
    flush_cache(tc);
    remote::drain_to_central(next_shard());
    Central::of(tc->shard).release_all_spares();
    test::give_back(held);
    Central::of(next_shard()).release_all_spares();
  }
}

TEST_F(Borrow, OneInboxASearch) {
  if constexpr (kShards < 3) GTEST_SKIP();
  const Slot other = slot_of(1024);  // the search finds nothing of its own class in them
  for (unsigned by : {1u, 2u}) test::push_to_inbox(next_shard(by), test::blocks_of(next_shard(by), other, 64));
  EXPECT_EQ(tag_shard(tag_of(held_.emplace_back(malloc_hot(64)))), tc->shard);
  EXPECT_TRUE(Inbox::of(next_shard(1)).empty());
  EXPECT_EQ(Inbox::of(next_shard(2)).count(), 64u) << "a miss does no more than that for others";
  free_hot(held_[0]);
  remote::drain_to_central(next_shard(2));
}

TEST_F(Borrow, ClassesThatShareCacheLinesOnlyFromShardsWithoutThreads) {
  const Slot shares = slot_of(48);
  const unsigned few = class_info(shares).refill;
  {
    Worker worker;
    ASSERT_EQ(worker.cache()->shard, next_shard());
    returned_to(next_shard(), shares, few);
    returned_to(next_shard(), slot, want);
    EXPECT_EQ(shard_of_new_block(shares), tc->shard);
    tc->shards_asked = 0;
    EXPECT_EQ(shard_of_new_block(slot), next_shard()) << "whose blocks have lines of their own";
    worker.run([] { flush_cache(tls_own); });
  }
  ASSERT_EQ(thread_registry.live_threads(next_shard()), 0u);
  Central::of(tc->shard).release_all_spares();
  ASSERT_EQ(Central::of(tc->shard).totals().runs, 0u);
  EXPECT_EQ(shard_of_new_block(shares), next_shard());
  give_back_held();
}

TEST_F(Borrow, SixteenShardsAreAskedAndTheNextTimeTheOthers) {
  if constexpr (kShards < 18) GTEST_SKIP() << "all of them are asked";
  returned_to(next_shard(17), slot, want);
  EXPECT_EQ(shard_of_new_block(slot), tc->shard);
  Central::of(tc->shard).release_all_spares();
  EXPECT_EQ(shard_of_new_block(slot), next_shard(17));
  EXPECT_EQ(shard_of_new_block(slot), next_shard(17)) << "where something was found it begins again";
  give_back_held();
}

TEST_F(SlowPath, WithoutMemoryCallsFailWithENOMEMAndServiceComesBack) {
  Blocks blocks;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    for (;;) {
      errno = 0;
      void* b = malloc_hot(32768);
      if (b == nullptr) break;
      EXPECT_EQ(errno, 0);
      memset(b, 1, 32768);
      blocks.push_back(b);
      ASSERT_LT(blocks.size(), 100000u);
    }
    EXPECT_EQ(errno, ENOMEM);
    const auto fails = [](auto call) {
      errno = 0;
      EXPECT_EQ(call(), nullptr);
      EXPECT_EQ(errno, ENOMEM);
    };
    fails([] { return api::calloc(1, 32768); });
    fails([] { return api::calloc(1, 100000); });
    fails([] { return malloc_hot(100000); });
    fails([] { return malloc_hot(3 << 20); });
    fails([] { return api::memalign(4096, 30000); });
    fails([] { return api::memalign(1 << 16, 100); });
    fails([&] { return api::realloc(blocks[0], 40000); });
    EXPECT_TRUE(test::all_bytes(blocks[0], 32768, 1)) << "the block is as before";
    // What the thread itself gives up serves the next call, of any size.
    for (size_t i = 1; i < blocks.size(); i++) free_hot(blocks[i]);
    blocks.resize(1);
    void* large = malloc_hot(500000);
    ASSERT_NE(large, nullptr);
    memset(large, 1, 500000);
    free_hot(large);
    for (size_t bytes : {16, 3000, 32768}) {
      void* b = malloc_hot(bytes);
      ASSERT_NE(b, nullptr);
      free_hot(b);
    }
  }
  void* b = malloc_hot(8 << 20);
  EXPECT_NE(b, nullptr);
  free_hot(b);
  free_hot(blocks[0]);
}

// All memory is in use but for what waits in the inbox of a shard that nobody looks at.
TEST_F(SlowPath, BeforeACallFailsWhatOthersHoldIsGivenUp) {
  if constexpr (kShards < 2) GTEST_SKIP();
  for (size_t bytes : {3000, 40000}) {
    const Blocks waiting = test::blocks_of(next_shard(), slot_of(8192), 40);
    Blocks blocks;
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    for (size_t each : {size_t{32768}, size_t{4096}, bytes})
      while (void* b = malloc_hot(each)) {
        blocks.push_back(b);
        ASSERT_LT(blocks.size(), 100000u);
      }
    test::push_to_inbox(next_shard(), waiting);
    void* b = malloc_hot(bytes);
    EXPECT_NE(b, nullptr);
    EXPECT_TRUE(Inbox::of(next_shard()).empty());
    blocks.push_back(b);
    for (void* each : blocks) free_hot(each);
  }
}

TEST_F(SlowPath, ImpossibleSizesFail) {
  for (size_t bytes : {size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1, SIZE_MAX - 15, SIZE_MAX}) {
    errno = 0;
    EXPECT_EQ(malloc_hot(bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(api::calloc(1, bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
}

TEST_F(SlowPath, FreesOfForeignPointersAreIgnored) {
  static char there[64];
  char here[64] = {};
  void* of_libc = std::malloc(100);
  memset(of_libc, 7, 100);
  void* above = malloc_hot(64);  // so that there is an arena
  const uintptr_t end = hot_map.base + (hot_map.pages << kPageShift);
  errno = 77;
  for (void* p : {static_cast<void*>(nullptr), static_cast<void*>(here + 16), static_cast<void*>(there), of_libc,
                  reinterpret_cast<void*>(16), reinterpret_cast<void*>(~uintptr_t{15}), static_cast<void*>(hot_map.tags),
                  reinterpret_cast<void*>(hot_map.base - 16), reinterpret_cast<void*>(end)}) {
    free_hot(p);
    EXPECT_EQ(api::usable_size(p), 0u);
    test::in_thread([p] { free_hot(p); });
  }
  EXPECT_EQ(errno, 77);
  EXPECT_TRUE(test::all_bytes(of_libc, 100, 7));
  EXPECT_TRUE(test::all_bytes(here, 64, 0) && test::all_bytes(there, 64, 0));
  errno = 0;
  EXPECT_EQ(api::realloc(of_libc, 50), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  std::free(of_libc);
  free_hot(above);
}

TEST_F(SlowPath, AThreadWhoseCacheEndedAllocatesAndFreesAlways) {
  Blocks mine;
  for (int i = 0; i < 100; i++) mine.push_back(malloc_hot(64));
  test::in_thread([&] {
    tls_cache = &ended_cache;
    for (int round = 0; round < 3; round++) {
      Blocks blocks;
      for (size_t bytes : {0, 1, 64, 300, 2048, 3000, 4096, 32768, 32769, 1 << 20, 3 << 20}) {
        for (int i = 0; i < 5; i++) {
          void* b = i % 2 != 0 ? malloc_hot(bytes) : api::calloc(1, bytes);
          ASSERT_NE(b, nullptr);
          EXPECT_TRUE(i % 2 != 0 || test::all_bytes(b, bytes, 0));
          EXPECT_GE(api::usable_size(b), bytes);
          memset(b, 0xee, bytes);
          blocks.push_back(b);
        }
        void* aligned = api::memalign(512, bytes);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % 512, 0u);
        blocks.push_back(api::realloc(aligned, bytes + 1000));
      }
      EXPECT_EQ(test::as_set(blocks).size(), std::set<void*>(blocks.begin(), blocks.end()).size());
      for (void* b : blocks) free_hot(b);
    }
    for (void* b : mine) free_hot(b);
    EXPECT_EQ(tls_cache, &ended_cache) << "it never gets another";
    EXPECT_EQ(test::blocks_in_bins(&ended_cache), 0u);
  });
}

TEST_F(SlowPath, WhatAThreadWithoutACacheFreesGoesStraightToItsOwner) {
  const unsigned owner = next_shard();
  const Blocks blocks = test::blocks_of(owner, slot_of(64), 5);
  test::in_thread([&] { free_hot(blocks[1]); });
  EXPECT_EQ(Central::of(owner).returned(slot_of(64)), 1u);
  EXPECT_TRUE(Inbox::of(owner).empty());
  set_link(blocks[0], nullptr);
  test::give_back({blocks[0], blocks[2], blocks[3], blocks[4]});
}

}  // namespace
}  // namespace hz3
