// Large blocks: page runs and spans, the cache of spans, growing and shrinking in place, moving without copying.
#include "hz3/large.hpp"

#include <algorithm>

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kMostRunBytes = kSpanMinBytes - kPageSize;

char* take(size_t bytes, size_t alignment = 1, unsigned shard = 0, bool* zero = nullptr) {
  bool ignored = false;
  return static_cast<char*>(large::allocate(shard, bytes, alignment, zero != nullptr ? zero : &ignored));
}
void give(void* p) { large::free(p, tag_of(p)); }
bool is_span(const void* p) { return run_of(p)->segment->span_owner() != 0; }

class Large : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

TEST_F(Large, RunsUpToABoundAndSpansAboveIt) {
  for (size_t bytes : {size_t{1}, kPageSize, kMaxTierBytes + 1, kMostRunBytes - 1, kMostRunBytes, kSpanMinBytes + 1,
                       kSegmentBytes, kSegmentBytes + 1, 5 * kSegmentBytes}) {
    const unsigned shard = kShards - 1;
    char* p = take(bytes, 1, shard);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(tag_of(p), make_tag(kLargeSlot, shard));
    EXPECT_EQ(large::usable(p), round_up(bytes, kPageSize));
    EXPECT_EQ(is_span(p), bytes > kSpanMinBytes);
    for (size_t at = kPageSize; at < large::usable(p); at += kPageSize)
      ASSERT_EQ(tag_of(p + at), 0u) << "only its start is known";
    memset(p, 1, large::usable(p));
    give(p);
    EXPECT_EQ(tag_of(p), 0u);
  }
}

TEST_F(Large, EveryAlignmentOfEverySize) {
  for (size_t alignment = 16; alignment <= 16 * kMiB; alignment *= 2) {
    Blocks blocks;
    for (size_t bytes : {size_t{1}, 40 * kPageSize, kSpanMinBytes, kSpanMinBytes + 1, 3 * kSegmentBytes}) {
      char* p = take(bytes, alignment);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
      EXPECT_GE(large::usable(p), bytes);
      p[0] = p[bytes - 1] = 1;
      blocks.push_back(p);
    }
    for (void* b : blocks) give(b);
  }
  bool zero = false;
  EXPECT_EQ(large::allocate(0, 1, size_t{1} << 47, &zero), nullptr) << "no such address";
}

TEST_F(Large, WhatIsSaidToBeZeroIs) {
  test::Random random(4);
  Blocks live;
  unsigned zero_blocks = 0;
  for (int step = 0; step < 400; step++) {
    if (live.size() < 12) {
      bool zero = false;
      const size_t bytes = 1 + random.below(random.below(2) != 0 ? kSpanMinBytes : 3 * kSegmentBytes);
      char* p = take(bytes, 1, static_cast<unsigned>(random.below(kShards)), &zero);
      ASSERT_NE(p, nullptr);
      if (zero) {
        zero_blocks++;
        ASSERT_TRUE(test::all_bytes(p, large::usable(p), 0)) << step;
      }
      for (size_t at = 0; at < large::usable(p); at += kPageSize) p[at + random.below(kPageSize)] = 1;
      live.push_back(p);
    } else {
      std::swap(live[random.below(live.size())], live.back());
      give(live.back());
      live.pop_back();
    }
    if (step % 50 == 0) large::purge_spans(0, true), PageHeap::purge_all(0, true);
  }
  EXPECT_GT(zero_blocks, 5u);
  for (void* b : live) give(b);
}

TEST_F(Large, ASizeWhoseNumberOfPagesIsNotCountedFails) {
  bool zero = false;
  for (size_t bytes : {size_t{1} << 44, (size_t{1} << 44) + 1, size_t{1} << 50, size_t{PTRDIFF_MAX}})
    EXPECT_EQ(large::allocate(0, bytes, 1, &zero), nullptr);
  char* p = take(2 * kMiB);
  EXPECT_FALSE(large::resize_in_place(p, (size_t{1} << 44) + 1));
  EXPECT_EQ(large::usable(p), 2 * kMiB);
  give(p);
}

TEST_F(Large, WithoutMemoryThereIsNoBlockAndNothingIsLost) {
  char* anchor = take(1);  // its segment has room
  Blocks descriptors;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    while (hz3::Run* d = PageHeap::take_descriptor(0, run_of(anchor)->segment->arena)) {
      d->segment = run_of(anchor)->segment;
      descriptors.push_back(d);
      ASSERT_LT(descriptors.size(), 100000u);
    }
    EXPECT_EQ(take(kMostRunBytes), nullptr) << "no descriptor for a run";
    EXPECT_EQ(take(2 * kMiB), nullptr) << "nor for a span";
    for (void* d : descriptors) PageHeap::return_descriptor(0, static_cast<hz3::Run*>(d));
    Blocks blocks;
    while (void* p = take(2 * kMiB)) {
      blocks.push_back(p);
      ASSERT_LT(blocks.size(), 1000u);
    }
    for (void* b : blocks) give(b);
  }
  give(anchor);
}

// --- resizing in place -----------------------------------------------------------------------------------------------------

TEST_F(Large, RunsGrowAndShrinkInPlaceUntilANeighbourIsMet) {
  char* p = take(10 * kPageSize);
  memset(p, 1, 10 * kPageSize);
  ASSERT_TRUE(large::resize_in_place(p, 20 * kPageSize - 1));
  EXPECT_EQ(large::usable(p), 20 * kPageSize);
  EXPECT_TRUE(test::all_bytes(p, 10 * kPageSize, 1));
  memset(p, 2, 20 * kPageSize);
  EXPECT_TRUE(large::resize_in_place(p, 20 * kPageSize)) << "nothing to do";
  ASSERT_TRUE(large::resize_in_place(p, 5 * kPageSize));
  EXPECT_EQ(large::usable(p), 5 * kPageSize);
  EXPECT_GE(PageHeap::dirty_pages(), kPurgeReservePages != 0 ? 15u : 0u) << "what is left over is free";
  char* next = take(15 * kPageSize);
  EXPECT_EQ(next, p + 5 * kPageSize) << "and used";
  EXPECT_FALSE(large::resize_in_place(p, 6 * kPageSize));
  EXPECT_TRUE(test::all_bytes(p, 5 * kPageSize, 2));
  give(next);
  EXPECT_FALSE(large::resize_in_place(p, kSpanMinBytes + 1)) << "that would be a span";
  EXPECT_TRUE(large::resize_in_place(p, kSpanMinBytes));
  give(p);
}

TEST_F(Large, SpansGrowAndShrinkInPlaceUntilANeighbourIsMet) {
  const size_t before = arenas.bytes_in_use();
  char* p = take(2 * kSegmentBytes);
  memset(p, 1, 2 * kSegmentBytes);
  ASSERT_TRUE(large::resize_in_place(p, 4 * kSegmentBytes - 100));
  EXPECT_EQ(large::usable(p), 4 * kSegmentBytes);
  EXPECT_EQ(arenas.bytes_in_use(), before + 4 * kSegmentBytes);
  EXPECT_TRUE(test::all_bytes(p, 2 * kSegmentBytes, 1));
  memset(p, 2, large::usable(p));
  ASSERT_TRUE(large::resize_in_place(p, 4 * kSegmentBytes - 50 * kPageSize)) << "within its segments";
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes + 1));
  EXPECT_EQ(large::usable(p), kSegmentBytes + kPageSize);
  large::purge_spans(0, true);
  EXPECT_EQ(arenas.bytes_in_use(), before + 2 * kSegmentBytes);
  char* next = take(kSegmentBytes);
  ASSERT_EQ(next, p + 2 * kSegmentBytes);
  EXPECT_TRUE(large::resize_in_place(p, 2 * kSegmentBytes)) << "up to it";
  EXPECT_TRUE(test::all_bytes(p + kSegmentBytes + kPageSize, kSegmentBytes - kPageSize, 0));
  EXPECT_FALSE(large::resize_in_place(p, 2 * kSegmentBytes + 1));
  EXPECT_EQ(large::usable(p), 2 * kSegmentBytes);
  give(next);
  large::purge_spans(0, true);
  EXPECT_TRUE(test::all_bytes(p, kSegmentBytes + kPageSize, 2));
  EXPECT_TRUE(large::resize_in_place(p, kSpanMinBytes / 2 + 1));
  EXPECT_FALSE(large::resize_in_place(p, kSpanMinBytes / 2)) << "that is a block for runs";
  give(p);
}

TEST_F(Large, WhatASpanShrinksByWaitsAndComesBackWhenItGrows) {
  if constexpr (kPurgeReservePages < 2 * kSegmentPages) GTEST_SKIP() << "little is cached in this configuration";
  char* p = take(2 * kSegmentBytes);
  memset(p, 1, 2 * kSegmentBytes);
  Kernel kernel;
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes + 10 * kPageSize));
  EXPECT_EQ(large::cached_span_bytes(), kSegmentBytes - 10 * kPageSize);
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes + 30 * kPageSize));
  EXPECT_EQ(large::cached_span_bytes(), kSegmentBytes - 30 * kPageSize);
  ASSERT_TRUE(large::resize_in_place(p, 2 * kSegmentBytes));
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  EXPECT_EQ(kernel.calls(Call::Advise), 0u);
  EXPECT_TRUE(test::all_bytes(p, 2 * kSegmentBytes, 1));
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes - 10 * kPageSize));
  large::purge_spans(0, true);
  EXPECT_EQ(kernel.calls(Call::Advise), 1u);
  EXPECT_TRUE(test::all_bytes(p, kSegmentBytes - 10 * kPageSize, 1));
  EXPECT_TRUE(test::all_bytes(p + kSegmentBytes - 10 * kPageSize, kSegmentBytes + 10 * kPageSize, 0));
  give(p);
}

TEST_F(Large, AShrunkSpanGivesBackWhatAHugePageHasBehindIt) {
  char* p = take(kSegmentBytes - 64 * kPageSize);
  memset(p, 1, kSegmentBytes);  // as if the first touch had made all of the segment memory
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes - 100 * kPageSize));
  large::purge_spans(0, true);
  EXPECT_TRUE(test::all_bytes(p + kSegmentBytes - 100 * kPageSize, 100 * kPageSize, 0));
  give(p);
}

TEST_F(Large, WhatASpanGrewIntoIsNotKnownToBeZeroUntilItWasGivenBack) {
  char* p = take(kSegmentBytes);
  ASSERT_TRUE(large::resize_in_place(p, 3 * kSegmentBytes));
  memset(p, 1, 3 * kSegmentBytes);
  {
    Kernel kernel;
    kernel.refuse(Call::Advise);
    give(p);
    large::purge_spans(0, true);
  }
  Blocks blocks;
  for (int i = 0; i < 3; i++) {
    bool zero = true;
    char* each = take(kSegmentBytes, 1, 0, &zero);
    ASSERT_EQ(each, p + i * kSegmentBytes);
    EXPECT_FALSE(zero) << i;
    blocks.push_back(each);
  }
  for (void* b : blocks) give(b);
}

// Segments that were given up for want of memory are made usable before a span grows into them.
TEST_F(Large, ASpanGrowsIntoSegmentsThatWereGivenUp) {
  char* p = take(kSegmentBytes);
  char* next = take(2 * kSegmentBytes);
  ASSERT_EQ(next, p + kSegmentBytes);
  give(next);
  large::purge_spans(0, true);
  ASSERT_TRUE(arenas.decommit_free());
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    EXPECT_FALSE(large::resize_in_place(p, 3 * kSegmentBytes)) << "without memory";
    EXPECT_EQ(large::usable(p), kSegmentBytes);
  }
  ASSERT_TRUE(large::resize_in_place(p, 3 * kSegmentBytes));
  memset(p, 1, 3 * kSegmentBytes);
  EXPECT_TRUE(test::all_bytes(p, 3 * kSegmentBytes, 1));
  give(p);
}

// --- moving ----------------------------------------------------------------------------------------------------------------

class Move : public Large {
 protected:
  void SetUp() override {
    Large::SetUp();
    p = take(2 * kSegmentBytes + 5 * kPageSize);
    behind = take(2 * kMiB);
    for (size_t at = 0; at < large::usable(p); at++) p[at] = static_cast<char>(at * 7 / 4096);
    held = large::usable(p);
  }
  void TearDown() override {
    give(p);
    give(behind);
    Large::TearDown();
  }
  bool is_as_before(const char* block) const {
    for (size_t at = 0; at < held; at++)
      if (block[at] != static_cast<char>(at * 7 / 4096)) return false;
    return true;
  }
  char* p = nullptr;
  char* behind = nullptr;
  size_t held = 0;
};

TEST_F(Move, TakesThePagesAlong) {
  for (size_t bytes : {3 * kSegmentBytes, 5 * kSegmentBytes + 1, 10 * kSegmentBytes}) {
    char* to = static_cast<char*>(large::move(0, p, bytes));
    ASSERT_NE(to, nullptr);
    EXPECT_EQ(tag_of(p), 0u) << "the old place is free";
    EXPECT_GE(large::usable(to), bytes);
    EXPECT_TRUE(is_as_before(to));
    memset(to + held, 9, large::usable(to) - held);
    p = to;
  }
}

TEST_F(Move, NeedsNoMoreDescriptorsHoweverOften) {
  constexpr unsigned kMoreThanArePreparedAtOnce = 2000;
  Kernel kernel;
  unsigned commits = 0;
  for (unsigned i = 0; i < kMoreThanArePreparedAtOnce; i++) {
    p = static_cast<char*>(large::move(0, p, 3 * kSegmentBytes));
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(large::resize_in_place(p, held));
    if (i == 200) commits = kernel.calls(Call::Commit);
  }
  EXPECT_EQ(kernel.calls(Call::Commit), commits);
  EXPECT_TRUE(is_as_before(p));
}

TEST_F(Move, NotForRunsNorForLessThanASpan) {
  char* run = take(kMostRunBytes);
  EXPECT_EQ(large::move(0, run, 3 * kSegmentBytes), nullptr);
  char* small = take(2 * kSegmentBytes - kPageSize);
  EXPECT_EQ(large::move(0, small, 3 * kSegmentBytes), nullptr) << "not worth mappings of its own";
  give(small);
  EXPECT_EQ(large::move(0, p, kSpanMinBytes), nullptr);
  EXPECT_EQ(large::move(0, p, 2 * kMiB), nullptr) << "less than it holds";
  EXPECT_EQ(large::usable(p), held);
  give(run);
}

TEST_F(Move, RefusedLeavesTheBlockAndGivesTheTargetBack) {
  large::purge_spans(0, true);
  const size_t in_use = arenas.bytes_in_use();
  {
    Kernel kernel;
    kernel.refuse(Call::Move);
    EXPECT_EQ(large::move(0, p, 5 * kSegmentBytes), nullptr);
    EXPECT_EQ(kernel.refused(Call::Move), 1u);
  }
  EXPECT_TRUE(is_as_before(p));
  EXPECT_EQ(large::usable(p), held);
  large::purge_spans(0, true);
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
}

// The one case in which segments are lost on purpose, so it has a process of its own.
[[noreturn]] void lose_a_target() {
  char* p = take(2 * kSegmentBytes);
  memset(p, 1, 2 * kSegmentBytes);
  const size_t in_use = arenas.bytes_in_use();
  {
    Kernel kernel;
    kernel.refuse(Call::Move);
    kernel.refused_move_loses = true;
    EXPECT_EQ(large::move(0, p, 4 * kSegmentBytes), nullptr);
    EXPECT_EQ(large::move(0, p, 4 * kSegmentBytes), nullptr);
    EXPECT_EQ(kernel.calls(Call::Move), 1u) << "one loss is enough: from then on blocks are copied";
  }
  EXPECT_TRUE(test::all_bytes(p, 2 * kSegmentBytes, 1));
  EXPECT_EQ(arenas.bytes_in_use(), in_use + 4 * kSegmentBytes);
  for (int i = 0; i < 20; i++) {
    char* q = take(4 * kSegmentBytes);
    memset(q, 2, 4 * kSegmentBytes);
    give(q);
  }
  give(p);
  api::trim();
  EXPECT_EQ(arenas.bytes_in_use(), 4 * kSegmentBytes);
  exit(testing::Test::HasFailure() ? 1 : 0);
}

TEST(LostMove, LeavesTheBlockAndIsTheLast) { EXPECT_EXIT(lose_a_target(), testing::ExitedWithCode(0), ""); }

TEST_F(Move, WithoutAPlaceForItLeavesTheBlock) {
  Kernel kernel;
  kernel.refuse(Call::Commit);
  kernel.refuse(Call::Reserve);
  EXPECT_EQ(large::move(0, p, 3000 * kMiB), nullptr);
  EXPECT_TRUE(is_as_before(p));
}

}  // namespace
}  // namespace hz3
