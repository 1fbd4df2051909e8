// Huge pages: what the kernel is told in which mode, which segments are made huge pages, and that holes in them wait.
#include <tuple>

#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

using os::Advice;

constexpr bool kPossible = kSegmentBytes % kHugePageBytes == 0;

class Huge : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (!kPossible || kPurgeReservePages < 64)
      GTEST_SKIP() << "no huge pages, or none is kept, in this configuration";
    tick(test::later());
    api::trim();
    settings::values[settings::kDecayMs] = 500;
    real = os::calls;
    told.clear();
    os::calls.advise = [](void* p, size_t bytes, Advice advice) {
      if (advice == Advice::DontNeed) return real.advise(p, bytes, advice);
      told.emplace_back(static_cast<char*>(p), bytes, advice);
      return !refuses;
    };
  }
  void TearDown() override {
    if (real.advise != nullptr) os::calls = real;
    refuses = false;
    for (hz3::Run* run : runs_) PageHeap::free(run, run->pages);
    settings::values[settings::kHugePages] = static_cast<int>(kHugePagesDefault);
    settings::values[settings::kDecayMs] = kPurgeDecayMs;
    EXPECT_NOTHING_LOST();
  }
  static void set_mode(HugePages mode) { settings::values[settings::kHugePages] = static_cast<int>(mode); }
  static hz3::Run* take(unsigned pages) { return PageHeap::allocate(0, pages, 1, pages); }
  // A segment in runs of 16 pages, all of it in use.
  Segment* full_segment(bool written) {
    for (unsigned i = 0; i < kSegmentPages / 16; i++) {
      runs_.push_back(take(16));
      if (written) memset(runs_.back()->start, 1, 16 * kPageSize);
    }
    Segment* s = runs_.front()->segment;
    EXPECT_EQ(s->free_pages, 0u);
    return s;
  }
  void free_one() {
    PageHeap::free(runs_.back(), 16);
    runs_.pop_back();
  }
  void collapse_at_two_ticks(Segment* s) {
    PageHeap::collapse_dense();
    EXPECT_TRUE(told.empty()) << "it is full since this tick";
    PageHeap::collapse_dense();
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0], std::tuple(s->start(), kSegmentBytes, Advice::Collapse));
    EXPECT_TRUE(s->huge);
    PageHeap::collapse_dense();
    EXPECT_EQ(told.size(), 1u) << "once";
  }

  static inline os::Calls real{};
  static inline std::vector<std::tuple<char*, size_t, Advice>> told;
  static inline bool refuses = false;
  std::vector<hz3::Run*> runs_;
};

TEST_F(Huge, ADenseSegmentIsMadeOneAtTheSecondTick) {
  set_mode(HugePages::Dense);
  collapse_at_two_ticks(full_segment(true));
}

TEST_F(Huge, OneThatIsNotInMemoryIsNot) {
  set_mode(HugePages::Dense);
  Segment* s = full_segment(false);
  for (int i = 0; i < 4; i++) PageHeap::collapse_dense();
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(s->huge);
}

TEST_F(Huge, OneThatHasHolesByThenIsNot) {
  set_mode(HugePages::Dense);
  full_segment(true);
  PageHeap::collapse_dense();
  for (int i = 0; i < 3; i++) free_one();
  PageHeap::collapse_dense();
  EXPECT_TRUE(told.empty());
}

TEST_F(Huge, ARefusalLeavesItAsItWas) {
  set_mode(HugePages::Dense);
  Segment* s = full_segment(true);
  refuses = true;
  for (int i = 0; i < 4; i++) PageHeap::collapse_dense();
  EXPECT_EQ(told.size(), 1u);
  EXPECT_FALSE(s->huge);
}

// The kernel fills the gaps: what is free is in memory, and has to be given back some day.
TEST_F(Huge, WhatIsFreeInItIsDirtyThen) {
  set_mode(HugePages::Dense);
  Segment* s = full_segment(true);
  PageHeap::collapse_dense();
  free_one();
  s->dirtied_ms = 0;
  PageHeap::purge_all(test::later(), true);
  ASSERT_EQ(s->dirty_pages, 0u);
  told.clear();
  // Purged as a whole it has 16 clean pages, and is dense still.
  PageHeap::collapse_dense();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(s->dirty_pages, 16u);
  PageHeap::number(s->heap).check();
}

TEST_F(Huge, HolesInItWaitFourTimesAsLong) {
  set_mode(HugePages::Dense);
  Segment* s = full_segment(true);
  collapse_at_two_ticks(s);
  PageHeap::set_now(os::now_ms());
  free_one();
  const uint64_t now = os::now_ms();
  for (uint64_t ms = 250; ms < 1900; ms += 250) {
    s->dirty_since_ms = now;
    PageHeap::purge_all(now + ms, false);
    ASSERT_EQ(s->dirty_pages, 16u) << ms;
  }
  EXPECT_TRUE(s->huge);
  PageHeap::purge_all(now + 2100, false);
  PageHeap::purge_all(now + 2600, false);
  EXPECT_EQ(s->dirty_pages, 0u);
  EXPECT_FALSE(s->huge) << "it is small pages now";
}

TEST_F(Huge, OneThatIsMostlyFreeIsPurgedAsAnyOther) {
  set_mode(HugePages::Dense);
  Segment* s = full_segment(true);
  collapse_at_two_ticks(s);
  PageHeap::set_now(os::now_ms());
  while (s->free_pages <= kSegmentPages / 4) free_one();
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + 700, false);
  EXPECT_EQ(s->dirty_pages, 0u);
}

TEST_F(Huge, InOtherModesNothingIsCollapsed) {
  for (HugePages mode : {HugePages::System, HugePages::Never, HugePages::Always}) {
    set_mode(mode);
    full_segment(true);
    for (int i = 0; i < 3; i++) PageHeap::collapse_dense();
    for (const auto& [p, bytes, advice] : told) EXPECT_NE(advice, Advice::Collapse);
  }
}

TEST_F(Huge, TheKernelIsToldOfMemoryThatBecomesUsable) {
  for (const auto& [mode, advice] : {std::pair{HugePages::Always, Advice::HugePage}, {HugePages::Never, Advice::NoHugePage}}) {
    set_mode(mode);
    told.clear();
    // More than was ever in use, and more than is usable ahead of need.
    const uint32_t count = static_cast<uint32_t>((hot_map.pages << kPageShift >> kSegmentShift) + 64);
    Segment* s = arenas.allocate(count);
    ASSERT_NE(s, nullptr);
    ASSERT_FALSE(told.empty());
    size_t bytes = 0;
    for (const auto& [p, part, what] : told) {
      EXPECT_EQ(what, advice);
      bytes += part;
    }
    EXPECT_GE(bytes, 32 * kSegmentBytes);
    arenas.release(s, count);
  }
  set_mode(HugePages::System);
  told.clear();
  Segment* s = arenas.allocate(1);
  EXPECT_TRUE(told.empty());
  arenas.release(s, 1);
}

}  // namespace
}  // namespace hz3
