// The limits that can be set on what the heap holds: above the soft one it keeps nothing that is free, the hard one it never
// exceeds.
#include <cerrno>

#include "hz3/bins.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kMiBPages = kMiB >> kPageShift;

class MemoryLimits : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    api::trim();
    ASSERT_EQ(PageHeap::held_pages(), 0u);
  }
  void TearDown() override {
    set(settings::kSoftLimitMib, 0);
    set(settings::kHardLimitMib, 0);
    for (void* b : blocks) free_hot(b);
    EXPECT_NOTHING_LOST();
  }
  static void set(settings::Setting limit, int mib) { settings::values[limit] = mib; }
  void take(size_t bytes, size_t total) {
    for (size_t held = 0; held < total; held += bytes) {
      blocks.push_back(malloc_hot(bytes));
      ASSERT_NE(blocks.back(), nullptr);
      memset(blocks.back(), 1, bytes);
    }
  }
  void give_all() {
    for (void* b : blocks) free_hot(b);
    blocks.clear();
  }
  ThreadCache* tc = nullptr;
  Blocks blocks;
};

TEST_F(MemoryLimits, AboveTheHardOneCallsFailAndBelowItTheySucceedAgain) {
  set(settings::kHardLimitMib, 40);
  for (size_t bytes : {100, 5000, 100000, 400000, 900000, 3000000, 20000000}) {
    for (int round = 0; round < 2; round++) {
      errno = 0;
      while (void* b = malloc_hot(bytes)) {
        blocks.push_back(b);
        ASSERT_EQ(errno, 0);
        ASSERT_LE(PageHeap::held_pages(), 40 * kMiBPages);
        ASSERT_LT(blocks.size(), 1000000u);
      }
      EXPECT_EQ(errno, ENOMEM);
      EXPECT_GT(blocks.size() * bytes, 40 * kMiB * 3 / 4 - bytes) << bytes << ": most of it can be used";
      for (size_t other : {size_t{64}, size_t{30000}, size_t{1500000}, 39 * kMiB})
        if (void* b = malloc_hot(other)) blocks.push_back(b);  // fits somewhere, or not
      EXPECT_EQ(malloc_hot(41 * kMiB), nullptr);
      EXPECT_EQ(api::calloc(41, kMiB), nullptr);
      EXPECT_EQ(api::memalign(4096, 41 * kMiB), nullptr);
      EXPECT_LE(PageHeap::held_pages(), 40 * kMiBPages);
      give_all();
    }
  }
  take(30 * kMiB, 30 * kMiB);  // what is cached or free makes room
}

TEST_F(MemoryLimits, ABlockThatCannotGrowStaysAsItIs) {
  set(settings::kHardLimitMib, 40);
  take(5 * kMiB, 5 * kMiB);
  take(500000, 500000);
  for (void* b : blocks) {
    const size_t usable = api::usable_size(b);
    errno = 0;
    EXPECT_EQ(api::realloc(b, 41 * kMiB), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(api::usable_size(b), usable);
    EXPECT_TRUE(test::all_bytes(b, usable < 500000 ? usable : 500000, 1));
  }
}

TEST_F(MemoryLimits, ARunIsExtendedUpToTheHardOneAndNotBeyond) {
  constexpr unsigned kMost = static_cast<unsigned>(kMiBPages), kPages = kMost / 2;
  hz3::Run* run = PageHeap::allocate(0, kPages, 1, kPages);
  ASSERT_NE(run, nullptr);
  Segment* segment = run->segment;
  set(settings::kHardLimitMib, 1);
  bool zero = false;
  const size_t free_pages = segment->free_pages;
  EXPECT_FALSE(PageHeap::extend(run, kMost + 1, &zero));
  EXPECT_EQ(run->pages, kPages);
  EXPECT_EQ(segment->free_pages, free_pages) << "the neighbours are free as before";
  EXPECT_EQ(PageHeap::held_pages(), kPages);
  EXPECT_TRUE(PageHeap::extend(run, kMost, &zero));
  EXPECT_EQ(run->pages, kMost);
  EXPECT_EQ(PageHeap::held_pages(), kMost);
  PageHeap::free(run, 0);
}

// A span that moves is not held twice.
TEST_F(MemoryLimits, ALargeBlockGrowsUpToTheLimit) {
  set(settings::kHardLimitMib, 40);
  take(10 * kMiB, 10 * kMiB);
  void* in_the_way = malloc_hot(3 * kMiB);
  ASSERT_NE(in_the_way, nullptr);
  void* grown = api::realloc(blocks[0], 36 * kMiB);
  ASSERT_NE(grown, nullptr);
  blocks[0] = grown;
  EXPECT_TRUE(test::all_bytes(grown, 10 * kMiB, 1));
  free_hot(in_the_way);
}

TEST_F(MemoryLimits, WhatIsHeldIsCountedThroughAnything) {
  test::Random random(11);
  for (int step = 0; step < 3000; step++) {
    const size_t bytes = 1 + random.below(random.below(4) == 0 ? 12 * kMiB : 400000);
    if (blocks.size() < 12) {
      blocks.push_back(random.below(5) == 0 ? api::memalign(1 << (4 + random.below(19)), bytes) : malloc_hot(bytes));
      ASSERT_NE(blocks.back(), nullptr);
      continue;
    }
    void*& b = blocks[random.below(blocks.size())];
    if (random.below(2) == 0) {
      b = api::realloc(b, bytes);
    } else {
      free_hot(b);
      b = blocks.back();
      blocks.pop_back();
    }
    size_t in_use = 0;
    for (void* each : blocks) in_use += api::usable_size(each);
    ASSERT_GE(PageHeap::held_pages() << kPageShift, in_use);
  }
  give_all();
  api::trim();
  EXPECT_EQ(PageHeap::held_pages(), 0u);
}

TEST_F(MemoryLimits, AboveTheSoftOneNothingFreeIsKept) {
  if constexpr (kPurgeReservePages < 64 * kMiBPages) GTEST_SKIP() << "little is kept in this configuration";
  take(3000, 8 * kMiB);
  take(400000, 40 * kMiB);
  take(3 * kMiB, 12 * kMiB);
  Blocks kept(blocks.begin(), blocks.begin() + static_cast<long>(8 * kMiB / 3000));
  const auto free_the_others = [&] {
    for (size_t i = kept.size(); i < blocks.size(); i++) free_hot(blocks[i]);
    blocks.resize(kept.size());
    slow_call_event(tc);
  };
  set(settings::kSoftLimitMib, 1000);
  free_the_others();
  EXPECT_GT(PageHeap::dirty_pages(), 10 * kMiBPages) << "below it all is as without";
  EXPECT_GT(large::cached_span_bytes(), 0u);

  set(settings::kSoftLimitMib, 2);
  EXPECT_TRUE(PageHeap::above_soft_limit());
  slow_call_event(tc);
  EXPECT_LE(PageHeap::dirty_pages(), 64u);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  take(400000, 40 * kMiB);
  take(3 * kMiB, 12 * kMiB);
  free_the_others();
  EXPECT_LE(PageHeap::dirty_pages(), 64u);
  EXPECT_EQ(large::cached_span_bytes(), 0u);

  // So much may be free as there is room below it.
  set(settings::kSoftLimitMib, 20);
  take(400000, 40 * kMiB);
  free_the_others();
  EXPECT_LE(PageHeap::held_pages(), 20 * kMiBPages + 64);
}

}  // namespace
}  // namespace hz3
