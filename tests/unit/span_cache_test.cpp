// The cache of freed spans: what comes back from it, what it holds at most and for how long, and large blocks of several
// threads at once.
#include <map>

#include "hz3/large.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

constexpr size_t kCacheBytes = (kPurgeReservePages << kPageShift) / 2;

char* take(size_t bytes, unsigned shard = 0, bool* zero = nullptr) {
  bool ignored = false;
  return static_cast<char*>(large::allocate(shard, bytes, 1, zero != nullptr ? zero : &ignored));
}
void give(void* p) { large::free(p, tag_of(p)); }

class SpanCache : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kCacheBytes < 8 * kSegmentBytes) GTEST_SKIP() << "nothing is cached in this configuration";
    test::no_ticks();
    api::trim();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

TEST_F(SpanCache, ASpanOfAsManySegmentsIsUsedAgain) {
  char* p = take(2 * kSegmentBytes);
  memset(p, 1, 2 * kSegmentBytes);
  give(p);
  EXPECT_EQ(large::cached_span_bytes(), 2 * kSegmentBytes);
  char* other = take(3 * kSegmentBytes);
  EXPECT_NE(other, p);
  give(other);
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

TEST_F(SpanCache, OfSeveralTheOneMostInMemoryIsTaken) {
  char* small = take(kSegmentBytes + kPageSize);
  char* full = take(2 * kSegmentBytes);
  char* medium = take(kSegmentBytes + 100 * kPageSize);
  for (char* p : {small, full, medium}) give(p);
  EXPECT_EQ(take(2 * kSegmentBytes), full);
  EXPECT_EQ(take(2 * kSegmentBytes), medium);
  EXPECT_EQ(take(2 * kSegmentBytes), small);
  for (char* p : {small, full, medium}) give(p);
}

TEST_F(SpanCache, WhatIsInMemoryBeyondTheNewSizeGoesBack) {
  char* p = take(4 * kSegmentBytes);
  memset(p, 1, 4 * kSegmentBytes);
  give(p);
  Kernel kernel;
  ASSERT_EQ(take(4 * kSegmentBytes - 10 * kPageSize), p);
  EXPECT_EQ(kernel.calls(Call::Advise), 0u) << "not for a little";
  give(p);
  const size_t less = 3 * kSegmentBytes + kPageSize;
  ASSERT_EQ(take(less), p);
  EXPECT_EQ(kernel.calls(Call::Advise), 1u);
  EXPECT_TRUE(test::all_bytes(p, less, 1));
  EXPECT_TRUE(test::all_bytes(p + less, 4 * kSegmentBytes - 10 * kPageSize - less, 0));
  give(p);
}

TEST_F(SpanCache, HoldsEightOfAShardAndTheOldestMakesRoom) {
  if constexpr (kCacheBytes < 16 * kSegmentBytes) GTEST_SKIP() << "the bytes are the bound";
  Blocks spans;
  for (int i = 0; i < 10; i++) spans.push_back(take(kSegmentBytes));
  const size_t in_use = arenas.bytes_in_use();
  for (size_t i = 0; i < spans.size(); i++) {
    give(spans[i]);
    // The clock tells which is the oldest, and it is coarse.
    for (const uint64_t now = os::now_ms(); os::now_ms() == now;) std::this_thread::yield();
    EXPECT_EQ(large::cached_span_bytes(), (i < 8 ? i + 1 : 8) * kSegmentBytes);
    EXPECT_EQ(arenas.bytes_in_use(), in_use - (i < 8 ? 0 : i - 7) * kSegmentBytes);
  }
  Blocks cached;
  for (int i = 0; i < 8; i++) cached.push_back(take(kSegmentBytes));
  EXPECT_EQ(test::as_set(cached), test::as_set({spans.begin() + 2, spans.end()}));
  for (void* p : cached) give(p);
}

TEST_F(SpanCache, HoldsSoManyBytesAndNothingThatIsHalfOfThem) {
  char* too_large = take(kCacheBytes / 2 + 1);
  give(too_large);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  Blocks spans;
  for (int i = 0; i < 6; i++) spans.push_back(take(kCacheBytes / 4));
  for (void* p : spans) {
    give(p);
    EXPECT_LE(large::cached_span_bytes(), kCacheBytes);
  }
  EXPECT_EQ(large::cached_span_bytes(), kCacheBytes);
  give(take(kCacheBytes / 2));
  EXPECT_EQ(large::cached_span_bytes(), kCacheBytes);
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
