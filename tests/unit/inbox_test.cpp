// Inboxes: whole lists in, everything out, from any thread; and the way on to central.
#include "hz3/remote/inbox.hpp"

#include <map>
#include <memory>

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;

// What an inbox holds need not be a block of ours: it only follows links.
struct Cell {
  void* link;
  unsigned taken;
};

void push(Inbox& inbox, Cell* first, unsigned n) {
  for (unsigned i = 0; i < n; i++) set_link(first + i, i + 1 < n ? first + i + 1 : nullptr);
  inbox.push(first, first + n - 1, n);
}

TEST(Inbox, TakesWholeListsAndGivesThemAllAtOnce) {
  Inbox inbox;
  std::vector<Cell> cells(10);
  EXPECT_TRUE(inbox.empty());
  EXPECT_EQ(inbox.take_all(), nullptr);
  push(inbox, &cells[0], 1);
  push(inbox, &cells[1], 4);
  push(inbox, &cells[5], 5);
  EXPECT_FALSE(inbox.empty());
  EXPECT_EQ(inbox.count(), 10u);
  const Blocks taken = test::taken_from(inbox);
  EXPECT_EQ(taken.size(), 10u);
  EXPECT_EQ(test::as_set(taken).size(), std::set<void*>(taken.begin(), taken.end()).size());
  EXPECT_EQ(taken.front(), &cells[5]) << "what came last";
  EXPECT_EQ(taken.back(), &cells[0]);
  EXPECT_TRUE(inbox.empty());
  EXPECT_EQ(inbox.count(), 0u);
  EXPECT_EQ(inbox.take_all(), nullptr);
}

TEST(Inbox, CountStopsAt65535AndNothingIsLost) {
  Inbox inbox;
  std::vector<Cell> cells(70000);
  push(inbox, &cells[0], 65534);
  EXPECT_EQ(inbox.count(), 65534u);
  push(inbox, &cells[65534], 1);
  EXPECT_EQ(inbox.count(), 65535u);
  push(inbox, &cells[65535], 1);
  EXPECT_EQ(inbox.count(), 65535u);
  push(inbox, &cells[65536], 70000 - 65536);
  EXPECT_EQ(inbox.count(), 65535u);
  EXPECT_EQ(test::taken_from(inbox).size(), 70000u);
  EXPECT_EQ(inbox.count(), 0u);
  push(inbox, &cells[0], 70000);
  EXPECT_EQ(inbox.count(), 65535u) << "one push may be more than the count holds";
  EXPECT_EQ(test::taken_from(inbox).size(), 70000u);
  push(inbox, &cells[0], 2);
  EXPECT_EQ(inbox.count(), 2u);
  inbox.abandon();
  EXPECT_TRUE(inbox.empty());
  EXPECT_EQ(inbox.take_all(), nullptr);
}

TEST(Inbox, OfSeveralPushersAndTakersNothingIsLostAndNothingComesTwice) {
  constexpr unsigned kPushers = 3, kEach = 200000;
  Inbox inbox;
  std::vector<Cell> cells(kPushers * kEach);
  std::atomic<unsigned> running{kPushers};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kPushers; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 1);
      for (unsigned at = 0; at < kEach;) {
        const unsigned left = kEach - at;
        unsigned n = 1 + static_cast<unsigned>(random.below(3));
        if (n > left) n = left;
        push(inbox, &cells[t * kEach + at], n);
        at += n;
      }
      running--;
    });
  const auto take = [&] {
    for (void* list = inbox.take_all(); list != nullptr; list = link_of(list)) static_cast<Cell*>(list)->taken++;
  };
  for (int i = 0; i < 2; i++)
    threads.emplace_back([&] {
      while (running != 0) take();
    });
  for (std::thread& t : threads) t.join();
  take();
  EXPECT_TRUE(inbox.empty());
  size_t wrong = 0;
  for (const Cell& c : cells) wrong += c.taken != 1;
  EXPECT_EQ(wrong, 0u);
}

class InboxOfAShard : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }

  // Blocks of several classes of every tier, in no order. One of each run stays out, so that no run becomes free and leaves.
  Blocks mixed(unsigned shard) {
    test::Random random(7);
    Blocks blocks;
    std::set<hz3::Run*> runs;
    for (Slot slot : {Slot{1}, slot_of(64), slot_of(2048), slot_of(2100), slot_of(3900), slot_of(4096), slot_of(8192)}) {
      const Blocks some = test::blocks_of(shard, slot, 2 + static_cast<unsigned>(random.below(40)));
      expected_[slot] = Central::of(shard).returned(slot);
      for (void* b : some) {
        const bool first = runs.insert(run_of(b)).second;
        (first ? held_ : blocks).push_back(b);
        expected_[slot] += !first;
      }
    }
    for (size_t i = blocks.size(); i-- > 1;) std::swap(blocks[i], blocks[random.below(i + 1)]);
    return blocks;
  }
  void expect_returned(unsigned shard, const Blocks& blocks) {
    for (auto [slot, n] : expected_) EXPECT_EQ(Central::of(shard).returned(slot), n) << slot;
    for (void* b : blocks) EXPECT_TRUE(test::contains(test::blocks_in(run_of(b)->free), b));
    Central::of(shard).check();
    test::give_back(held_);
  }
  Blocks held_;
  std::map<Slot, unsigned> expected_;
};

TEST_F(InboxOfAShard, EachShardHasItsOwn) {
  std::set<Inbox*> inboxes;
  for (unsigned i = 0; i < kShards; i++) {
    inboxes.insert(&Inbox::of(i));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(&Inbox::of(i)) % kCacheLine, 0u) << "pushers to different shards do not meet";
  }
  EXPECT_EQ(inboxes.size(), kShards);
}

TEST_F(InboxOfAShard, DrainedBlocksOfAllClassesReachTheirRuns) {
  const unsigned shard = kShards - 1;
  const Blocks blocks = mixed(shard);
  test::push_to_inbox(shard, blocks);
  remote::drain_to_central(shard);
  EXPECT_TRUE(Inbox::of(shard).empty());
  expect_returned(shard, blocks);
  remote::drain_to_central(shard);
}

TEST_F(InboxOfAShard, TheSorterPassesEachClassOn) {
  const Blocks blocks = mixed(0);
  remote::Sorter sorter;
  for (void* b : blocks) sorter.add(b, tag_slot(tag_of(b)));
  sorter.pass_on(0);
  sorter.pass_on(0);  // it is empty then
  EXPECT_TRUE(Inbox::of(0).empty());
  expect_returned(0, blocks);
}

TEST_F(InboxOfAShard, DrainingOneLeavesTheOthers) {
  if constexpr (kShards < 2) GTEST_SKIP();
  test::push_to_inbox(0, test::blocks_of(0, slot_of(64), 5));
  test::push_to_inbox(1, test::blocks_of(1, slot_of(64), 7));
  remote::drain_to_central(0);
  EXPECT_TRUE(Inbox::of(0).empty());
  EXPECT_EQ(Inbox::of(1).count(), 7u);
  remote::drain_to_central(1);
}

// Blocks of classes of all tiers, freed by others into a shard's inbox while two threads drain it.
TEST_F(InboxOfAShard, PushedAndDrainedByThreadsEveryBlockGetsHome) {
  constexpr unsigned kThreads = 3;
  std::atomic<unsigned> running{kThreads};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 11);
      for (int i = 0; i < 1500; i++) {
        const Slot slot = 1 + static_cast<Slot>(random.below(kTierBins));
        test::push_to_inbox(0, test::blocks_of(0, slot, 1 + static_cast<unsigned>(random.below(6))));
      }
      running--;
    });
  for (int i = 0; i < 2; i++)
    threads.emplace_back([&] {
      while (running != 0) remote::drain_to_central(0);
    });
  for (std::thread& t : threads) t.join();
  remote::drain_to_central(0);
  Central::of(0).release_all_spares();
  EXPECT_EQ(Central::of(0).totals().runs, 0u) << "every block is back, so no run has one out";
}

}  // namespace
}  // namespace hz3
