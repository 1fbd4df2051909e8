// Nothing is stranded: blocks on their way to a shard that no thread serves are served by others. By adoption when these are in
// need of memory, by the tick in any case. No tick comes here by itself, and nothing is timed.
#include "hz3/depot.hpp"
#include "hz3/info.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Worker;

constexpr size_t kHeld = 8 << 20;
constexpr size_t kShared = 100;     // its blocks share cache lines: a remote free sends them home
constexpr size_t kExchanged = 256;  // they do not: the depot

class Stranded : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kShards < 2) GTEST_SKIP();
    test::my_cache();
    api::trim();
    test::no_ticks();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }

  static Blocks hold(size_t bytes, size_t size) {
    Blocks blocks(bytes / size);
    for (void*& b : blocks) b = memset(malloc_hot(size), 1, size);
    return blocks;
  }
  static size_t bytes_in_use() { return info::mallinfo2().uordblks; }
  static void ticks(unsigned n) {
    while (n-- > 0) tick(test::later());
  }
};

TEST_F(Stranded, ProducersEndedAndConsumersDoNothingButFree) {
  for (size_t size : {kShared, kExchanged}) {
    SCOPED_TRACE(size);
    Worker consumer;
    consumer.cache();
    Blocks blocks[3];
    for (Blocks& of_one : blocks) test::in_thread([&] { of_one = hold(kHeld / 3, size); });
    consumer.run([&] {
      for (Blocks& of_one : blocks)
        for (void* b : of_one) free_hot(b);
      tls_own->stash.stash_flush_all();  // as it does within its next few slow calls
    });
    ticks(1);
    EXPECT_LT(bytes_in_use(), kHeld / 4);
    EXPECT_TRUE(consumer.cache()->in_use) << "it has not ended, and keeps what its bins may hold";
  }
}

TEST_F(Stranded, OneSleepsWhileOthersSend) {
  for (size_t size : {kShared, kExchanged}) {
    SCOPED_TRACE(size);
    Worker sleeper;
    Blocks blocks;
    sleeper.run([&] { blocks = hold(kHeld, size); });
    Worker senders[2];
    for (int round = 0; round < 2; round++)
      for (unsigned i = 0; i < 2; i++)
        senders[i].run([&] {
          for (size_t at = i; at < blocks.size(); at += 2) {
            free_hot(blocks[at]);
            blocks[at] = memset(malloc_hot(size), 1, size);
          }
        });
    EXPECT_LT(bytes_in_use(), kHeld * 3 / 2) << "it is twice as much if nothing of the sleeper's is used again";
    senders[0].run([&] {
      for (void* b : blocks) free_hot(b);
    });
    ticks(1);
    EXPECT_LT(bytes_in_use(), kHeld / 4);
  }
}

// A thread that allocated from a class sends what it does not need to the depot, where nobody may ask for it.
TEST_F(Stranded, ListsInTheDepotForWhichNobodyAsks) {
  Worker a;
  const Slot slot = slot_of(kExchanged);
  a.run([&] {
    Blocks blocks = hold(kHeld, kExchanged);
    for (int round = 0; round < 4; round++) {
      for (void* b : blocks) free_hot(b);
      for (void*& b : blocks) b = malloc_hot(kExchanged);
    }
    for (void* b : blocks) free_hot(b);
  });
  if (Depot::of(slot).blocks() == 0) GTEST_SKIP() << "it has no room in this configuration";
  ticks(1);
  EXPECT_NE(Depot::of(slot).blocks(), 0u) << "they may be asked for until the next one";
  ticks(1);
  EXPECT_EQ(Depot::of(slot).blocks(), 0u);
}

// Of a thread that ends all is central's at once, but what others own: that is in their inboxes.
TEST_F(Stranded, AThreadEndsWithBlocksOfShardsThatNobodyServes) {
  Worker other;
  Blocks blocks;
  test::in_thread([&] { blocks = hold(kHeld, kShared); });
  other.cache();
  Worker third;
  third.cache();
  test::in_thread([&] {
    test::my_cache();
    for (void* b : blocks) free_hot(b);
  });
  ticks(1);
  EXPECT_LT(bytes_in_use(), kHeld / 4);
}

}  // namespace
}  // namespace hz3
