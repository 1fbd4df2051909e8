// What the statistics build counts, step by step.
#include <string>

#include "hz3/info.hpp"
#include "hz3/statistics.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/stats_text.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using statistics::Counts;
using test::Blocks;

class Counters : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    before = statistics::sums();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  // Since the last call.
  Counts counted() {
    const Counts now = statistics::sums();
    Counts more;
    for (unsigned i = 0; i < now.size(); i++) more[i] = now[i] - before[i];
    before = now;
    return more;
  }
  Counts before;
};

// Of a class that shares cache lines, so that the stash takes each remote block.
constexpr size_t kOdd = 48;

TEST_F(Counters, ABlockGoesThroughStashInboxAndCentral) {
  test::Worker owner, other;
  Blocks blocks;
  owner.run([&] {
    for (int i = 0; i < 100; i++) blocks.push_back(malloc_hot(kOdd));
  });
  other.run([&] {
    ASSERT_NE(test::my_cache()->shard, tag_shard(tag_of(blocks[0])));
    counted();
    for (void* b : blocks) free_hot(b);
    Counts c = counted();
    EXPECT_EQ(c[statistics::kRemote], 100u);
    EXPECT_EQ(c[statistics::kKept], 0u);
    EXPECT_EQ(c[statistics::kStashed], 0u);
    EXPECT_EQ(statistics::atomics_of_all(c), 0u) << "they wait in the stash";
    tls_own->stash.stash_flush_all();
    c = counted();
    EXPECT_EQ(c[statistics::kStashed], 100u);
    EXPECT_EQ(c[statistics::kHandOvers], 1u);
    EXPECT_EQ(statistics::atomics_on_remote(c), 1u);
    remote::drain_to_central(tag_shard(tag_of(blocks[0])));
    c = counted();
    EXPECT_EQ(c[statistics::kInboxTakes], 1u);
    EXPECT_EQ(c[statistics::kCentralPuts], 1u);
    EXPECT_EQ(c[statistics::kLocks], 1u);
    EXPECT_EQ(statistics::atomics_on_remote(c), 3u);
    EXPECT_EQ(statistics::atomics_of_all(c), 3u);
  });
}

TEST_F(Counters, AThreadsCountsAreAddedUpAtItsEnd) {
  Blocks blocks;
  for (int i = 0; i < 40; i++) blocks.push_back(malloc_hot(kOdd));
  counted();
  test::in_thread([&] {
    test::my_cache();
    for (void* b : blocks) free_hot(b);
  });
  const Counts c = counted();
  EXPECT_EQ(c[statistics::kRemote], 40u);
  EXPECT_EQ(c[statistics::kStashed], 40u);
}

TEST_F(Counters, AFreeWithoutACacheIsCountedAtOnce) {
  void* b = malloc_hot(kOdd);
  counted();
  test::in_thread([&] { free_hot(b); });
  const Counts c = counted();
  EXPECT_EQ(c[statistics::kRemote], 1u);
  EXPECT_EQ(c[statistics::kCentralPuts], 1u);
}

TEST_F(Counters, MallocStatsPrintsThem) {
  const std::string text = test::stats_text();
  const Counts c = statistics::sums();
  EXPECT_NE(text.find("\nhz3: remote blocks " + std::to_string(c[statistics::kRemote]) + ","), std::string::npos) << text;
  const size_t at = text.find("\nhz3: atomics per remote block ");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_NEAR(std::stod(text.substr(at + 31)),
              static_cast<double>(statistics::atomics_on_remote(c)) / static_cast<double>(c[statistics::kRemote]), 0.00051)
      << text;
}

// In a child, as a thread that fails there stops the program. All of them live at the same time.
TEST(CollisionDeathTest, AThreadThatSharesItsShardStopsTheProgram) {
  const auto start_beside_each_other = [](unsigned threads) {
    // Or two of them may come for the exit key at once, and one of these goes without a cache that time.
    test::in_thread([] { test::my_cache(); });
    std::atomic<unsigned> ready{0};
    std::vector<std::thread> started;
    for (unsigned i = 0; i < threads; i++)
      started.emplace_back([&] {
        test::my_cache();
        for (ready++; ready < threads;) std::this_thread::yield();
      });
    for (std::thread& thread : started) thread.join();
  };
  EXPECT_EXIT((start_beside_each_other(kShards), _exit(0)), testing::ExitedWithCode(0), "^$");
  EXPECT_EXIT(start_beside_each_other(kShards + 1), testing::KilledBySignal(SIGABRT),
              "^hz3: a thread starts on shard 0, which another thread has\n$");
}

}  // namespace
}  // namespace hz3
