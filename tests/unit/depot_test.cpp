// The depot: what it has room for, who gets it, what becomes of lists that nobody asks for.
#include "hz3/depot.hpp"

#include "hz3/budget.hpp"
#include "hz3/hot.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Worker;

class DepotTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kDepotBytes < 2 * kListBytes) GTEST_SKIP() << "no room in this configuration";
    test::no_ticks();
    Depot::send_all_home();
    while (Depot::granted() != 0) Depot::send_idle_home();
  }
  void TearDown() override {
    Depot::send_all_home();
    for (int i = 0; i < 40 && Depot::granted() != 0; i++) Depot::send_idle_home();
    EXPECT_EQ(Depot::granted(), 0u) << "what is not made use of falls";
    EXPECT_NOTHING_LOST();
  }
  // Whether the depot takes a new list; otherwise it goes back.
  bool put(unsigned n, unsigned shard = 0) {
    const Blocks blocks = test::blocks_of(shard, slot, n);
    if (depot().put(test::list_of(blocks), n)) return true;
    test::give_back(blocks);
    return false;
  }
  // Somebody wanted what there was no room for.
  void make_room(int times = 1) {
    for (int i = 0; i < times; i++) {
      while (put(16)) {
      }
      while (void* list = depot().take().head) return_home(list);
      depot().take();
    }
  }
  Depot& depot() { return Depot::of(slot); }
  static constexpr size_t kListBytes = 16 * 1024;
  const Slot slot = slot_of(1024);
};

TEST_F(DepotTest, ServesClassesWhoseBlocksShareNoCacheLine) {
  for (Slot s = 1; s < kSlots; s++) EXPECT_EQ(Depot::serves(s), class_bytes(s) % kCacheLine == 0);
}

TEST_F(DepotTest, HasRoomOnlyForWhatIsExchanged) {
  EXPECT_EQ(depot().take().head, nullptr);
  EXPECT_FALSE(put(4)) << "nobody has wanted any";
  EXPECT_EQ(depot().blocks(), 0u);
  EXPECT_EQ(depot().take().head, nullptr) << "now somebody has";
  const Blocks blocks = test::blocks_of(0, slot, 4);
  ASSERT_TRUE(depot().put(test::list_of(blocks), 5)) << "a bound, not a count";
  EXPECT_EQ(depot().blocks(), 5u);
  Depot::check();
  const Depot::List list = depot().take();
  EXPECT_EQ(test::blocks_in(list.head), blocks);
  EXPECT_EQ(list.count, 5u);
  EXPECT_EQ(depot().blocks(), 0u);
  test::give_back(blocks);
}

TEST_F(DepotTest, TheListThatCameLastLeavesFirst) {
  make_room();
  const Blocks first = test::blocks_of(0, slot, 3), last = test::blocks_of(kShards - 1, slot, 2);
  ASSERT_TRUE(depot().put(test::list_of(first), 3));
  ASSERT_TRUE(depot().put(test::list_of(last), 2));
  Depot::check();
  EXPECT_EQ(test::blocks_in(depot().take().head), last);
  EXPECT_EQ(test::blocks_in(depot().take().head), first);
  test::give_back(first);
  test::give_back(last);
}

TEST_F(DepotTest, ItsLimitDoublesUpToABoundAndIsOfTheBudget) {
  const size_t before = process_budget.granted();
  size_t limit = 0;
  for (int i = 0; i < 20; i++) {
    make_room();
    EXPECT_LE(Depot::granted(), kDepotBytes);
    EXPECT_TRUE(Depot::granted() > limit || limit == kDepotBytes || Depot::granted() > kDepotBytes / 2 ||
                limit >= 31 * kListBytes)
        << limit;
    limit = Depot::granted();
    EXPECT_EQ(process_budget.granted(), before + limit);
  }
  EXPECT_GE(limit, 8 * kListBytes);
  unsigned blocks = 0;
  while (put(16)) blocks += 16;
  EXPECT_LE(blocks * class_bytes(slot), limit);
  EXPECT_EQ(depot().blocks(), blocks);
  Depot::check();
}

TEST_F(DepotTest, ListsThatNobodyAskedForGoHome) {
  make_room(4);
  for (int i = 0; i < 3; i++) ASSERT_TRUE(put(4, i % kShards));
  Depot::send_idle_home();
  EXPECT_EQ(depot().blocks(), 12u) << "they have just come";
  const Depot::List taken = depot().take();
  Depot::send_idle_home();
  EXPECT_EQ(depot().blocks(), 0u) << "two were there all the time";
  return_home(taken.head);
  ASSERT_TRUE(put(4));
  Depot::send_idle_home();
  const Depot::List again = depot().take();
  ASSERT_TRUE(depot().put(again.head, again.count));
  Depot::send_idle_home();
  EXPECT_EQ(depot().blocks(), 4u) << "it was asked for";
}

TEST_F(DepotTest, ItsLimitFallsWhenItIsNotMadeUseOf) {
  make_room(4);
  const size_t limit = Depot::granted();
  Depot::send_idle_home();
  EXPECT_EQ(Depot::granted(), limit) << "it was, since the last time";
  ASSERT_TRUE(put(4));
  Depot::send_idle_home();
  EXPECT_EQ(Depot::granted(), limit);
  Depot::send_idle_home();
  EXPECT_EQ(depot().blocks(), 0u) << "nobody asked for it";
  EXPECT_EQ(Depot::granted(), limit / 2);
  Depot::send_idle_home();
  EXPECT_EQ(Depot::granted(), limit / 4);
}

// One thread allocates, another frees and allocates: the list that is too much for it comes back to the first.
TEST_F(DepotTest, AThreadThatRunsOutGetsWhatAnotherHasTooMuchOf) {
  Worker a, b;
  Blocks blocks;
  unsigned from_depot = 0;
  for (int round = 0; round < 20; round++) {
    a.run([&] {
      for (int i = 0; i < 400; i++) {
        const ThreadCache* tc = tls_cache;
        if (tc->head[slot] == nullptr && tc->second[slot] == nullptr && depot().blocks() != 0) from_depot++;
        blocks.push_back(malloc_hot(1024));
      }
    });
    b.run([&] {
      void* own = malloc_hot(1024);  // it allocates, too, so it keeps what it frees
      for (void* block : blocks) free_hot(block);
      free_hot(own);
    });
    blocks.clear();
    Depot::check();
  }
  EXPECT_GT(from_depot, 20u);
}

TEST_F(DepotTest, AThreadAloneLeavesItEmpty) {
  Worker only;
  only.run([&] {
    for (int round = 0; round < 10; round++) {
      Blocks blocks;
      for (int i = 0; i < 400; i++) blocks.push_back(malloc_hot(1024));
      for (void* block : blocks) free_hot(block);
    }
  });
  if (thread_registry.threads() == 1) {
    EXPECT_EQ(depot().blocks(), 0u);
  }
}

TEST_F(DepotTest, TrimEmptiesIt) {
  make_room();
  ASSERT_TRUE(put(8));
  api::trim();
  EXPECT_EQ(depot().blocks(), 0u);
}

// A tick leaves lists that have just come where they are; but not when the process holds more than it is to.
TEST_F(DepotTest, ATickAboveTheSoftLimitEmptiesIt) {
  make_room();
  ASSERT_TRUE(put(8));
  tick(test::later());
  EXPECT_EQ(depot().blocks(), 8u);
  while (void* list = depot().take().head) return_home(list);

  void* span = malloc_hot(size_t{4} << 20);
  settings::values[settings::kSoftLimitMib] = 1;
  ASSERT_TRUE(PageHeap::above_soft_limit());
  ASSERT_TRUE(put(8));
  tick(test::later());
  EXPECT_EQ(depot().blocks(), 0u);
  settings::values[settings::kSoftLimitMib] = 0;
  free_hot(span);
}

// Threads that put and take at random lose nothing and double nothing.
TEST_F(DepotTest, Stress) {
  make_room(6);
  constexpr int kThreads = 4, kRounds = 3000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 1);
      Blocks mine = test::blocks_of(t % kShards, slot, 40);
      for (int i = 0; i < kRounds; i++) {
        if (random.below(2) == 0 && mine.size() >= 8) {
          const Blocks some(mine.end() - 8, mine.end());
          if (depot().put(test::list_of(some), 8)) mine.resize(mine.size() - 8);
        } else {
          const Blocks some = test::blocks_in(depot().take().head);
          for (void* block : some) *(static_cast<uint64_t*>(block) + 1) = static_cast<uint64_t>(t);
          for (void* block : some) ASSERT_EQ(*(static_cast<uint64_t*>(block) + 1), static_cast<uint64_t>(t));
          mine.insert(mine.end(), some.begin(), some.end());
        }
        if (i % 500 == 0) Depot::send_idle_home();
      }
      test::give_back(mine);
    });
  for (std::thread& thread : threads) thread.join();
  Depot::check();
}

}  // namespace
}  // namespace hz3
