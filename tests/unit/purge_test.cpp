// Pages on their way back to the kernel, driven with invented times: aging, the reserve, refusals, empty segments.
#include "hz3/page_heap.hpp"

#include <unistd.h>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

using test::Call;
using test::Kernel;

constexpr unsigned kFew = 16;  // pages, within the least reserve

class Purge : public testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kPurgeDecayMs < 100 || kPurgeReservePages < 64) GTEST_SKIP() << "purged at once in this configuration";
    PageHeap::set_now(os::now_ms());
    PageHeap::set_several_threads(false);
    anchor_ = take(1);
  }
  void TearDown() override {
    PageHeap::set_several_threads(false);
    if (anchor_ != nullptr) PageHeap::free(anchor_, 1);
    EXPECT_NOTHING_LOST();
  }
  static hz3::Run* take(unsigned pages) { return PageHeap::allocate(0, pages, 1, pages); }
  static hz3::Run* written(unsigned pages) {
    hz3::Run* run = take(pages);
    memset(run->start, 1, size_t{pages} << kPageShift);
    return run;
  }
  // What earlier tests used is forgotten, a tick at a time.
  static void relax() {
    while (PageHeap::reserve_pages() > 64) {
      const size_t before = PageHeap::reserve_pages();
      PageHeap::relax_reserve();
      ASSERT_LE(PageHeap::reserve_pages(), before);
    }
  }
  hz3::Run* anchor_ = nullptr;
};

// A segment with dirty pages above the reserve, in short stretches and in long ones: the purge comes in the time of a swing.
class Stretches : public Purge {
 protected:
  static constexpr unsigned kShort = 7, kShorts = 18, kLong = 8, kLongs = 3;

  void SetUp() override {
    Purge::SetUp();
    if (anchor_ == nullptr) return;  // skipped
    relax();
    // Between any two of them a page is in use.
    for (unsigned i = 0; i < kShorts + kLongs; i++) {
      freed_.push_back(written(i < kShorts ? kShort : kLong));
      held_.push_back(written(1));
    }
    segment_ = anchor_->segment;
    now_ = os::now_ms();
    PageHeap::set_now(now_);
    segment_->swept_ms = now_;
    for (hz3::Run* run : freed_) {
      ASSERT_EQ(run->segment, segment_);
      PageHeap::free(run, run->pages);
    }
    ASSERT_EQ(PageHeap::dirty_pages(), kShortPages + kLongPages);
    ASSERT_GT(kShortPages, PageHeap::reserve_pages()) << "they alone exceed the reserve";
  }
  void TearDown() override {
    for (hz3::Run* run : held_) PageHeap::free(run, 1);
    Purge::TearDown();
  }
  // A purge so long after the start, of a segment into which pages were freed until then.
  void purge_at(uint64_t ms) {
    segment_->dirtied_ms = now_ + ms;
    PageHeap::purge_all(now_ + ms, false);
  }

  static constexpr size_t kShortPages = kShort * kShorts, kLongPages = kLong * kLongs;
  std::vector<hz3::Run*> freed_, held_;
  Segment* segment_ = nullptr;
  uint64_t now_ = 0;
};

TEST_F(Purge, PagesAgeAndThenGo) {
  hz3::Run* run = written(kFew);
  char* start = run->start;
  PageHeap::free(run, kFew);
  EXPECT_EQ(PageHeap::dirty_pages(), kFew);
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + kPurgeDecayMs / 4, false);
  EXPECT_EQ(PageHeap::dirty_pages(), kFew) << "too early to look";
  PageHeap::purge_all(now + kPurgeDecayMs * 3 / 4, false);
  EXPECT_EQ(PageHeap::dirty_pages(), kFew) << "marked as aging";
  EXPECT_TRUE(test::all_bytes(start, kPageSize, 1));
  PageHeap::purge_all(now + 3 * kPurgeDecayMs, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  if constexpr (kPurgeAdvice == PurgeAdvice::DontNeed) {
    EXPECT_TRUE(test::all_bytes(start, kFew * kPageSize, 0));
    hz3::Run* again = take(kFew);
    EXPECT_TRUE(again->zero) << "purged pages are known to be zero";
    PageHeap::free(again, 0);
  }
}

// Where nothing was freed for the decay time no page is younger than it.
TEST_F(Purge, AQuietSegmentIsPurgedOnTheFirstVisit) {
  hz3::Run* run = written(kFew);
  PageHeap::free(run, kFew);
  PageHeap::purge_all(os::now_ms() + kPurgeDecayMs * 5 / 4, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
}

TEST_F(Purge, PagesFreedMeanwhileStay) {
  hz3::Run* early = written(kFew);
  hz3::Run* late = written(kFew);
  PageHeap::free(early, kFew);
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + kPurgeDecayMs * 3 / 4, false);
  PageHeap::set_now(now + kPurgeDecayMs * 3 / 4);
  PageHeap::free(late, kFew);
  PageHeap::purge_all(now + kPurgeDecayMs * 3 / 2, false);
  EXPECT_EQ(PageHeap::dirty_pages(), kFew) << "those freed later have only begun to age";
  PageHeap::purge_all(now + 5 * kPurgeDecayMs, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
}

TEST_F(Purge, PagesUsedAgainAreNotPurged) {
  hz3::Run* run = written(kFew);
  PageHeap::free(run, kFew);
  PageHeap::purge_all(os::now_ms() + kPurgeDecayMs, false);
  hz3::Run* again = take(kFew);
  memset(again->start, 2, kFew * kPageSize);
  PageHeap::purge_all(os::now_ms() + 9 * kPurgeDecayMs, true);
  EXPECT_TRUE(test::all_bytes(again->start, kFew * kPageSize, 2));
  PageHeap::free(again, kFew);
}

TEST_F(Purge, PagesNeverWrittenNeedNoPurge) {
  hz3::Run* run = take(100);
  PageHeap::free(run, 3);
  EXPECT_EQ(PageHeap::dirty_pages(), 3u);
}

TEST_F(Purge, WhatExceedsTheReserveAgesSoon) {
  relax();
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 8; i++) runs.push_back(written(kSegmentPages / 4));
  for (hz3::Run* run : runs) PageHeap::free(run, run->pages);
  EXPECT_EQ(PageHeap::dirty_pages(), 8 * kSegmentPages / 4);
  ASSERT_GT(PageHeap::dirty_pages(), PageHeap::reserve_pages());
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + kSwingMs, false);
  PageHeap::purge_all(now + 2 * kSwingMs, false);
  EXPECT_LE(PageHeap::dirty_pages(), PageHeap::reserve_pages() + kSegmentPages);
}

TEST_F(Stretches, LongOnesGoInTheTimeOfASwingAndShortOnesInTheDecayTime) {
  Kernel kernel;
  purge_at(kSwingMs * 3 / 4);
  EXPECT_EQ(PageHeap::dirty_pages(), kShortPages + kLongPages) << "marked as aging";
  purge_at(kSwingMs * 3 / 2);
  EXPECT_EQ(PageHeap::dirty_pages(), kShortPages);
  EXPECT_EQ(kernel.calls(Call::Advise), kLongs);
  for (uint64_t ms = 2 * kSwingMs; ms < kPurgeDecayMs; ms += kSwingMs / 2) {
    purge_at(ms);
    ASSERT_EQ(PageHeap::dirty_pages(), kShortPages) << "they wait: " << ms;
  }
  EXPECT_EQ(kernel.calls(Call::Advise), kLongs);
  purge_at(kPurgeDecayMs);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  EXPECT_EQ(kernel.calls(Call::Advise), kLongs + kShorts);
}

// Where nothing was freed of late there is no more to gather.
TEST_F(Stretches, ShortOnesOfAQuietSegmentDoNotWait) {
  PageHeap::purge_all(now_ + kSwingMs * 3 / 2, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
}

TEST_F(Stretches, ATrimTakesShortOnesToo) {
  PageHeap::purge_all(now_, true);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
}

TEST_F(Stretches, NeighboursThatWereFreedApartAreOneStretch) {
  for (unsigned i = 0; i < 2; i++) {  // between the first two, and between the second and the third
    PageHeap::free(held_.front(), 1);
    held_.erase(held_.begin());
  }
  purge_at(kSwingMs * 3 / 4);
  purge_at(kSwingMs * 3 / 2);
  EXPECT_EQ(PageHeap::dirty_pages(), kShortPages - 3 * kShort);
}

// Each purge of theirs interrupts the others.
TEST_F(Stretches, WaitForTheWholeDecayTimeWhileSeveralThreadsAreAtWork) {
  EXPECT_EQ(PageHeap::swing_ms(), kSwingMs);
  PageHeap::set_several_threads(true);
  EXPECT_EQ(PageHeap::swing_ms(), kPurgeDecayMs);
  purge_at(kPurgeDecayMs / 4);  // too early to look: the next one is the first
  purge_at(kPurgeDecayMs * 3 / 4);
  EXPECT_EQ(PageHeap::dirty_pages(), kShortPages + kLongPages);
  purge_at(kPurgeDecayMs * 3 / 2);
  EXPECT_LE(PageHeap::dirty_pages(), kShortPages);
  PageHeap::set_several_threads(false);
  EXPECT_EQ(PageHeap::swing_ms(), kSwingMs);
}

TEST_F(Purge, WhatExceedsTheMostGoesOnTheSpot) {
  // Freed without having been written: the heap is told that they are in memory, which is all that counts here.
  const size_t count = kPurgeReservePages / (kSegmentPages / 2) + 20;
  std::vector<hz3::Run*> runs;
  for (size_t i = 0; i < count; i++) runs.push_back(take(kSegmentPages / 2));
  EXPECT_GE(PageHeap::most_dirty_pages(os::now_ms()), kPurgeReservePages)
      << "those that it took a moment ago, it may want again";
  usleep(3000 * kSwingMs);
  EXPECT_EQ(PageHeap::most_dirty_pages(os::now_ms()), kPurgeReservePages);
  for (hz3::Run* run : runs) {
    PageHeap::free(run, run->pages);
    ASSERT_LE(PageHeap::dirty_pages(), kPurgeReservePages + kSegmentPages);
  }
}

TEST_F(Purge, EmptySegmentsReturnToTheArena) {
  const size_t before = arenas.bytes_in_use();
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 8; i++) runs.push_back(written(kSegmentPages / 2));
  EXPECT_GT(arenas.bytes_in_use(), before);
  for (hz3::Run* run : runs) PageHeap::free(run, run->pages);
  const uint64_t now = os::now_ms();
  for (unsigned i = 1; i < 5; i++) PageHeap::purge_all(now + i * 2 * kPurgeDecayMs, false);
  EXPECT_LE(arenas.bytes_in_use(), before);
}

TEST_F(Purge, ARefusedAdviceLeavesThePagesNotKnownToBeZero) {
  hz3::Run* run = written(kFew);
  char* start = run->start;
  PageHeap::free(run, kFew);
  {
    Kernel kernel;
    kernel.refuse(Call::Advise);
    PageHeap::purge_all(os::now_ms(), true);
    EXPECT_GT(kernel.refused(Call::Advise), 0u);
  }
  EXPECT_TRUE(test::all_bytes(start, kFew * kPageSize, 1));
  hz3::Run* again = nullptr;
  std::vector<hz3::Run*> others;
  for (int i = 0; i < 2000 && again == nullptr; i++) {
    hz3::Run* r = take(kFew);
    ASSERT_NE(r, nullptr);
    (r->start == start ? again : others.emplace_back(r)) = r;
  }
  ASSERT_NE(again, nullptr);
  EXPECT_FALSE(again->zero);
  PageHeap::free(again, kFew);
  for (hz3::Run* r : others) PageHeap::free(r, 0);
}

TEST_F(Purge, TheReserveFadesToWhatIsInUse) {
  hz3::Run* big = take(kSegmentPages / 2);
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 20; i++) runs.push_back(take(kSegmentPages / 2));
  const size_t high = PageHeap::reserve_pages();
  for (hz3::Run* run : runs) PageHeap::free(run, 0);
  EXPECT_EQ(PageHeap::reserve_pages(), high);
  for (int i = 0; i < 100; i++) PageHeap::relax_reserve();
  EXPECT_LT(PageHeap::reserve_pages(), high);
  PageHeap::free(big, 0);
}

}  // namespace
}  // namespace hz3
