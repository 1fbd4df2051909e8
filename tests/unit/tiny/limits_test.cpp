// Everything at its least: bins of eight blocks, refills of four, pages that go back at once, more threads than shards.
#include <condition_variable>
#include <mutex>

#include "hz3/bins.hpp"
#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Worker;

static_assert(kShards == 2 && kBinLimitBlocks == 8 && kRefillBlocks == 4 && kPurgeReservePages == 0, "tiny.config");

class Tiny : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    api::trim();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  ThreadCache* tc = nullptr;
};

TEST_F(Tiny, LimitsAreAtTheirEnds) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    EXPECT_LE(c.limit_first, 8);
    EXPECT_GE(c.limit_first, slot <= kTierBins ? 4 : 1);
    EXPECT_GE(c.limit_most, c.limit_first);
    EXPECT_LE(c.limit_most, 16);
    EXPECT_LE(c.refill, 4u * c.size > kPageSize ? 4 : 8) << "or a page, as far as the limit allows";
    for (int i = 0; i < 5; i++) grow_limit(tc, slot);
    EXPECT_EQ(tc->limit[slot], c.limit_most);
    drop_grants(tc);  // all large classes together would exceed the budget
    reset_bins(tc);
  }
}

TEST_F(Tiny, BinsOfAllClassesKeepTheirBound) {
  test::Random random(1);
  std::vector<std::pair<void*, Slot>> live;
  for (int step = 0; step < 40000; step++) {
    if (live.empty() || random.below(100) < (step / 2000 % 2 == 0 ? 60u : 40u)) {
      const Slot slot = 1 + static_cast<Slot>(random.below(kSlots - 1));
      void* b = malloc_hot(class_bytes(slot));
      ASSERT_EQ(tag_slot(tag_of(b)), slot);
      live.emplace_back(b, slot);
    } else {
      std::swap(live[random.below(live.size())], live.back());
      const auto [b, slot] = live.back();
      live.pop_back();
      free_hot(b);
      ASSERT_NO_FATAL_FAILURE(test::expect_bounded(tc, slot));
    }
  }
  for (auto [b, slot] : live) free_hot(b);
}

TEST_F(Tiny, PagesGoBackAtOnce) {
  Blocks blocks;
  for (size_t bytes : {300000, 400000, 500000, 3 << 20})
    for (int i = 0; i < 3; i++) {
      blocks.push_back(malloc_hot(bytes));
      memset(blocks.back(), 1, bytes);
    }
  for (void* b : blocks) {
    free_hot(b);
    EXPECT_EQ(PageHeap::dirty_pages(), 0u);
    EXPECT_EQ(large::cached_span_bytes(), 0u);
  }
  EXPECT_EQ(arenas.bytes_in_use(), 0u) << "and segments to the arena";
  // And of those in bins as soon as they leave them.
  for (size_t bytes : {40000, 100000, 200000}) {
    void* b = malloc_hot(bytes);
    memset(b, 1, bytes);
    free_hot(b);
    EXPECT_EQ(tc->head[slot_of(bytes)], b);
    flush_cache(tc);
    EXPECT_EQ(PageHeap::dirty_pages(), 0u);
    EXPECT_EQ(arenas.bytes_in_use(), 0u);
  }
}

TEST_F(Tiny, BlocksOfARunThatWentBackAreCleared) {
  for (int round = 0; round < 50; round++) {
    Blocks blocks;
    for (size_t bytes : {64, 1000, 4096, 32768, 100000})
      for (int i = 0; i < 10; i++) {
        blocks.push_back(api::calloc(1, bytes));
        ASSERT_TRUE(test::all_bytes(blocks.back(), bytes, 0)) << bytes;
        memset(blocks.back(), 0xee, bytes);
      }
    for (void* b : blocks) free_hot(b);
  }
}

// 300 threads at once: half of them a shard, all of them with blocks of the others.
TEST_F(Tiny, ThreeHundredThreadsOnTwoShards) {
  constexpr unsigned kThreads = 300, kExchange = 600;
  std::vector<std::atomic<void*>> exchange(kExchange);
  std::mutex mutex;
  std::condition_variable all_here;
  unsigned here = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::my_cache();
      {
        std::unique_lock lock(mutex);
        if (++here == kThreads) {
          EXPECT_LE(thread_registry.live_threads(0), kThreads / 2 + 1);
          EXPECT_LE(thread_registry.live_threads(1), kThreads / 2 + 1);
          EXPECT_EQ(thread_registry.live_threads(0) + thread_registry.live_threads(1), kThreads + 1);
          all_here.notify_all();
        }
        all_here.wait(lock, [&] { return here == kThreads; });
      }
      test::Random random(t + 1);
      for (int step = 0; step < 150; step++) {
        const size_t bytes = 16 + random.below(step % 16 == 0 ? 40000 : 600);
        uint64_t* p = static_cast<uint64_t*>(malloc_hot(bytes));
        p[0] = reinterpret_cast<uintptr_t>(p);
        p[1] = bytes;
        uint64_t* q = static_cast<uint64_t*>(exchange[random.below(kExchange)].exchange(p));
        if (q == nullptr) continue;
        ASSERT_EQ(q[0], reinterpret_cast<uintptr_t>(q)) << "a block is in one place";
        ASSERT_LE(q[1], api::usable_size(q));
        free_hot(q);
      }
    });
  for (std::thread& t : threads) t.join();
  for (std::atomic<void*>& b : exchange) free_hot(b);
  EXPECT_EQ(thread_registry.live_threads(0) + thread_registry.live_threads(1), 1u);
  EXPECT_GE(thread_registry.caches(), kThreads);
}

TEST_F(Tiny, AStashIsFlushedEverySixteenFrees) {
  static_assert(remote::kFlushBatch == 16);
  const unsigned other = 1 - tc->shard;
  const Blocks blocks = test::blocks_of(other, slot_of(48), 100);
  unsigned most = 0;
  tc->stash_waits = 0;
  for (void* b : blocks) {
    free_hot(b);
    const unsigned waiting = tc->stash.entries();
    if (waiting > most) most = waiting;
  }
  EXPECT_EQ(most, 15u);
  EXPECT_EQ(remote::Inbox::of(other).count(), 96u);
  flush_cache(tc);
  remote::drain_to_central(other);
}

}  // namespace
}  // namespace hz3
