// The parts of the benchmark programs (tests/bench/) that a wrong figure could come from: sizes, rings, histograms.
#include <gtest/gtest.h>

#include <map>
#include <thread>
#include <vector>

#include "tests/bench/histogram.hpp"
#include "tests/bench/ring.hpp"
#include "tests/bench/trace_reader.hpp"

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

TEST(BenchmarkParts, EventsOfATraceAreReadAsTheyWereWritten) {
  using namespace bench::trace;
  bench::Random random(3);
  struct Written {
    uint8_t operation;
    uint64_t sequence, bytes, address;
  };
  std::vector<Written> written;
  std::vector<uint8_t> data(1 << 20);
  Encoder out{data.data(), 5, 0};
  uint64_t sequence = 4;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t gap = i % 3 == 0 ? 1 + random.below(100'000) : 1 + random.below(33);  // either side of what fits the tag
    const uint64_t bytes = uint64_t{random.next()} << random.below(32) | 1;
    const uint64_t address = (uint64_t{random.next()} << random.below(16)) * (i % 7 == 0 ? 1 : 16);
    sequence += gap;
    written.push_back({static_cast<uint8_t>(i % 8), sequence, bytes, address});
    out.begin(written.back().operation, sequence);
    out.number(bytes);
    out.pointer(address);
    ASSERT_LT(out.at, data.data() + data.size() - kEventBytes);
  }
  Decoder in{data.data(), out.at, 5, 0};
  for (const Written& each : written) {
    uint64_t found;
    ASSERT_EQ(in.begin(&found), each.operation);
    ASSERT_EQ(found, each.sequence);
    ASSERT_EQ(in.number(), each.bytes);
    ASSERT_EQ(in.pointer(), each.address);
  }
  EXPECT_FALSE(in.bad);
  EXPECT_EQ(in.at, in.end);
  in.byte();
  EXPECT_TRUE(in.bad);
}

TEST(BenchmarkParts, AddressesOfATraceAreAMap) {
  bench::Random random(11);
  bench::trace::Addresses addresses;
  std::map<uint64_t, uint32_t> model;
  // Few addresses, in clusters, so that places collide and entries move up; then enough of them to make the table grow.
  for (uint32_t i = 0; i < 300'000; ++i) {
    const uint64_t address = 16 + 16 * uint64_t{random.below(i < 100'000 ? 2500 : 60'000)};
    const auto known = model.find(address);
    ASSERT_EQ(addresses.find(address), known == model.end() ? bench::trace::kNone : known->second);
    if (known == model.end()) {
      addresses.put(address, i);
      model[address] = i;
    } else {
      ASSERT_EQ(addresses.take(address), known->second);
      model.erase(known);
    }
  }
  for (const auto& [address, block] : model) ASSERT_EQ(addresses.take(address), block);
}

TEST(BenchmarkParts, PlacesOfAReplayAreUsedAgain) {
  bench::trace::Places places(200);
  EXPECT_EQ(places.of(0), 0);
  for (uint32_t thread = 1; thread < 100; ++thread) {
    EXPECT_EQ(places.of(thread), 1);
    EXPECT_EQ(places.of(thread), 1);
    EXPECT_TRUE(places.leave(thread));
  }
  EXPECT_EQ(places.count, 2u);
  for (uint32_t thread = 100; thread < 200; ++thread) EXPECT_LT(places.of(thread), bench::trace::kMostThreads);
  EXPECT_EQ(places.count, bench::trace::kMostThreads);
  EXPECT_FALSE(places.leave(0));  // others have it, too
}

}  // namespace
