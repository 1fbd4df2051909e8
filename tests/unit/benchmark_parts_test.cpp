// The parts of the benchmark programs (tests/bench/) that a wrong figure could come from: sizes, rings, histograms.
#include <gtest/gtest.h>

#include <thread>

#include "tests/bench/histogram.hpp"
#include "tests/bench/ring.hpp"

namespace {

TEST(BenchmarkParts, RandomNumbersAreInBoundsAndEven) {
  bench::Random random(7);
  unsigned counts[10] = {};
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t drawn = random.within(100, 109);
    ASSERT_GE(drawn, 100u);
    ASSERT_LE(drawn, 109u);
    counts[drawn - 100]++;
  }
  for (const unsigned count : counts) EXPECT_NEAR(count, 10'000, 500);
  bench::Random same(7), other(8);
  bench::Random again(7);
  EXPECT_EQ(same.next(), again.next());
  EXPECT_NE(same.next(), other.next());
}

TEST(BenchmarkParts, SizesOfAnApplication) {
  bench::Random random(1);
  int small = 0, middle = 0, large = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t bytes = bench::app_size(random);
    ASSERT_GE(bytes, 16u);
    ASSERT_LE(bytes, 32768u);
    (bytes <= 256 ? small : bytes <= 2048 ? middle : large)++;
  }
  EXPECT_NEAR(small, 80'000, 500);
  EXPECT_NEAR(middle, 15'000, 500);
  EXPECT_NEAR(large, 5'000, 500);
}

TEST(BenchmarkParts, RingIsBoundedAndInOrder) {
  bench::Rings rings(2, 1, 4);
  bench::Ring& ring = rings.out(0, 0);
  EXPECT_EQ(&ring, &rings.in(1, 0));
  EXPECT_NE(&ring, &rings.in(0, 0));
  int blocks[6];
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(&blocks[i]));
  EXPECT_FALSE(ring.push(&blocks[4]));
  int next = 0;
  EXPECT_EQ(ring.drain([&](void* block) { EXPECT_EQ(block, &blocks[next++]); }), 4u);
  EXPECT_EQ(ring.drain([](void*) {}), 0u);
  EXPECT_TRUE(ring.push(&blocks[5]));
  EXPECT_FALSE(ring.closed());
  ring.close();
  EXPECT_TRUE(ring.closed());
}

TEST(BenchmarkParts, EveryRingHasOneWriterAndOneReader) {
  constexpr unsigned kThreads = 5, kFanOut = 3;
  bench::Rings rings(kThreads, kFanOut, 1);
  for (unsigned writer = 0; writer < kThreads; ++writer)
    for (unsigned which = 0; which < kFanOut; ++which) {
      unsigned readers = 0;
      for (unsigned reader = 0; reader < kThreads; ++reader)
        for (unsigned in = 0; in < kFanOut; ++in) readers += &rings.in(reader, in) == &rings.out(writer, which) ? 1 : 0;
      EXPECT_EQ(readers, 1u);
      EXPECT_NE(&rings.out(writer, which), &rings.in(writer, which));
    }
}

TEST(BenchmarkParts, NothingIsLostBetweenThreads) {
  bench::Rings rings(2, 1, 8);
  constexpr uintptr_t kBlocks = 200'000;
  uintptr_t next = 1;
  std::thread reader([&] {
    while (next <= kBlocks)
      if (rings.in(1, 0).drain([&](void* block) { ASSERT_EQ(reinterpret_cast<uintptr_t>(block), next++); }) == 0)
        std::this_thread::yield();
  });
  for (uintptr_t i = 1; i <= kBlocks; ++i)
    while (!rings.out(0, 0).push(reinterpret_cast<void*>(i))) std::this_thread::yield();
  reader.join();
  EXPECT_EQ(next, kBlocks + 1);
}

TEST(BenchmarkParts, BucketsHoldWhatTheyShould) {
  for (uint64_t ticks : {0ull, 1ull, 15ull, 16ull, 17ull, 31ull, 32ull, 33ull, 1000ull, 123456789ull, 1ull << 40, ~0ull}) {
    const unsigned bucket = bench::Histogram::bucket_of(ticks);
    ASSERT_LT(bucket, bench::Histogram::kBuckets);
    EXPECT_LE(bench::Histogram::begin_of(bucket), ticks);
    if (ticks != ~0ull) {
      EXPECT_GT(bench::Histogram::begin_of(bucket + 1), ticks);
      EXPECT_LE(bench::Histogram::begin_of(bucket + 1) - bench::Histogram::begin_of(bucket), 1 + ticks / 16);
    }
  }
}

TEST(BenchmarkParts, Percentiles) {
  auto* histogram = bench::table<bench::Histogram>(2);
  for (uint64_t i = 1; i <= 10'000; ++i) histogram[0].add(i);
  EXPECT_EQ(histogram[0].count(), 10'000u);
  EXPECT_NEAR(static_cast<double>(histogram[0].percentile(0.5)), 5000, 5000 / 16.0 + 1);
  EXPECT_NEAR(static_cast<double>(histogram[0].percentile(0.99)), 9900, 9900 / 16.0 + 1);
  EXPECT_EQ(histogram[0].percentile(1), 10'000u);
  histogram[1].add(1'000'000);
  histogram[0].add(histogram[1]);
  EXPECT_EQ(histogram[0].most(), 1'000'000u);
  EXPECT_EQ(histogram[0].count(), 10'001u);
  EXPECT_LT(histogram[0].percentile(0.9999), 11'000u);
}

}  // namespace
