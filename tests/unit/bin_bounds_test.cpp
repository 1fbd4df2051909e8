// The bins of a thread that allocates and frees: how long they get, when their limits grow, which remote blocks they keep.
#include "hz3/bins.hpp"
#include "hz3/depot.hpp"

#include <map>

#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::bound;
using test::expect_bounded;
using test::least_room;
using test::list_bound;
using test::Worker;

// Each test has a thread of its own, and with it a cache as new.
class BinBounds : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    test::my_cache();
    tc = worker->cache();
    worker->run([this] { flush_cache(tc); });
    tc->now_ms = tc->trimmed_ms = os::now_ms();
  }
  void TearDown() override {
    worker.reset();
    EXPECT_NOTHING_LOST();
  }
  // Whether the bin was looked at since the last question.
  bool had_event(Slot slot) {
    const bool had = tc->seen_room[slot] == kBusyBin;
    tc->seen_room[slot] = 0;
    return had;
  }
  std::unique_ptr<Worker> worker = std::make_unique<Worker>();
  ThreadCache* tc = nullptr;
};

TEST_F(BinBounds, RandomWorkAgreesWithACountedModel) {
  worker->run([this] {
    for (Slot slot :
         {slot_of(16), slot_of(64), slot_of(1024), slot_of(2100), slot_of(8192), Slot{kTierBins}, slot_of(40000), kSlots - 1}) {
      test::Random random(slot);
      const size_t bytes = class_bytes(slot);
      std::set<void*> live;
      unsigned in_bin = test::bin_length(tc, slot);
      const int steps = bytes > 4096 ? 4000 : 8000;
      for (int step = 0; step < steps; step++) {
        // Phases of growing and of shrinking, and in between.
        const unsigned grows = step / 1000 % 3 == 0 ? 7 : step / 1000 % 3 == 1 ? 2 : 5;
        const unsigned before = in_bin;
        const bool in_depot = Depot::of(slot).blocks() != 0;
        const bool allocates = live.empty() || random.below(10) < grows;
        if (allocates) {
          void* expected = tc->head[slot] != nullptr ? tc->head[slot] : tc->second[slot];
          void* b = random.below(2) != 0 ? malloc_hot(bytes) : api::calloc(1, bytes);
          ASSERT_TRUE(live.insert(b).second) << "handed out twice";
          ASSERT_EQ(tag_of(b), make_tag(slot, tc->shard));
          if (before != 0) {
            ASSERT_EQ(b, expected) << "most recently freed first";
          }
        } else {
          auto it = live.begin();
          std::advance(it, static_cast<long>(random.below(live.size() < 8 ? live.size() : 8)));
          void* b = *it;
          live.erase(it);
          free_hot(b);
          ASSERT_TRUE(tc->head[slot] == b ||
                      (tc->head[slot] == nullptr && (tc->second[slot] == b || tc->second[slot] == nullptr)))
              << "it is the first of a list, unless all of them went home";
        }
        in_bin = test::bin_length(tc, slot);
        if (allocates && before != 0) {
          ASSERT_EQ(in_bin, before - 1);
        } else if (allocates) {
          ASSERT_LT(in_bin, in_depot ? bound(tc, slot) : class_info(slot).refill) << "one block of what came is out";
        } else {
          ASSERT_TRUE(in_bin == before + 1 ||
                      (in_bin <= before && in_bin <= tc->limit[slot] + least_room(tc, slot) && tc->overflowed[slot]))
              << "it grew by one, or overflowed: then a list has gone, be it of one block";
        }
        expect_bounded(tc, slot);
      }
      for (void* b : live) free_hot(b);
      expect_bounded(tc, slot);
    }
  });
}

TEST_F(BinBounds, ABinThatIsExactlyFullIsNotLookedAtByEveryPair) {
  worker->run([this] {
    constexpr unsigned kPairs = 2000;
    for (Slot slot : {slot_of(64), slot_of(1024), slot_of(4096), Slot{kTierBins}, slot_of(40000), kSlots - 1}) {
      const size_t bytes = class_bytes(slot);
      for (unsigned length = tc->limit[slot] - 2u; length <= bound(tc, slot); length++) {
        Blocks held;
        for (unsigned i = 0; i < length + 2; i++) held.push_back(malloc_hot(bytes));
        flush_cache(tc);
        for (unsigned i = 0; i < length; i++) {
          free_hot(held.back());
          held.pop_back();
        }
        had_event(slot);
        unsigned events = 0;
        for (unsigned i = 0; i < kPairs; i++) {
          free_hot(held.back());
          events += had_event(slot);
          held.back() = malloc_hot(bytes);
          events += had_event(slot);
        }
        // Each pair uses up a small part of a block, and each event grants at least two blocks. An event that makes the list
        // the second one is followed by that of the malloc which takes it back.
        EXPECT_LE(events, 3 + 2 * kPairs / (2 * kRoomUnit / kRoomLeak)) << bytes << " " << length;
        for (void* b : held) free_hot(b);
      }
    }
  });
}

TEST_F(BinBounds, TheLeakBringsAThreadThatNeverMissesToAnEvent) {
  worker->run([this] {
    const Slot slot = slot_of(64);
    void* b = malloc_hot(64);
    had_event(slot);
    unsigned events = 0;
    const unsigned most = bound(tc, slot) * kRoomUnit + 2;
    for (unsigned i = 0; i < most; i++) {
      free_hot(b);
      events += had_event(slot);
      b = malloc_hot(64);
    }
    EXPECT_GE(events, 1u);
    free_hot(b);
  });
}

TEST_F(BinBounds, AThreadThatOnlyFreesKeepsNoSecondListInTheEnd) {
  for (size_t bytes : {64, 1024, 32768, 40000, 262144}) {
    const Slot slot = slot_of(bytes);
    const Blocks some = test::blocks_of(tc->shard, slot, 10 * bound(tc, slot));
    worker->run([&] {
      for (void* b : some) free_hot(b);
      EXPECT_EQ(tc->second[slot], nullptr);
      EXPECT_LE(test::bin_length(tc, slot), list_bound(tc, slot));
      // One that takes something back has two again.
      EXPECT_EQ(tc->limit[slot], class_info(slot).limit_first);
      Blocks again;
      for (unsigned i = 0; i < 2 * bound(tc, slot); i++) again.push_back(malloc_hot(bytes));
      for (void* b : again) free_hot(b);
      EXPECT_NE(tc->second[slot], nullptr);
      flush_cache(tc);
    });
  }
}

TEST_F(BinBounds, AThreadThatOnlyFreesKeepsWithinItsBound) {
  Blocks blocks;
  for (size_t bytes : {64, 1024, 4096, 32768, 40000, 262144}) {
    const Slot slot = slot_of(bytes);
    const Blocks some = test::blocks_of(tc->shard, slot, 3 * bound(tc, slot));
    worker->run([&] {
      for (void* b : some) {
        free_hot(b);
        expect_bounded(tc, slot);
        ASSERT_EQ(tc->limit[slot], class_info(slot).limit_first);
      }
    });
  }
}

// Each malloc takes the full list back, which the frees then make longer: it must not grow for ever.
TEST_F(BinBounds, AThreadThatFreesMuchAndAllocatesLittleKeepsWithinItsBound) {
  for (size_t bytes : {64, 1024, 4096, 32768, 40000, 262144}) {
    const Slot slot = slot_of(bytes);
    for (unsigned frees_for_one : {2u, 5u, least_room(tc, slot), list_bound(tc, slot), list_bound(tc, slot) + 1}) {
      Blocks in_use = test::blocks_of(tc->shard, slot, 20 * bound(tc, slot));
      worker->run([&] {
        size_t next = 0;
        while (next + frees_for_one < in_use.size()) {
          for (unsigned i = 0; i < frees_for_one; i++) {
            free_hot(in_use[next++]);
            expect_bounded(tc, slot);
          }
          in_use[--next] = malloc_hot(bytes);
          expect_bounded(tc, slot);
        }
        while (next < in_use.size()) free_hot(in_use[next++]);
      });
    }
  }
}

TEST_F(BinBounds, AThreadThatOnlyFreesOthersBlocksKeepsNone) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  for (size_t bytes : {16, 64, 4096, 32768}) {
    const Blocks blocks = test::blocks_of(other, slot_of(bytes), 1000);
    worker->run([&] {
      for (void* b : blocks) {
        free_hot(b);
        ASSERT_EQ(tc->head[slot_of(bytes)], nullptr);
        ASSERT_LT(tc->stash.entries(), remote::kFlushBatch);
        ASSERT_LT(tc->stash.entries() * bytes, remote::kFlushBytes);
      }
      tc->stash.stash_flush_all();
    });
    const Blocks arrived = test::taken_from(Inbox::of(other));
    EXPECT_EQ(test::as_set(arrived), test::as_set(blocks));
    test::give_back(arrived);
  }
}

class Limits : public BinBounds {
 protected:
  void SetUp() override {
    BinBounds::SetUp();
    ASSERT_GE(class_info(slot).limit_most, 4 * class_info(slot).limit_first) << "the class is chosen so that it can grow twice";
  }
  Blocks take(unsigned n) {
    Blocks blocks;
    for (unsigned i = 0; i < n; i++) blocks.push_back(malloc_hot(class_bytes(slot)));
    return blocks;
  }
  static void give(const Blocks& blocks) {
    for (void* b : blocks) free_hot(b);
  }
  const Slot slot = slot_of(8192);
  const unsigned first = class_info(slot).limit_first;
};

TEST_F(Limits, DoubleWhenABinOverflowedAndThenRanEmpty) {
  worker->run([this] {
    for (unsigned limit = first; limit < class_info(slot).limit_most;) {
      const Blocks blocks = take(3 * limit);
      ASSERT_EQ(tc->limit[slot], limit);
      give(blocks);
      ASSERT_TRUE(tc->overflowed[slot]);
      ASSERT_EQ(tc->limit[slot], limit) << "not before it ran empty";
      const Blocks again = take(test::bin_length(tc, slot) + 1);
      const unsigned most = class_info(slot).limit_most;
      ASSERT_EQ(tc->limit[slot], 2 * limit < most ? 2 * limit : most);
      ASSERT_FALSE(tc->overflowed[slot]);
      limit = tc->limit[slot];
      give(again);
    }
    give(take(3 * tc->limit[slot]));
    give(take(3 * tc->limit[slot]));
    EXPECT_EQ(tc->limit[slot], class_info(slot).limit_most);
    EXPECT_EQ(tc->granted, (tc->limit[slot] - first) * class_bytes(slot));
  });
}

TEST_F(Limits, StayInAProgramThatOnlyGrowsOrOnlyShrinks) {
  worker->run([this] {
    const Blocks blocks = take(20 * first);
    EXPECT_EQ(tc->limit[slot], first);
    EXPECT_FALSE(tc->overflowed[slot]);
    give(blocks);
    EXPECT_EQ(tc->limit[slot], first);
  });
}

TEST_F(Limits, StayWhenABinRunsEmptyAgainAndAgainWithoutOverflow) {
  worker->run([this] {
    for (int round = 0; round < 50; round++) give(take(first - 1));
    EXPECT_EQ(tc->limit[slot], first);
  });
}

TEST_F(Limits, OneOverflowDoublesOnce) {
  worker->run([this] {
    const Blocks blocks = take(3 * first);
    give(blocks);
    const Blocks all = take(20 * first);
    EXPECT_EQ(tc->limit[slot], 2 * first) << "however often it runs empty";
    give(all);
  });
}

// A remote block is kept by a thread that allocates from the class, in a class whose blocks are no smaller than a cache line.
class Kept : public BinBounds {
 protected:
  void SetUp() override {
    if constexpr (kShards < 2) GTEST_SKIP();
    BinBounds::SetUp();
    other = (tc->shard + 1) % kShards;
  }
  // The worker frees so many blocks of the other shard; how many of them its bin keeps.
  unsigned kept_of(Slot slot, unsigned n) {
    const Blocks blocks = test::blocks_of(other, slot, n);
    unsigned kept = 0;
    worker->run([&] {
      for (void* b : blocks) {
        free_hot(b);
        if (tc->head[slot] == b || tc->second[slot] == b) kept++;
      }
      tc->stash.stash_flush_all();
    });
    EXPECT_EQ(Inbox::of(other).count(), slot <= kTierBins ? n - kept : 0) << "the others went to their owner";
    remote::drain_to_central(other);
    return kept;
  }
  unsigned other = 0;
};

TEST_F(Kept, OnlyOnceTheThreadAllocatesFromTheClass) {
  for (Slot slot : {slot_of(64), slot_of(1024), slot_of(4096), Slot{kTierBins}}) {
    EXPECT_EQ(kept_of(slot, 40), 0u);
    void* b = nullptr;
    worker->run([&] { b = malloc_hot(class_bytes(slot)); });
    EXPECT_EQ(kept_of(slot, tc->limit[slot] / 2), tc->limit[slot] / 2u) << "as its own";
    EXPECT_LE(test::bin_length(tc, slot), bound(tc, slot));
    worker->run([&] { free_hot(b); });
  }
}

TEST_F(Kept, OnlyBlocksNoSmallerThanACacheLine) {
  unsigned shared = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    void* b = nullptr;
    worker->run([&] { b = malloc_hot(class_bytes(slot)); });
    const bool shares = class_bytes(slot) < kCacheLine;
    shared += shares;
    EXPECT_EQ(tc->accepts[slot], shares ? kOwnBlocks : kAllBlocks) << class_bytes(slot);
    if (slot < 20 || slot % 16 == 0) {
      // As many as the bin has already would leave no half for remote ones.
      worker->run([&] { empty_bin(tc, slot); });
      EXPECT_EQ(kept_of(slot, 1), shares ? 0u : 1u) << class_bytes(slot);
    }
    worker->run([&] { free_hot(b); });
  }
  EXPECT_EQ(shared, 3u) << "16, 32, 48";
}

// What was kept is handed out like any other block, and knows its owner for ever.
TEST_F(Kept, BlocksAreHandedOutAgainAndGoHomeInTheEnd) {
  const Slot slot = slot_of(64);
  const Blocks foreign = test::blocks_of(other, slot, 10);
  worker->run([&] {
    void* b = malloc_hot(64);
    flush_cache(tc);
    for (void* f : foreign) free_hot(f);
    EXPECT_EQ(test::bin_length(tc, slot), 10u);
    for (size_t i = foreign.size(); i-- > 0;) EXPECT_EQ(malloc_hot(64), foreign[i]);
    for (void* f : foreign) free_hot(f);
    free_hot(b);
    flush_cache(tc);
  });
  const Blocks arrived = test::taken_from(Inbox::of(other));
  EXPECT_EQ(test::as_set(arrived), test::as_set(foreign));
  test::give_back(arrived);
}

}  // namespace
}  // namespace hz3
