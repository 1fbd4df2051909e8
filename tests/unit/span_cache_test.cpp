// The cache of freed spans: what comes back from it, what it holds at most and for how long, and large blocks of several
// threads at once.
#include <map>
#include <vector>

#include "hz3/large.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

constexpr size_t kReserveBytes = kPurgeReservePages << kPageShift;

char* take(size_t bytes, unsigned shard = 0, bool* zero = nullptr) {
  bool ignored = false;
  return static_cast<char*>(large::allocate(shard, bytes, 1, zero != nullptr ? zero : &ignored));
}
void give(void* p) { large::free(p, tag_of(p)); }

class SpanCache : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kReserveBytes < 32 * kSegmentBytes) GTEST_SKIP() << "little is cached in this configuration";
    test::no_ticks();
    api::trim();
    give(take(kReserveBytes));
    large::purge_spans(0, true);
    for (int i = 0; i < 200; i++) large::purge_spans(0, false);  // what was in use, and asked for, is forgotten
    // Tests use up to so much at once: as much may wait.
    give(take(kReserveBytes));
    large::purge_spans(0, true);
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

TEST_F(SpanCache, ASpanIsUsedAgain) {
  char* p = take(2 * kSegmentBytes);
  memset(p, 1, 2 * kSegmentBytes);
  give(p);
  EXPECT_EQ(large::cached_span_bytes(), 2 * kSegmentBytes);
  if constexpr (kShards > 1) {
    char* of_other_shard = take(2 * kSegmentBytes, 1);
    EXPECT_NE(of_other_shard, p) << "each shard has its own";
    give(of_other_shard);
  }
  bool zero = true;
  EXPECT_EQ(take(2 * kSegmentBytes - 100, 0, &zero), p);
  EXPECT_FALSE(zero);
  EXPECT_EQ(large::usable(p), 2 * kSegmentBytes);
  give(p);
}

TEST_F(SpanCache, TheShortestExtentIsTakenOfThoseThatAreInMemoryAsFar) {
  // Three, two and one unit, with something between them.
  const size_t unit = kSpanMinBytes + kPageSize, sizes[] = {3 * unit, unit, 2 * unit, unit, unit, unit};
  char* whole = take(9 * unit);
  give(whole);
  char* p[6];
  for (int i = 0; i < 6; i++) p[i] = take(sizes[i]);
  ASSERT_EQ(p[5], whole + 8 * unit);
  for (int i : {0, 2, 4}) give(p[i]);
  EXPECT_EQ(take(unit), p[4]);
  EXPECT_EQ(take(unit + kPageSize), p[2]);
  EXPECT_EQ(take(2 * unit + 10 * kPageSize), p[0]);
  for (char* each : p) give(each);
}

TEST_F(SpanCache, SpansShareSegments) {
  const size_t in_use = arenas.bytes_in_use();
  const size_t small = kSpanMinBytes + kPageSize;
  char* whole = take(kSegmentBytes);
  give(whole);
  Blocks parts;
  for (size_t at = 0; at + small <= kSegmentBytes; at += small) {
    char* p = take(small);
    EXPECT_EQ(p, whole + at);
    *p = 1;
    parts.push_back(p);
  }
  ASSERT_GE(parts.size(), 2u);
  EXPECT_EQ(arenas.bytes_in_use(), in_use + kSegmentBytes);
  for (void* p : parts) give(p);
  EXPECT_EQ(take(kSegmentBytes), whole) << "they are one again";
  give(whole);
  large::purge_spans(0, true);
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
}

TEST_F(SpanCache, APlaceIsTakenWhereMostOfItIsInMemory) {
  char* whole = take(4 * kSegmentBytes);
  give(whole);
  char* first = take(2 * kSegmentBytes);
  char* last = take(2 * kSegmentBytes);
  ASSERT_EQ(first, whole);
  ASSERT_EQ(last, whole + 2 * kSegmentBytes);
  give(first);
  large::purge_spans(0, true);
  memset(last, 1, 2 * kSegmentBytes);
  char* half = take(kSegmentBytes);  // keeps the first half of the segments
  ASSERT_EQ(half, whole);
  give(last);
  // Segments 1 to 3 are free, and the last two of them in memory.
  bool zero = true;
  EXPECT_EQ(take(2 * kSegmentBytes, 0, &zero), last);
  EXPECT_FALSE(zero);
  EXPECT_TRUE(test::all_bytes(last, 2 * kSegmentBytes, 1));
  give(half);
  give(last);
}

TEST_F(SpanCache, OfALongerOneAsMuchIsTakenAsIsNeeded) {
  char* p = take(6 * kSegmentBytes);
  memset(p, 1, 6 * kSegmentBytes);
  give(p);
  EXPECT_EQ(take(2 * kSegmentBytes), p);
  EXPECT_EQ(large::cached_span_bytes(), 4 * kSegmentBytes);
  EXPECT_EQ(take(4 * kSegmentBytes), p + 2 * kSegmentBytes);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  EXPECT_TRUE(test::all_bytes(p, 6 * kSegmentBytes, 1)) << "nothing of it went back";
  give(p);
  give(p + 2 * kSegmentBytes);
}

TEST_F(SpanCache, NeighboursAreTakenAsOne) {
  char* whole = take(7 * kSegmentBytes);
  give(whole);
  char* parts[] = {take(2 * kSegmentBytes), take(kSegmentBytes + kPageSize), take(3 * kSegmentBytes)};
  ASSERT_EQ(parts[1], whole + 2 * kSegmentBytes);
  ASSERT_EQ(parts[2], whole + 3 * kSegmentBytes + kPageSize);
  for (char* p : parts) memset(p, 1, kSegmentBytes);
  for (int i : {1, 0, 2}) give(parts[i]);
  const size_t in_use = arenas.bytes_in_use();
  EXPECT_EQ(take(7 * kSegmentBytes), whole);
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
  for (char* p : parts) EXPECT_TRUE(test::all_bytes(p, kSegmentBytes, 1));
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  give(whole);
}

TEST_F(SpanCache, AShorterOneIsMadeLongerWhereThereIsRoom) {
  char* before = take(5 * kSegmentBytes);  // so that the segments are no fresh ones
  give(before);
  large::purge_spans(0, true);
  char* p = take(3 * kSegmentBytes);
  ASSERT_EQ(p, before);
  memset(p, 1, 3 * kSegmentBytes);
  give(p);
  EXPECT_EQ(take(5 * kSegmentBytes), p);
  EXPECT_TRUE(test::all_bytes(p, 3 * kSegmentBytes, 1));
  EXPECT_TRUE(test::all_bytes(p + 3 * kSegmentBytes, 2 * kSegmentBytes, 0));
  char* behind = take(kSegmentBytes);
  char* last = take(kSegmentBytes);
  give(behind);
  char* elsewhere = take(2 * kSegmentBytes);
  EXPECT_NE(elsewhere, behind) << "somebody is in the way";
  EXPECT_EQ(large::cached_span_bytes(), kSegmentBytes) << "it waits on";
  EXPECT_EQ(take(kSegmentBytes), behind);
  for (char* each : {p, last, behind, elsewhere}) give(each);
}

TEST_F(SpanCache, ABlockThatMovesOnEachTimeStaysAmongTheSameSegments) {
  char* p = take(2 * kSegmentBytes);
  size_t most = 0;
  for (int i = 0; i < 500; i++) {
    p = static_cast<char*>(large::move(0, p, 3 * kSegmentBytes));
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(large::resize_in_place(p, 2 * kSegmentBytes));
    const size_t at = hz3::run_of(p)->segment->index;
    if (i < 100) most = at > most ? at : most;  // until as much waits as may
    EXPECT_LE(at, most + 10) << i;
  }
  give(p);
}

TEST_F(SpanCache, AlignedSpansComeFromExtentsToo) {
  const size_t before = arenas.bytes_in_use();
  for (size_t alignment = 2 * kPageSize; alignment <= kSegmentBytes; alignment *= 2) {
    bool zero = false;
    char* whole = take(4 * kSegmentBytes);
    char* first = static_cast<char*>(large::allocate(0, kSegmentBytes + kPageSize, alignment, &zero));
    EXPECT_TRUE(first >= whole + 4 * kSegmentBytes) << "behind it";
    give(first);
    char* again = static_cast<char*>(large::allocate(0, kSegmentBytes + kPageSize, alignment, &zero));
    EXPECT_EQ(again, first);
    EXPECT_FALSE(zero);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(again) % alignment, 0u);
    give(again);
    give(whole);
    char* within = static_cast<char*>(large::allocate(0, kSegmentBytes, alignment, &zero));
    const size_t extent = 4 * kSegmentBytes + 2 * kSegmentBytes;  // of both, which were neighbours
    EXPECT_TRUE(within >= whole && within < whole + extent) << alignment;
    give(within);
    large::purge_spans(0, true);
    EXPECT_EQ(arenas.bytes_in_use(), before);
  }
}

TEST_F(SpanCache, WholeSegmentsThatArePurgedGoBackToTheArenaAtOnce) {
  char* p = take(2 * kReserveBytes);
  memset(p, 1, 2 * kReserveBytes);
  const size_t in_use = arenas.bytes_in_use();
  Kernel kernel;
  give(p);
  EXPECT_LE(large::cached_span_bytes(), kReserveBytes) << "no more may wait";
  EXPECT_EQ(kernel.calls(Call::Advise), 1u);
  EXPECT_LE(arenas.bytes_in_use(), in_use - kReserveBytes) << "and the rest of it is nobody's";
  EXPECT_EQ(take(kReserveBytes - kSegmentBytes), p) << "the start of it waits";
  EXPECT_TRUE(test::all_bytes(p, kReserveBytes - kSegmentBytes, 1));
  give(p);
}

TEST_F(SpanCache, WhatIsInMemoryBeyondTheNewSizeWaitsOn) {
  char* p = take(4 * kSegmentBytes);
  memset(p, 1, 4 * kSegmentBytes);
  give(p);
  Kernel kernel;
  const size_t less = 3 * kSegmentBytes + kPageSize;
  ASSERT_EQ(take(less), p) << "at the start, where both ends are in memory";
  EXPECT_EQ(kernel.calls(Call::Advise), 0u);
  EXPECT_EQ(large::cached_span_bytes(), 4 * kSegmentBytes - less);
  large::purge_spans(0, true);
  EXPECT_EQ(kernel.calls(Call::Advise), 1u);
  EXPECT_TRUE(test::all_bytes(p, less, 1));
  EXPECT_TRUE(test::all_bytes(p + less, 4 * kSegmentBytes - less, 0));
  give(p);
}

TEST_F(SpanCache, OfTooManyExtentsTheOneWithTheFewestPagesMakesRoom) {
  constexpr unsigned kExtents = 128;
  const size_t small = kSpanMinBytes + kPageSize;
  // So that as many may wait.
  if (2 * kExtents * small > 8 * kReserveBytes) GTEST_SKIP() << "so much is not cached in this configuration";
  for (size_t limit = kReserveBytes; limit < 2 * kExtents * small; limit *= 2)
    for (int i = 0; i < 2; i++) give(take(limit + limit / 2));
  large::purge_spans(0, true);
  Blocks extents, between;
  for (unsigned i = 0; i < kExtents + 10; i++) {
    extents.push_back(take(small));
    between.push_back(take(small));
  }
  for (void* p : extents) give(p);
  EXPECT_EQ(large::cached_span_bytes(), kExtents * small);
  for (void* p : between) give(p);
  large::purge_spans(0, true);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
}

TEST_F(SpanCache, WhatWaitsDoesNotAddToTheMostThatWasInUse) {
  for (int i = 0; i < 200; i++) large::purge_spans(0, false);
  Blocks spans;
  for (int i = 0; i < 5; i++) spans.push_back(take(kReserveBytes / 8));
  give(spans[0]);
  EXPECT_EQ(large::cached_span_bytes(), kReserveBytes / 8);
  // More of them are used, and fewer may wait: the little that may in any case.
  char* others[] = {take(kReserveBytes / 4), take(kReserveBytes / 4)};
  EXPECT_LE(large::cached_span_bytes(), kReserveBytes / 8);
  for (size_t i = 1; i < spans.size(); i++) give(spans[i]);
  for (char* p : others) give(p);
  EXPECT_LE(large::cached_span_bytes(), kReserveBytes);
  EXPECT_GT(large::cached_span_bytes(), kReserveBytes / 2);
}

TEST_F(SpanCache, ItsLimitDoublesWhenARefusedOneIsAskedForAndFallsBack) {
  const size_t bytes = 3 * kReserveBytes / 2;
  const auto stays = [&] {
    give(take(bytes));
    const bool yes = large::cached_span_bytes() == bytes;
    if (!yes) {
      EXPECT_LE(large::cached_span_bytes(), kReserveBytes);
      EXPECT_GT(large::cached_span_bytes(), kReserveBytes / 2) << "the rest of it";
    }
    return yes;
  };
  EXPECT_FALSE(stays()) << "nobody has asked for it again";
  EXPECT_TRUE(stays()) << "now somebody has";
  EXPECT_TRUE(stays());
  large::purge_spans(0, true);
  for (int i = 0; i < 10; i++) large::purge_spans(0, false);  // none is taken in between
  EXPECT_FALSE(stays());
  // Eight times the reserve at the most.
  for (int i = 0; i < 10; i++) {
    give(take(9 * kReserveBytes));
    EXPECT_LE(large::cached_span_bytes(), 8 * kReserveBytes);
  }
  large::purge_spans(0, true);
  give(take(7 * kReserveBytes));
  EXPECT_EQ(large::cached_span_bytes(), 7 * kReserveBytes);
}

TEST_F(SpanCache, SpansWaitForTheDecayTimeAndNoLonger) {
  uint64_t before = 0;
  do {  // again when this thread was stopped in between
    large::purge_spans(0, true);
    char* p = take(kSegmentBytes);
    before = os::now_ms();
    give(p);
    large::purge_spans(os::now_ms(), false);
  } while (os::now_ms() - before > kPurgeDecayMs / 2);
  EXPECT_EQ(large::cached_span_bytes(), kSegmentBytes);
  large::purge_spans(os::now_ms() + kPurgeDecayMs, false);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
}

TEST_F(SpanCache, OfAnExtentThePagesGoThatWaitedForTheDecayTime) {
  char* p = take(3 * kSegmentBytes);
  memset(p, 1, 3 * kSegmentBytes);
  ASSERT_TRUE(large::resize_in_place(p, 2 * kSegmentBytes));
  uint64_t now = os::now_ms() + 1;
  large::purge_spans(now, false);
  ASSERT_TRUE(large::resize_in_place(p, kSegmentBytes));
  large::purge_spans(now += kPurgeDecayMs / 2, false);
  EXPECT_EQ(large::cached_span_bytes(), kSegmentBytes) << "the last segment has gone";
  EXPECT_TRUE(test::all_bytes(p, 2 * kSegmentBytes, 1));
  EXPECT_TRUE(test::all_bytes(p + 2 * kSegmentBytes, kSegmentBytes, 0));
  large::purge_spans(now += kPurgeDecayMs / 2, false);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  give(p);
}

TEST_F(SpanCache, ARefusedAdviceLeavesSegmentsNotKnownToBeZero) {
  char* p = take(kSegmentBytes);
  memset(p, 1, kSegmentBytes);
  give(p);
  {
    Kernel kernel;
    kernel.refuse(Call::Advise);
    large::purge_spans(0, true);
  }
  bool zero = true;
  ASSERT_EQ(take(kSegmentBytes, 0, &zero), p) << "the lowest free segment";
  EXPECT_FALSE(zero);
  give(p);
  large::purge_spans(0, true);
  ASSERT_EQ(take(kSegmentBytes, 0, &zero), p);
  EXPECT_TRUE(zero);
  EXPECT_TRUE(test::all_bytes(p, kSegmentBytes, 0));
  give(p);
}

TEST_F(SpanCache, NothingGoesBackByItselfWhereTheDecayTimeIsNever) {
  const int before = settings::values[settings::kDecayMs];
  settings::values[settings::kDecayMs] = -1;
  give(take(4 * kReserveBytes));
  EXPECT_GE(large::cached_span_bytes(), 4 * kReserveBytes);
  settings::values[settings::kDecayMs] = before;
  give(take(kSegmentBytes));
  EXPECT_LE(large::cached_span_bytes(), 2 * kReserveBytes);
}

// Every block is filled with a number of its own, so that two threads which got the same pages would notice.
TEST_F(SpanCache, SeveralThreadsTakeGiveResizeAndMove) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; t++)
    threads.emplace_back([t] {
      test::Random random(t + 5);
      std::map<char*, uint64_t> live;
      const auto mark = [](char* p, uint64_t number) {
        for (size_t at = 0; at < large::usable(p); at += kPageSize) *reinterpret_cast<uint64_t*>(p + at) = number + at;
      };
      const auto check = [](const char* p, uint64_t number, size_t bytes) {
        for (size_t at = 0; at < bytes; at += kPageSize)
          if (*reinterpret_cast<const uint64_t*>(p + at) != number + at) return false;
        return true;
      };
      const auto size = [&] { return 1 + random.below(random.below(2) != 0 ? kSpanMinBytes : 3 * kSegmentBytes); };
      for (uint64_t step = 0; step < 400; step++) {
        if (live.size() < 8) {
          char* p = take(size(), static_cast<unsigned>(random.below(kShards)));
          ASSERT_NE(p, nullptr);
          mark(p, live[p] = (step << 40) + t);
          continue;
        }
        auto it = live.begin();
        std::advance(it, static_cast<long>(random.below(live.size())));
        auto [p, number] = *it;
        const size_t had = large::usable(p);
        ASSERT_TRUE(check(p, number, had));
        const size_t want = size();
        if (random.below(3) == 0 && large::resize_in_place(p, want)) {
          ASSERT_TRUE(check(p, number, had < large::usable(p) ? had : large::usable(p)));
          mark(p, number);
          continue;
        }
        live.erase(it);
        char* moved = random.below(2) != 0 ? static_cast<char*>(large::move(0, p, want)) : nullptr;
        if (moved != nullptr) {
          ASSERT_TRUE(check(moved, number, had));
          mark(moved, live[moved] = number);
        } else {
          give(p);
        }
        if (step % 64 == 0) large::purge_spans(0, true), PageHeap::purge_all(os::now_ms(), true);
      }
      for (auto [p, number] : live) give(p);
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace hz3
