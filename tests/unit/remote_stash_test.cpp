// The remote stash, whichever kind is configured, as a class of its own: every block reaches its owner's inbox once.
#include "hz3/remote/stash.hpp"

#include <sys/mman.h>
#include <csignal>
#include <memory>

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using remote::kFlushBatch;
using remote::kFlushBytes;
using remote::RemoteStash;
using test::Blocks;

constexpr bool kRing = remote::kStashKind == remote::StashKind::SparseRing;
constexpr unsigned kMost = kRing ? remote::kRingSlots : 1000;  // entries that stay where they are until a flush

class RemoteStashTest : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override {
    for (unsigned i = 0; i < kShards; i++) EXPECT_TRUE(Inbox::of(i).empty());
    EXPECT_NOTHING_LOST();
  }
  // Takes `n` blocks from a shard and pushes them.
  Blocks push(unsigned dst, Slot slot, unsigned n) {
    Blocks blocks = test::blocks_of(dst, slot, n);
    for (void* b : blocks) stash->stash_push(dst, slot, b);
    return blocks;
  }
  static Blocks received(unsigned dst) { return test::taken_from(Inbox::of(dst)); }
  static size_t received_and_returned() {
    size_t n = 0;
    for (unsigned dst = 0; dst < kShards; dst++) {
      const Blocks blocks = received(dst);
      n += blocks.size();
      for (void* b : blocks) EXPECT_EQ(tag_shard(tag_of(b)), dst);
      test::give_back(blocks);
    }
    return n;
  }
  // All zero, as in a thread cache.
  std::unique_ptr<RemoteStash> stash = std::make_unique<RemoteStash>();
};

TEST_F(RemoteStashTest, EveryBlockReachesItsOwnersInboxOnce) {
  test::Random random(1);
  for (int round = 0; round < 20; round++) {
    Blocks pushed[kShards];
    const unsigned count = static_cast<unsigned>(random.below(kMost < 300 ? kMost : 300));
    for (unsigned i = 0; i < count; i++) {
      const unsigned dst = static_cast<unsigned>(random.below(kShards));
      const Slot slot = 1 + static_cast<Slot>(random.below(kTierBins));
      pushed[dst].push_back(push(dst, slot, 1).front());
      ASSERT_EQ(stash->entries(), i + 1);
    }
    for (unsigned dst = 0; dst < kShards; dst++) ASSERT_TRUE(Inbox::of(dst).empty()) << "nothing is handed over before a flush";
    stash->stash_flush_all();
    EXPECT_EQ(stash->entries(), 0u);
    for (unsigned dst = 0; dst < kShards; dst++) {
      EXPECT_EQ(Inbox::of(dst).count(), pushed[dst].size());
      const Blocks arrived = received(dst);
      ASSERT_EQ(test::as_set(arrived), test::as_set(pushed[dst]));
      test::give_back(arrived);
    }
  }
}

TEST_F(RemoteStashTest, FlushOfAnEmptyStashDoesNothing) {
  stash->stash_flush_all();
  stash->stash_flush_budget(10);
  EXPECT_EQ(stash->entries(), 0u);
  EXPECT_FALSE(stash->due());
}

TEST_F(RemoteStashTest, ABudgetFlushDeliversThatManyAndLeavesTheRest) {
  test::Random random(2);
  constexpr unsigned kCount = 60;
  Blocks pushed;
  for (unsigned i = 0; i < kCount; i++) {
    const unsigned dst = static_cast<unsigned>(random.below(kShards));
    pushed.push_back(push(dst, 1 + static_cast<Slot>(random.below(20)), 1).front());
  }
  Blocks arrived;
  for (unsigned budget : {0u, 1u, 7u, 20u, 1u, 40u}) {
    const unsigned before = stash->entries();
    const unsigned expected = budget < before ? budget : before;
    stash->stash_flush_budget(budget);
    EXPECT_EQ(stash->entries(), before - expected);
    unsigned delivered = 0;
    for (unsigned dst = 0; dst < kShards; dst++)
      for (void* b : received(dst)) {
        EXPECT_EQ(tag_shard(tag_of(b)), dst);
        arrived.push_back(b);
        delivered++;
      }
    EXPECT_EQ(delivered, expected);
  }
  EXPECT_EQ(stash->entries(), 0u);
  EXPECT_EQ(test::as_set(arrived), test::as_set(pushed));
  test::give_back(arrived);
}

// One class, so that the lists of a bank are long: budgets that end within what one block carries, and pushes in between.
TEST_F(RemoteStashTest, BudgetsMayEndAnywhereInALongList) {
  test::Random random(3);
  for (size_t size : {16, 32, 48, 256, 2048}) {
    Blocks pushed, arrived;
    for (int step = 0; step < 300; step++) {
      const unsigned room = kMost - stash->entries();
      if (random.below(2) == 0) {
        for (void* b : push(0, slot_of(size), static_cast<unsigned>(random.below(room < 90 ? room : 90)))) pushed.push_back(b);
      } else {
        const unsigned budget = static_cast<unsigned>(random.below(70)), before = stash->entries();
        stash->stash_flush_budget(budget);
        ASSERT_EQ(stash->entries(), before - (budget < before ? budget : before));
        for (void* b : received(0)) arrived.push_back(b);
      }
      stash->check();
      ASSERT_EQ(pushed.size() - arrived.size(), stash->entries());
    }
    stash->stash_flush_all();
    for (void* b : received(0)) arrived.push_back(b);
    EXPECT_EQ(arrived.size(), pushed.size());
    EXPECT_EQ(test::as_set(arrived), test::as_set(pushed)) << size;
    test::give_back(arrived);
  }
}

// A thread that keeps pushing to one shard as much as each flush takes.
TEST_F(RemoteStashTest, NoShardStarvesUnderBudgetFlushes) {
  constexpr unsigned kBudget = 4;
  const Slot slot = slot_of(64);
  for (unsigned dst = 0; dst < kShards; dst++) push(dst, slot, 1);
  std::set<unsigned> served;
  for (unsigned round = 0; round < 8 * kShards && served.size() < kShards; round++) {
    push(0, slot, kBudget);
    stash->stash_flush_budget(kBudget);
    for (unsigned dst = 0; dst < kShards; dst++)
      if (!Inbox::of(dst).empty()) served.insert(dst);
    received_and_returned();
  }
  EXPECT_EQ(served.size(), kShards);
  stash->stash_flush_all();
  received_and_returned();
}

TEST_F(RemoteStashTest, DueByEntries) {
  const Slot slot = slot_of(16);
  for (unsigned i = 1; i < kFlushBatch; i++) {
    void* b = test::blocks_of(0, slot, 1).front();
    ASSERT_FALSE(stash->stash_push(0, slot, b)) << i;
    ASSERT_FALSE(stash->due());
  }
  EXPECT_TRUE(stash->stash_push(0, slot, test::blocks_of(0, slot, 1).front()));
  EXPECT_TRUE(stash->due());
  stash->stash_flush_all();
  EXPECT_FALSE(stash->due());
  EXPECT_EQ(received_and_returned(), kFlushBatch);
}

TEST_F(RemoteStashTest, DueByBytes) {
  const Slot slot = slot_of(32768);
  const unsigned enough = kFlushBytes / 32768;
  ASSERT_LT(enough, kFlushBatch);
  push(0, slot, enough - 1);
  EXPECT_FALSE(stash->due());
  EXPECT_TRUE(stash->stash_push(0, slot, test::blocks_of(0, slot, 1).front()));
  EXPECT_TRUE(stash->due());
  stash->stash_flush_all();
  EXPECT_FALSE(stash->due());
  EXPECT_EQ(received_and_returned(), enough);
}

TEST_F(RemoteStashTest, ABudgetFlushLeavesTheBytesOfWhatItLeaves) {
  const Slot big = slot_of(32768), small = slot_of(16);
  const unsigned enough = kFlushBytes / 32768;
  push(0, small, 1);
  push(0, big, enough + 1);
  stash->stash_flush_budget(2);  // one of them at least is a big one, whichever the order
  EXPECT_TRUE(stash->due()) << "as many bytes as ask for a flush are still there";
  stash->stash_flush_budget(2);
  EXPECT_FALSE(stash->due());
  stash->stash_flush_all();
  EXPECT_EQ(received_and_returned(), enough + 2u);
}

TEST_F(RemoteStashTest, AbandonForgetsEverything) {
  Blocks lost;
  for (unsigned dst = 0; dst < kShards; dst++)
    for (Slot slot : {Slot{1}, slot_of(64), Slot{kTierBins}}) lost.push_back(push(dst, slot, 1).front());
  stash->abandon();
  EXPECT_EQ(stash->entries(), 0u);
  EXPECT_FALSE(stash->due());
  EXPECT_FALSE(stash->busy());
  stash->stash_flush_all();
  EXPECT_EQ(received_and_returned(), 0u);
  push(0, slot_of(64), 3);
  stash->stash_flush_all();
  EXPECT_EQ(received_and_returned(), 3u) << "it works again";
  test::give_back(lost);
}

// A block on a page that cannot be written: whoever touches it is interrupted in the middle of a change.
struct Interruption {
  static inline RemoteStash* stash = nullptr;
  static inline char* page = nullptr;
  static inline unsigned times = 0, busy = 0;
  static void handler(int) {
    times++;
    if (stash->busy()) busy++;
    mprotect(page, kPageSize, PROT_READ | PROT_WRITE);
  }
};

// The ring does not look at a block before a flush, the bank only at the first of several, which takes the addresses of the
// others. So what another processor wrote to last stays there.
TEST_F(RemoteStashTest, BusyWhileAChangeIsInterruptedAndNotAfterwards) {
  const Slot slot = slot_of(4096);
  void* block = test::blocks_of(0, slot, 1).front();
  Interruption::stash = stash.get();
  Interruption::page = static_cast<char*>(block);
  struct sigaction action {
  }, before{};
  action.sa_handler = Interruption::handler;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  EXPECT_FALSE(stash->busy());
  mprotect(block, kPageSize, PROT_NONE);
  stash->stash_push(0, slot, block);
  EXPECT_EQ(Interruption::times, 0u);
  push(0, slot, 1);
  EXPECT_EQ(Interruption::times, kRing ? 0u : 1u);
  EXPECT_FALSE(stash->busy());
  mprotect(block, kPageSize, PROT_NONE);
  stash->stash_flush_all();
  EXPECT_FALSE(stash->busy());
  sigaction(SIGSEGV, &before, nullptr);
  EXPECT_GE(Interruption::times, 1u);
  EXPECT_EQ(Interruption::busy, Interruption::times);
  EXPECT_EQ(received_and_returned(), 2u);
}

TEST(Busy, MarksNestAndComeOff) {
  bool mark = false;
  {
    const remote::Busy outer(mark);
    EXPECT_TRUE(mark);
    {
      const remote::Busy inner(mark);
      EXPECT_TRUE(mark);
    }
    EXPECT_TRUE(mark) << "the outer change goes on";
  }
  EXPECT_FALSE(mark);
}

}  // namespace
}  // namespace hz3
