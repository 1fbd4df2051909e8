// Limits and budgets of bins, on caches that no thread has: what grows them, what takes them back, where blocks then go.
#include "hz3/bins.hpp"

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;

// A class of the tiers whose limit may double more than once.
Slot growing_slot() {
  for (Slot slot = kTierBins; slot != 0; slot--)
    if (class_info(slot).limit_most >= 4 * class_info(slot).limit_first) return slot;
  return 0;
}

size_t most_granted(const ThreadCache* tc) {
  size_t sum = 0;
  for (Slot slot = 1; slot < kSlots; slot++) sum += (class_info(slot).limit_most - tc->limit[slot]) * class_bytes(slot);
  return sum;
}

// Grows every limit as far as it goes.
void grow_all(ThreadCache* tc) {
  for (int round = 0; round < 16; round++)
    for (Slot slot = 1; slot < kSlots; slot++) grow_limit(tc, slot);
}

size_t granted_by_limits(const ThreadCache* tc) {
  size_t sum = 0;
  for (Slot slot = 1; slot < kSlots; slot++) sum += (tc->limit[slot] - class_info(slot).limit_first) * class_bytes(slot);
  return sum;
}

class BinsTest : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = attach();
    tc->now_ms = tc->trimmed_ms = os::now_ms();
    tc->frees_since_look = 0;
  }
  void TearDown() override {
    for (ThreadCache* each : attached) {
      flush_cache(each);
      drop_grants(each);
      thread_registry.detach(each);
    }
    EXPECT_NOTHING_LOST();
  }
  ThreadCache* attach() {
    ThreadCache* cache = thread_registry.attach();
    EXPECT_NE(cache, nullptr);
    attached.push_back(cache);
    return cache;
  }
  // As free() does it.
  void push_all(Slot slot, const Blocks& blocks) {
    for (void* b : blocks) {
      push(tc, slot, b);
      tc->now_ms = os::now_ms();  // it is busy, however long this waits for a processor
      if (tc->room[slot] < 0) bin_event_slow(b, slot, tc);
    }
  }
  unsigned other_shard() const { return (tc->shard + 1) % kShards; }

  std::vector<ThreadCache*> attached;
  ThreadCache* tc = nullptr;
};

TEST_F(BinsTest, ANewCacheHasFirstLimitsAndLittleRoom) {
  EXPECT_EQ(tc->granted, 0u);
  for (Slot slot = 1; slot < kSlots; slot++) {
    EXPECT_EQ(tc->limit[slot], class_info(slot).limit_first);
    EXPECT_EQ(tc->head[slot], nullptr);
    EXPECT_LT(most_in_bin(tc, slot), kRoomUnit);
    EXPECT_GT(tc->room[slot], 0);
    EXPECT_LE(tc->room[slot], 2 * kRoomUnit) << "its first frees lead to an event";
    EXPECT_LE(tc->at_most[slot], class_info(slot).limit_first + 2);
    EXPECT_EQ(tc->accepts[slot], kOwnBlocks) << "nothing was allocated from it";
  }
}

TEST_F(BinsTest, LimitsDoubleUpToTheMostOfTheClass) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    unsigned expected = c.limit_first;
    for (int i = 0; i < 3; i++) {
      grow_limit(tc, slot);
      expected = expected * 2 < c.limit_most ? expected * 2 : c.limit_most;
      ASSERT_EQ(tc->limit[slot], expected);
    }
    ASSERT_EQ(tc->granted, granted_by_limits(tc));
    test::look_at_bins(tc);
    test::look_at_bins(tc);
    ASSERT_EQ(tc->limit[slot], c.limit_first);
    ASSERT_EQ(tc->granted, 0u);
  }
}

TEST_F(BinsTest, TheBudgetOfTheThreadRefusesGrowth) {
  if (most_granted(tc) <= kThreadBudgetBytes) GTEST_SKIP() << "all limits together are within the budget";
  grow_all(tc);
  EXPECT_EQ(tc->granted, granted_by_limits(tc));
  EXPECT_LE(tc->granted, kThreadBudgetBytes);
  size_t least_step = SIZE_MAX;
  Slot refused = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    if (tc->limit[slot] == c.limit_most) continue;
    const size_t more = tc->limit[slot] * 2u < c.limit_most ? tc->limit[slot] : c.limit_most - tc->limit[slot];
    if (more * c.size < least_step) least_step = more * c.size, refused = slot;
  }
  ASSERT_NE(refused, 0u);
  EXPECT_GT(tc->granted + least_step, kThreadBudgetBytes) << "none is refused that would fit";
  test::look_at_bins(tc);
  test::look_at_bins(tc);
  EXPECT_EQ(tc->granted, 0u);
  grow_limit(tc, refused);
  EXPECT_GT(tc->limit[refused], class_info(refused).limit_first);
}

TEST_F(BinsTest, TheBudgetOfTheProcessRefusesGrowthUntilSomebodyGivesBack) {
  const size_t each = most_granted(tc) < kThreadBudgetBytes ? most_granted(tc) : kThreadBudgetBytes;
  if (each == 0 || kProcessBudgetBytes / each > 500) GTEST_SKIP() << "no number of caches would use the budget up";
  size_t sum = 0;
  for (unsigned i = 0; i < kProcessBudgetBytes / each + 2; i++) {
    ThreadCache* cache = attach();
    grow_all(cache);
    EXPECT_LE(cache->granted, kThreadBudgetBytes);
    sum += cache->granted;
    ASSERT_LE(sum, kProcessBudgetBytes);
  }
  const Slot slot = growing_slot();
  ThreadCache* last = attach();
  grow_all(last);
  EXPECT_LT(last->granted, size_t{32} << 10) << "what is left is less than any class would take";
  ThreadCache* gives = attached[1];
  drop_grants(gives);
  EXPECT_EQ(gives->granted, 0u);
  const unsigned before = last->limit[slot];
  grow_limit(last, slot);
  EXPECT_GT(last->limit[slot], before);
  reset_bins(gives);
}

TEST_F(BinsTest, AListThatIsFullStaysAsTheSecondAndTheOneBeforeGoesHome) {
  const Slot slot = slot_of(1024);
  const unsigned half = tc->limit[slot] / 2u;
  Blocks blocks = test::blocks_of(tc->shard, slot, 4 * tc->limit[slot]);
  const Blocks kept_out(blocks.begin(), blocks.begin() + tc->limit[slot]);  // keep runs in use
  blocks.erase(blocks.begin(), blocks.begin() + tc->limit[slot]);
  unsigned pushed = 0;
  const auto fill_a_list = [&] {
    Blocks list;
    do list.push_back(blocks[pushed++]), push_all(slot, {list.back()});
    while (tc->head[slot] != nullptr);
    EXPECT_GE(list.size(), half);
    EXPECT_LE(list.size(), half + half / 8 + 3);
    EXPECT_EQ(test::as_set(test::blocks_in(tc->second[slot])), test::as_set(list));
    EXPECT_EQ(tc->second[slot], list.back()) << "most recently freed first";
    EXPECT_GE(tc->second_most[slot], list.size());
    return list;
  };
  const Blocks first = fill_a_list();
  EXPECT_FALSE(tc->overflowed[slot]);
  fill_a_list();
  EXPECT_TRUE(tc->overflowed[slot]);
  for (void* b : first) EXPECT_TRUE(tag_of(b) == 0 || test::contains(test::blocks_in(run_of(b)->free), b)) << "it went home";
  Central::of(tc->shard).check();
  EXPECT_TRUE(use_second(tc, slot));
  EXPECT_EQ(tc->second[slot], nullptr);
  EXPECT_EQ(most_in_bin(tc, slot), static_cast<int32_t>(tc->second_most[slot]) * kRoomUnit) << "what was counted goes with it";
  empty_bin(tc, slot);
  EXPECT_FALSE(use_second(tc, slot));
  test::give_back({blocks.begin() + pushed, blocks.end()});
  test::give_back(kept_out);
}

// Were a list that is taken back when it is full, and grows, to become the second again as a whole, it would grow for ever.
TEST_F(BinsTest, OfAListThatWasTakenBackHalfTheLimitBecomesTheSecondAgain) {
  const Slot slot = slot_of(1024);
  const unsigned half = tc->limit[slot] / 2u;
  push_all(slot, test::blocks_of(tc->shard, slot, 3));
  tc->at_most[slot] = tc->limit[slot];
  tc->room[slot] = 0;
  bin_event_slow(nullptr, slot, tc);
  EXPECT_EQ(test::bin_length(tc, slot), 3u) << "the room had leaked away: it is as short as it looks";
  push_all(slot, test::blocks_of(tc->shard, slot, half - 3));
  EXPECT_EQ(test::list_length(tc->second[slot]), half);
  EXPECT_EQ(tc->head[slot], nullptr);
  const Blocks seconds = test::blocks_in(tc->second[slot]);
  for (int round = 0; round < 3; round++) {  // each takes it back, and a few more on top
    EXPECT_TRUE(use_second(tc, slot));
    Blocks more;
    while (tc->second[slot] == nullptr) {
      ASSERT_LT(more.size(), half);
      more.push_back(test::blocks_of(tc->shard, slot, 1)[0]);
      push_all(slot, {more.back()});
    }
    EXPECT_EQ(test::blocks_in(tc->second[slot]), seconds) << "the same as before";
    EXPECT_EQ(tc->second_most[slot], half);
    EXPECT_EQ(test::as_set(test::blocks_in(tc->head[slot])), test::as_set(more));
    EXPECT_FALSE(tc->overflowed[slot]);
    for (size_t i = 0; i < more.size(); i++) test::give_back({pop(tc, slot)});
  }
}

// The smallest limits leave no room for two halves: a bin keeps within its bound all the same, and its lists stay fit for the
// depot.
TEST_F(BinsTest, BinsOfAFewBlocksKeepWithinTheirBound) {
  const Slot slot = slot_of(size_t{64} << 10);
  Blocks blocks = test::blocks_of(tc->shard, slot, 40);
  for (unsigned limit = 1; tc->limit[slot] == limit; limit *= 2, grow_limit(tc, slot)) {
    for (int round = 0; round < 60; round++) {
      for (int i = 0; i < 1 + round % 5 && !blocks.empty(); i++) {
        push_all(slot, {blocks.back()});
        blocks.pop_back();
        test::expect_bounded(tc, slot);
        EXPECT_LE(tc->second_most[slot], limit) << limit;
      }
      for (int i = 0; i < 1 + round % 3 && (tc->head[slot] != nullptr || use_second(tc, slot)); i++)
        blocks.push_back(pop(tc, slot));
    }
  }
  EXPECT_GE(tc->limit[slot], 4u);
  for (void* b : blocks) test::give_back({b});
}

// Half of such a limit is more than is granted at once: events on the way there leave the list alone.
TEST_F(BinsTest, ALongListIsGrantedItsRoomInParts) {
  constexpr unsigned limit = 256, half = limit / 2;
  Slot slot = slot_of(64);
  while (slot < kSlots && (class_info(slot).limit_most != limit || class_info(slot).limit_first == limit)) slot++;
  if (slot == kSlots) GTEST_SKIP() << "no class has a limit that grows to so many";
  for (unsigned before = 0; before != tc->limit[slot]; grow_limit(tc, slot)) before = tc->limit[slot];
  ASSERT_EQ(tc->limit[slot], limit);
  Blocks blocks = test::blocks_of(tc->shard, slot, 4 * limit);
  const Blocks in_use(blocks.begin(), blocks.begin() + limit);  // keep runs in use
  blocks.erase(blocks.begin(), blocks.begin() + limit);
  const auto free_one = [&] {
    push_all(slot, {blocks.back()});
    blocks.pop_back();
    test::expect_bounded(tc, slot);
  };
  unsigned pushed = 0, grants = 0;
  for (; tc->second[slot] == nullptr; pushed++) {
    ASSERT_LE(pushed, test::list_bound(tc, slot));
    tc->seen_room[slot] = 0;
    free_one();
    if (tc->seen_room[slot] == kBusyBin && tc->second[slot] == nullptr) {
      grants++;
      ASSERT_EQ(test::bin_length(tc, slot), pushed + 1);
    }
  }
  EXPECT_EQ(grants, 2u) << "room for a block, then for 64, and as many again but for what leaked away";
  EXPECT_GE(pushed, half - half * kRoomLeak / kRoomUnit);
  EXPECT_EQ(tc->head[slot], nullptr);
  EXPECT_FALSE(tc->overflowed[slot]);
  // Taken back it grows in parts, too, up to the limit; then the half below is the second again.
  ASSERT_TRUE(use_second(tc, slot));
  const Blocks seconds = test::blocks_in(tc->head[slot]);
  for (; tc->second[slot] == nullptr; pushed++) {
    ASSERT_LE(pushed, limit);
    free_one();
  }
  EXPECT_GE(pushed, limit - half * kRoomLeak / kRoomUnit - 2);
  EXPECT_EQ(test::bin_length(tc, slot), pushed) << "none left";
  EXPECT_LE(test::list_length(tc->head[slot]), half + 1);
  EXPECT_EQ(tc->second_most[slot], half);
  EXPECT_EQ(test::blocks_in(tc->second[slot]).back(), seconds.back());
  EXPECT_FALSE(tc->overflowed[slot]);
  // However it goes on, both lists keep to what they may have.
  test::Random random(slot);
  for (int step = 0; step < 20000; step++) {
    if (!blocks.empty() && random.below(10) < (step / 1000 % 2 == 0 ? 7u : 4u)) {
      free_one();
    } else if (tc->head[slot] != nullptr || use_second(tc, slot)) {
      blocks.push_back(pop(tc, slot));
    } else {
      blocks.push_back(test::blocks_of(tc->shard, slot, 1)[0]);
    }
    ASSERT_LE(tc->second_most[slot], limit);
  }
  test::give_back(blocks);
  test::give_back(in_use);
}

// Who has given away list after list and asked for none gets no more room beyond half of the limit, however long that is.
TEST_F(BinsTest, AHoarderGivesALongListAwayAtTheNextEvent) {
  constexpr unsigned limit = 256, half = limit / 2, granted = 64;
  Slot slot = slot_of(64);
  while (slot < kSlots && (class_info(slot).limit_most != limit || class_info(slot).limit_first == limit)) slot++;
  if (slot == kSlots) GTEST_SKIP() << "no class has a limit that grows to so many";
  for (unsigned before = 0; before != tc->limit[slot]; grow_limit(tc, slot)) before = tc->limit[slot];
  const Blocks blocks = test::blocks_of(tc->shard, slot, limit);
  unsigned pushed = 0;
  while (tc->second[slot] == nullptr) push_all(slot, {blocks[pushed++]});
  ASSERT_LE(pushed, half + 1);
  ASSERT_TRUE(use_second(tc, slot));
  tc->overflowed[slot] = UINT8_MAX;
  const unsigned before = pushed;
  while (test::bin_length(tc, slot) != 0) {
    ASSERT_LE(pushed, before + granted);
    push_all(slot, {blocks[pushed++]});
  }
  test::give_back({blocks.begin() + pushed, blocks.end()});
}

TEST_F(BinsTest, IdleBinsAreSentHomeAndFallBackToTheirFirstLimit) {
  const Slot idle = growing_slot(), used = slot_of(64), fresh = slot_of(512);
  push_all(idle, test::blocks_of(tc->shard, idle, 3));
  push_all(used, test::blocks_of(tc->shard, used, 3));
  grow_limit(tc, idle);
  grow_limit(tc, used);
  tc->accepts[idle] = kAllBlocks;
  tc->overflowed[idle] = true;
  const unsigned used_limit = tc->limit[used];
  test::look_at_bins(tc);
  EXPECT_EQ(test::bin_length(tc, idle), 3u) << "was in use since the last time";
  push(tc, used, pop(tc, used));
  push_all(fresh, test::blocks_of(tc->shard, fresh, 2));
  test::look_at_bins(tc);
  EXPECT_EQ(tc->head[idle], nullptr);
  EXPECT_EQ(tc->limit[idle], class_info(idle).limit_first);
  EXPECT_FALSE(tc->overflowed[idle]);
  EXPECT_EQ(tc->accepts[idle], kOwnBlocks);
  EXPECT_EQ(test::bin_length(tc, used), 3u);
  EXPECT_EQ(tc->limit[used], used_limit);
  EXPECT_EQ(test::bin_length(tc, fresh), 2u);
  EXPECT_EQ(tc->granted, granted_by_limits(tc));
  test::look_at_bins(tc);
  test::look_at_bins(tc);
  EXPECT_EQ(test::blocks_in_bins(tc), 0u);
  EXPECT_EQ(tc->granted, 0u);
}

TEST_F(BinsTest, WhatLeavesABinGoesToItsOwnerByItsTag) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slot = slot_of(64);
  const Blocks own = test::blocks_of(tc->shard, slot, 4), foreign = test::blocks_of(other_shard(), slot, 4);
  for (int i = 1; i < 4; i++) push_all(slot, {own[i], foreign[i]});
  const unsigned returned = Central::of(tc->shard).returned(slot);
  empty_bin(tc, slot);
  EXPECT_EQ(tc->head[slot], nullptr);
  EXPECT_EQ(most_in_bin(tc, slot), 0);
  EXPECT_EQ(Central::of(tc->shard).returned(slot), returned + 3);
  EXPECT_EQ(tc->stash.entries(), 3u);
  tc->stash.stash_flush_all();
  const Blocks arrived = test::taken_from(Inbox::of(other_shard()));
  EXPECT_EQ(test::as_set(arrived), test::as_set({foreign.begin() + 1, foreign.end()}));
  test::give_back(arrived);
  test::give_back({own[0], foreign[0]});
}

// A bin of more foreign blocks than the stash holds until it is due.
TEST_F(BinsTest, ALongBinOfForeignBlocksIsHandedOverWhole) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slot = slot_of(32768);
  const unsigned count = 3 * remote::kFlushBytes / 32768;
  while (tc->limit[slot] < 2 * count && tc->limit[slot] < class_info(slot).limit_most) grow_limit(tc, slot);
  Blocks blocks = test::blocks_of(other_shard(), slot, count);
  push_all(slot, blocks);
  flush_cache(tc);
  EXPECT_EQ(tc->stash.entries(), 0u);
  EXPECT_EQ(Inbox::of(other_shard()).count(), count);
  test::give_back(test::taken_from(Inbox::of(other_shard())));
}

TEST_F(BinsTest, FlushedCachesStayUsable) {
  const Slot slots[] = {Slot{1}, slot_of(64), slot_of(3000), Slot{kTierBins}};
  for (Slot slot : slots) push_all(slot, test::blocks_of(tc->shard, slot, 3));
  flush_cache(tc);
  EXPECT_EQ(test::blocks_in_bins(tc), 0u);
  Central::of(tc->shard).release_all_spares();
  EXPECT_EQ(Central::of(tc->shard).totals().runs, 0u);
  for (Slot slot : slots) push_all(slot, test::blocks_of(tc->shard, slot, 3));
  EXPECT_EQ(test::blocks_in_bins(tc), 12u);
}

TEST_F(BinsTest, GrantsKeepTheBound) {
  const Slot slot = slot_of(64);
  const unsigned half = tc->limit[slot] / 2u;
  for (unsigned length = 0; length <= tc->limit[slot]; length++) {
    grant_room(tc, slot, length);
    EXPECT_EQ(most_in_bin(tc, slot), static_cast<int32_t>(length) * kRoomUnit);
    EXPECT_GE(tc->room[slot], 2 * kRoomUnit) << "not back at once";
    EXPECT_LE(tc->room[slot], 64 * kRoomUnit) << "a thread that frees little sees time pass";
    EXPECT_LE(tc->at_most[slot], length < half ? half + half / 8 + 2 : length + half / 8 + 2);
  }
  reset_bins(tc);
}

// A program that was busy, and then frees a block now and then.
TEST_F(BinsTest, ACalmThreadSeesTimePassSoon) {
  const Slot slot = slot_of(64);
  push_all(slot, test::blocks_of(tc->shard, slot, 1));
  const auto pairs_until_a_look = [&] {
    tc->now_ms = os::now_ms() - 100;
    unsigned pairs = 0;
    for (const uint64_t before = tc->now_ms; tc->now_ms == before; pairs++) {
      push(tc, slot, pop(tc, slot));
      if (tc->room[slot] < 0) bin_event_slow(nullptr, slot, tc);
    }
    return pairs;
  };
  pairs_until_a_look();
  for (int i = 0; i < 3; i++) EXPECT_LE(pairs_until_a_look(), static_cast<unsigned>(kRoomUnit));
  // While it is busy it gets more room.
  for (int i = 0; i < 8; i++) {
    tc->now_ms = os::now_ms();
    bin_event_slow(nullptr, slot, tc);
  }
  EXPECT_EQ(tc->calm, 0);
  EXPECT_GT(tc->room[slot], 16 * kRoomUnit);
  // Until the bin is looked at for trimming.
  test::look_at_bins(tc);
  EXPECT_LE(tc->room[slot], kRoomUnit);
  EXPECT_LE(pairs_until_a_look(), static_cast<unsigned>(kRoomUnit));
}

// However many blocks there is room for: after so many frees the clock is looked at.
TEST_F(BinsTest, EventsLookAtTheClockAfterSoManyFrees) {
  const Slot slot = slot_of(64);
  tc->now_ms = 0;
  tc->frees_since_look = 0;
  unsigned events = 0;
  for (; tc->now_ms == 0; events++) {
    ASSERT_LT(events, 10000u);
    ASSERT_LT(tc->frees_since_look, 64u * kRoomUnit) << "an event that was due looked away";
    bin_event_slow(nullptr, slot, tc);
  }
  EXPECT_EQ(tc->frees_since_look, 64u * kRoomUnit) << "the last look is long ago: the next event looks, too";
  EXPECT_LE(tc->room[slot], kRoomUnit) << "and it comes soon";
}

}  // namespace
}  // namespace hz3
