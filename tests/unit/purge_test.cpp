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
    anchor_ = take(1);
  }
  void TearDown() override {
    if (anchor_ != nullptr) PageHeap::free(anchor_, 1);
    EXPECT_NOTHING_LOST();
  }
  static hz3::Run* take(unsigned pages) { return PageHeap::allocate(0, pages, 1, pages); }
  static hz3::Run* written(unsigned pages) {
    hz3::Run* run = take(pages);
    memset(run->start, 1, size_t{pages} << kPageShift);
    return run;
  }
  hz3::Run* anchor_ = nullptr;
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
  while (PageHeap::reserve_pages() > 64) {  // what earlier tests used is forgotten, a tick at a time
    const size_t before = PageHeap::reserve_pages();
    PageHeap::relax_reserve();
    ASSERT_LE(PageHeap::reserve_pages(), before);
  }
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
