// Huge pages: what the kernel is told in which mode, which segments are made huge pages, that holes in them wait and that what
// is given back of them is broken out.
#include <functional>
#include <thread>
#include <tuple>

#include "hz3/page_heap.hpp"
#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using os::Advice;
using PageRun = hz3::Run;  // GoogleTest has another one

constexpr bool kPossible = kSegmentBytes % kHugePageBytes == 0;
constexpr unsigned kPages = 16;  // of a run
constexpr unsigned kFirstLook = kSegmentPages / 8;

class Huge : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (!kPossible || kPurgeReservePages < 64 || kSegmentPages != 512)
      GTEST_SKIP() << "no huge pages, or none is kept, in this configuration";
    if (os::page_size() != kPageSize) GTEST_SKIP() << "the kernel's pages are larger";
    while (os::now_ms() < quiet_until) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    tick(test::later());
    api::trim();
    // A tick counts the threads that are at work; without one, what was taken long ago counts as taken a moment ago.
    test::no_ticks();
    PageHeap::set_several_threads(true);
    settings::values[settings::kDecayMs] = static_cast<int>(settings::kNever);
    set_mode(HugePages::Dense);
    real = os::calls;
    told.clear();
    os::calls.advise = [](void* p, size_t bytes, Advice advice) {
      if (advice == Advice::DontNeed) return real.advise(p, bytes, advice);
      told.emplace_back(static_cast<char*>(p), bytes, advice);
      const uint64_t before = os::now_ms();
      if (const auto look = std::exchange(at_advice, nullptr)) look();
      const bool done = !refuses && (!asks_kernel || real.advise(p, bytes, advice));
      if (os::now_ms() - before >= 4) quiet_until = os::now_ms() + 2100;
      return done;
    };
  }
  void TearDown() override {
    if (real.advise != nullptr) os::calls = real;
    refuses = asks_kernel = false;
    at_advice = nullptr;
    while (!runs_.empty()) free_one();
    settings::values[settings::kHugePages] = static_cast<int>(kHugePagesDefault);
    settings::values[settings::kDecayMs] = kPurgeDecayMs;
    PageHeap::set_several_threads(false);
    EXPECT_NOTHING_LOST();
  }
  static void set_mode(HugePages mode) { settings::values[settings::kHugePages] = static_cast<int>(mode); }
  Segment* take(bool dense = true) {
    runs_.push_back(PageHeap::allocate(0, kPages, 1, kPages, dense));
    return runs_.back()->segment;
  }
  Segment* take_pages(unsigned pages, bool dense = true) {
    Segment* s = nullptr;
    for (unsigned taken = 0; taken < pages; taken += kPages) s = take(dense);
    return s;
  }
  void free_one() {
    PageHeap::free(runs_.back(), runs_.back()->pages);
    runs_.pop_back();
  }
  // Segments in use as a whole, so many that a 64th of them is a segment, and the program is seen to grow.
  void grow() {
    for (;;) {
      const Segment* s = take();
      if (s->free_pages == 0 && PageHeap::taken_pages(os::now_ms()) >= 2 * kSegmentPages &&
          PageHeap::held_pages() / 64 >= kSegmentPages)
        break;
    }
    told.clear();
  }
  // A segment that has become a huge page, with an eighth in use.
  Segment* huge_segment() {
    grow();
    Segment* s = take_pages(kFirstLook);
    EXPECT_EQ(told.size(), 1u);
    EXPECT_TRUE(s->is_huge());
    return s;
  }
  // The same, in use as a whole.
  Segment* full_huge_segment() {
    Segment* s = huge_segment();
    EXPECT_EQ(take_pages(kSegmentPages - kFirstLook), s);
    EXPECT_EQ(s->free_pages, 0u);
    told.clear();
    settings::values[settings::kDecayMs] = 500;
    return s;
  }
  static bool told_to(Advice advice) {
    return std::any_of(told.begin(), told.end(), [&](const auto& each) { return std::get<2>(each) == advice; });
  }

  static inline os::Calls real{};
  static inline std::vector<std::tuple<char*, size_t, Advice>> told;
  static inline std::function<void()> at_advice;
  static inline bool refuses = false, asks_kernel = false;
  static inline uint64_t quiet_until = 0;  // a call took long, and the next one may be a while off
  std::vector<PageRun*> runs_;
};

TEST_F(Huge, ASegmentBecomesOneWhenAnEighthIsInUse) {
  grow();
  Segment* s = take_pages(kFirstLook - kPages);
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(s->is_huge());
  ASSERT_EQ(take(), s);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0], std::tuple(s->start(), kSegmentBytes, Advice::Collapse));
  EXPECT_TRUE(s->is_huge());
  EXPECT_EQ(s->dirty_pages, kSegmentPages - kFirstLook) << "what is free in it is in memory";
  PageHeap::number(s->heap).check();
  EXPECT_EQ(take_pages(kSegmentPages - kFirstLook), s);
  EXPECT_EQ(s->dirty_pages, 0u);
  EXPECT_EQ(told.size(), 1u) << "once";
}

TEST_F(Huge, WhatIsInItStays) {
  grow();
  asks_kernel = true;
  for (unsigned i = 0; i < kFirstLook / kPages; i++) {
    at_advice = [this] {
      for (size_t k = runs_.size() - 2; k < runs_.size(); k++) memset(runs_[k]->start, 0x5c, kPages * kPageSize);
    };
    take();
    memset(runs_.back()->start, static_cast<int>(i + 1), kPages * kPageSize);
  }
  EXPECT_FALSE(told.empty());
  unsigned as_before = 0, as_meanwhile = 0;
  for (unsigned i = 0; i < kFirstLook / kPages; i++) {
    const char* start = runs_[runs_.size() - kFirstLook / kPages + i]->start;
    as_before += test::all_bytes(start, kPages * kPageSize, i + 1);
    as_meanwhile += test::all_bytes(start, kPages * kPageSize, 0x5c);
  }
  EXPECT_EQ(as_before, 2u);
  EXPECT_EQ(as_meanwhile, 2u);
}

TEST_F(Huge, OneThatIsNotOfDenseRunsIsNot) {
  grow();
  Segment* s = take_pages(kSegmentPages / 2, false);
  EXPECT_EQ(take_pages(kSegmentPages / 2), s);
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(s->is_huge());
}

TEST_F(Huge, WhatWasDenseAndWentDoesNotCount) {
  grow();
  Segment* s = take_pages(kFirstLook - kPages);
  ASSERT_EQ(s->dense_pages, kFirstLook - kPages);
  for (unsigned i = 1; i < kFirstLook / kPages; i++) free_one();
  EXPECT_EQ(s->dense_pages, 0u);
  EXPECT_EQ(take_pages(kFirstLook, false), s);
  EXPECT_TRUE(told.empty());
}

TEST_F(Huge, NoMoreThanHalfOfTheReserveIsInMemoryBeforeItsTime) {
  // Of so many pages in use a 64th is not enough for the least that is worth it; of so many more it is.
  settings::values[settings::kDecayMs] = 500;
  while (PageHeap::reserve_pages() / 2 < kSegmentPages / 8 * 3) {
    ASSERT_TRUE(told.empty());
    take();
  }
  while (PageHeap::reserve_pages() / 2 < kSegmentPages) take();
  grow();
  if (PageHeap::taken_pages(os::now_ms()) < 2 * kSegmentPages) GTEST_SKIP() << "it took longer than a moment";
  const Segment* s = take_pages(kFirstLook);
  EXPECT_TRUE(s->is_huge());
  EXPECT_LE(PageHeap::dirty_pages(), PageHeap::reserve_pages() / 2);
}

TEST_F(Huge, NotInAProgramThatTookLittleOfLate) {
  grow();
  // What was taken within the last two times counts. They pass when someone looks.
  PageHeap::set_several_threads(false);
  PageHeap::taken_pages(os::now_ms() + 1000000);
  const Segment* s = take_pages(kFirstLook);
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(s->is_huge());
}

TEST_F(Huge, NotAboveALimit) {
  grow();
  const int held = static_cast<int>(PageHeap::held_pages() >> (20 - kPageShift));
  for (settings::Setting limit : {settings::kSoftLimitMib, settings::kHardLimitMib}) {
    const int before = settings::values[limit].exchange(held + 1);
    Segment* s = take_pages(kSegmentPages / 4);
    settings::values[limit] = before;
    EXPECT_TRUE(told.empty());
    for (unsigned i = 0; i < kSegmentPages / 4 / kPages; i++) free_one();
    PageHeap::purge_all(test::later(), true);
    EXPECT_EQ(s->heap, 0u);
  }
}

// The kernel is not asked again for a while: a refusal may cost it much, as where it looked for a huge page in vain.
TEST_F(Huge, ARefusalLeavesItAsItWas) {
  grow();
  refuses = true;
  const uint64_t before = os::now_ms();
  Segment* s = take_pages(kSegmentPages);
  const Segment* next = take_pages(kSegmentPages);
  EXPECT_TRUE(told.size() == 1 || os::now_ms() - before >= 900) << told.size();
  EXPECT_FALSE(s->is_huge());
  EXPECT_FALSE(next->is_huge());
  EXPECT_EQ(s->dirty_pages, 0u);
  EXPECT_FALSE(s->collapsing);
  PageHeap::number(s->heap).check();
  refuses = false;
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));  // the pause was doubled if it was over before
  told.clear();
  EXPECT_TRUE(take_pages(kFirstLook)->is_huge());
}

// As where a real-time thread keeps a processor for which the kernel waits.
TEST_F(Huge, OneThatTookLongIsNotFollowedByAnother) {
  grow();
  at_advice = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  const uint64_t before = os::now_ms();
  EXPECT_TRUE(take_pages(kSegmentPages)->is_huge());
  take_pages(kSegmentPages);
  EXPECT_TRUE(told.size() == 1 || os::now_ms() - before >= 900) << told.size();
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  told.clear();
  EXPECT_TRUE(take_pages(kFirstLook)->is_huge());
}

// What was in use and never written to is in memory all the same.
TEST_F(Huge, UnwrittenPagesOfItAreDirtyOnceTheyAreFree) {
  Segment* s = huge_segment();
  const unsigned before = s->dirty_pages;
  PageHeap::free(runs_.back(), 0);
  runs_.pop_back();
  EXPECT_EQ(s->dirty_pages, before + kPages);
  take();
  EXPECT_FALSE(runs_.back()->zero);
}

TEST_F(Huge, APurgeMeanwhileLeavesItAlone) {
  grow();
  Segment* s = take_pages(kFirstLook - 2 * kPages);
  free_one();
  take();
  at_advice = [&] {
    EXPECT_TRUE(s->collapsing);
    free_one();
    PageHeap::purge_all(test::later(), true);
    EXPECT_EQ(s->dirty_pages, kPages);
  };
  take_pages(2 * kPages);
  EXPECT_TRUE(s->is_huge());
  EXPECT_FALSE(s->collapsing);
  EXPECT_EQ(s->dirty_pages, s->free_pages);
  PageHeap::number(s->heap).check();
}

TEST_F(Huge, HolesInItWaitFourTimesAsLong) {
  Segment* s = full_huge_segment();
  PageHeap::set_now(os::now_ms());
  free_one();
  const uint64_t now = os::now_ms();
  s->swept_ms = now;
  for (uint64_t ms = 250; ms < 1900; ms += 250) {
    s->dirty_since_ms = now;
    PageHeap::purge_all(now + ms, false);
    ASSERT_EQ(s->dirty_pages, kPages) << ms;
  }
  EXPECT_TRUE(s->is_huge());
  EXPECT_TRUE(told.empty());
  const PageRun* const last = runs_.back();
  PageHeap::purge_all(now + 2100, false);
  PageHeap::purge_all(now + 2600, false);
  EXPECT_EQ(s->dirty_pages, 0u);
  EXPECT_FALSE(s->is_huge()) << "it is small pages now";
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0], std::tuple(last->start + kPages * kPageSize, kPageSize, Advice::Free)) << "and the kernel knows";
}

TEST_F(Huge, OneThatIsMostlyFreeIsPurgedAsAnyOther) {
  Segment* s = full_huge_segment();
  PageHeap::set_now(os::now_ms());
  while (s->free_pages <= kSegmentPages / 4) free_one();
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + 700, false);
  EXPECT_EQ(s->dirty_pages, 0u);
}

TEST_F(Huge, AsAWholeItGoesWithoutBeingBrokenUp) {
  Segment* s = full_huge_segment();
  while (!runs_.empty() && runs_.back()->segment == s) free_one();
  EXPECT_EQ(s->free_pages, kSegmentPages);
  PageHeap::purge_all(test::later(), true);
  EXPECT_FALSE(told_to(Advice::Free));
}

// Pages of runs in use: where a run has not half of its pages to give, its huge page stays.
TEST_F(Huge, ARunBreaksItUpForHalfOfItsPages) {
  const Slot slot = slot_of(8192);
  const unsigned blocks_in_run = class_info(slot).run.blocks;
  if (blocks_in_run < 8 || class_info(slot).run.pages != 2 * blocks_in_run) GTEST_SKIP() << "runs have another shape";
  test::Blocks others;
  const test::Blocks blocks = test::whole_run(0, slot, others);
  const PageRun* const run = run_of(blocks[0]);
  for (void* b : blocks) memset(b, 1, 8192);
  run->segment->set_huge(true);
  settings::values[settings::kDecayMs] = 500;
  const auto resident = [&] { return os::resident_pages(run->start, size_t{run->pages} << kPageShift); };
  const auto cool = [] {
    Central::Work work{UINT32_MAX, UINT32_MAX, UINT32_MAX};
    Central::of(0).cool(0, work);
  };
  const size_t less = blocks.size() / 2 - 1;
  test::give_back({blocks.begin(), blocks.begin() + static_cast<ptrdiff_t>(less)});
  cool();
  EXPECT_EQ(resident(), run->pages);
  EXPECT_TRUE(run->segment->is_huge());
  EXPECT_TRUE(told.empty());
  test::give_back({blocks.begin() + static_cast<ptrdiff_t>(less), blocks.end() - 1});
  cool();
  EXPECT_EQ(resident(), 2u);
  EXPECT_FALSE(run->segment->is_huge());
  EXPECT_TRUE(told_to(Advice::Free));
  test::give_back({blocks.back()});
  test::give_back(others);
}

TEST_F(Huge, InOtherModesNothingIsCollapsed) {
  for (HugePages mode : {HugePages::System, HugePages::Never, HugePages::Always}) {
    set_mode(mode);
    grow();
    take_pages(2 * kSegmentPages);
    EXPECT_FALSE(told_to(Advice::Collapse));
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

// The last one: to fork takes long, after which the kernel is not asked for a while.
TEST_F(Huge, AChildOfForkForgetsThatAnotherThreadWasAtIt) {
  grow();
  Segment* s = take_pages(kFirstLook - kPages);
  at_advice = [&] {
    std::thread([&] {
      EXPECT_TRUE(test::in_child([&] { EXPECT_FALSE(s->collapsing); }));
      EXPECT_TRUE(s->collapsing);
    }).join();
  };
  take();
  EXPECT_TRUE(s->is_huge());
}

}  // namespace
}  // namespace hz3
