// The page heap: runs do not overlap, extents join, what is said to be zero is zero, failures lose nothing.
#include "hz3/page_heap.hpp"

#include <map>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

using test::Call;
using test::Kernel;

hz3::Run* take(unsigned pages, unsigned alignment = 1, unsigned self = 0) {
  return PageHeap::allocate(self, pages, alignment, pages);
}
void give(hz3::Run* run) { PageHeap::free(run, run->pages); }
size_t bytes(const hz3::Run* run) { return size_t{run->pages} << kPageShift; }

class PageHeapTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

TEST_F(PageHeapTest, RandomRunsNeverOverlapAndKeepTheirContent) {
  test::Random random(3);
  std::map<char*, hz3::Run*> live;
  size_t zero_runs = 0;
  for (int step = 0; step < 3000; step++) {
    if (live.size() < 40 || (live.size() < 200 && random.below(2) == 0)) {
      const unsigned pages = 1 + static_cast<unsigned>(random.below(random.below(8) == 0 ? kSegmentPages / 4 : 20));
      const unsigned alignment = 1u << random.below(4);
      hz3::Run* run = PageHeap::allocate(static_cast<unsigned>(random.below(kShards)), pages, alignment,
                                         1 + static_cast<unsigned>(random.below(pages)));
      ASSERT_NE(run, nullptr);
      ASSERT_EQ(run->pages, pages);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(run->start) % (alignment * kPageSize), 0u);
      const auto after = live.lower_bound(run->start);
      ASSERT_TRUE(after == live.end() || run->start + bytes(run) <= after->first);
      ASSERT_TRUE(after == live.begin() || std::prev(after)->first + bytes(std::prev(after)->second) <= run->start);
      if (run->zero) {
        zero_runs++;
        ASSERT_TRUE(test::all_bytes(run->start, bytes(run), 0)) << "said to be zero";
      }
      memset(run->start, static_cast<int>(step | 1), bytes(run));
      live.emplace(run->start, run);
      run->list = static_cast<uint8_t>(step | 1);  // the pattern; the field is the owner's
    } else {
      auto it = live.begin();
      std::advance(it, static_cast<long>(random.below(live.size())));
      hz3::Run* run = it->second;
      ASSERT_TRUE(test::all_bytes(run->start, bytes(run), run->list));
      const unsigned change = 1 + static_cast<unsigned>(random.below(8));
      bool zero = false;
      if (random.below(4) == 0 && PageHeap::extend(run, run->pages + change, &zero)) {
        char* more = run->start + bytes(run) - (size_t{change} << kPageShift);
        if (zero) {
          ASSERT_TRUE(test::all_bytes(more, size_t{change} << kPageShift, 0));
        }
        memset(more, run->list, size_t{change} << kPageShift);
      } else if (run->pages > change && random.below(3) == 0) {
        PageHeap::shrink(run, run->pages - change);
      } else {
        give(run);
        live.erase(it);
      }
    }
    if (step % 100 == 0) PageHeap::purge_all(os::now_ms(), random.below(2) == 0);
  }
  EXPECT_GT(zero_runs, 0u);
  for (auto& [start, run] : live) give(run);
}

TEST_F(PageHeapTest, FreedNeighboursJoin) {
  hz3::Run* run[4];
  for (hz3::Run*& r : run) r = take(kSegmentPages / 4);
  Segment* s = run[0]->segment;
  for (hz3::Run* r : run) ASSERT_EQ(r->segment, s);
  EXPECT_EQ(s->free_pages, 0);
  EXPECT_EQ(s->longest, 0);
  give(run[1]);
  EXPECT_EQ(s->longest, kSegmentPages / 4);
  give(run[3]);
  EXPECT_EQ(s->longest, kSegmentPages / 4);
  give(run[2]);
  EXPECT_EQ(s->longest, kSegmentPages / 4 * 3);
  hz3::Run* big = take(kSegmentPages / 2);
  EXPECT_EQ(big->segment, s);
  give(big);
  give(run[0]);
}

TEST_F(PageHeapTest, ExtendStopsAtNeighboursAndAtTheEnd) {
  hz3::Run* a = take(4);
  hz3::Run* b = take(4);
  ASSERT_EQ(b->start, a->start + 4 * kPageSize);
  bool zero = false;
  EXPECT_FALSE(PageHeap::extend(a, 5, &zero));
  give(b);
  EXPECT_TRUE(PageHeap::extend(a, 8, &zero));
  EXPECT_EQ(a->pages, 8u);
  EXPECT_FALSE(PageHeap::extend(a, kSegmentPages + 1, &zero));
  PageHeap::shrink(a, 1);
  EXPECT_EQ(a->pages, 1u);
  give(a);
}

TEST_F(PageHeapTest, PagesInMemoryAreUsedAgainFirst) {
  if constexpr (kPurgeReservePages < 64) GTEST_SKIP() << "nothing free stays in memory";
  hz3::Run* low = take(4);
  hz3::Run* used = take(4);
  hz3::Run* high = take(4);
  char* where = used->start;
  memset(where, 1, bytes(used));
  give(used);
  hz3::Run* again = take(4);
  EXPECT_EQ(again->start, where);
  EXPECT_FALSE(again->zero);
  for (hz3::Run* r : {low, again, high}) give(r);
}

TEST_F(PageHeapTest, ManyFreePagesOfAnotherShardAreTakenBeforeANewSegment) {
  if constexpr (kShards < 2) GTEST_SKIP();
  hz3::Run* mine = take(1, 1, 0);
  const size_t in_use = arenas.bytes_in_use();
  hz3::Run* other = take(kSegmentPages / 4, 1, 1);
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
  EXPECT_EQ(other->segment, mine->segment);
  give(mine);
  give(other);
}

TEST_F(PageHeapTest, RefusedMemoryIsANullAndNothingElse) {
  hz3::Run* seed = take(1);
  const size_t in_use = arenas.bytes_in_use();
  std::vector<hz3::Run*> runs;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    while (hz3::Run* run = take(kSegmentPages / 4)) {
      runs.push_back(run);
      ASSERT_LT(runs.size(), 1000u);
    }
    while (hz3::Run* run = take(1)) {
      runs.push_back(run);
      ASSERT_LT(runs.size(), 100000u) << "what is left is handed out, and no more";
    }
    EXPECT_GT(kernel.refused(Call::Commit), 0u);
  }
  EXPECT_GE(arenas.bytes_in_use(), in_use);
  hz3::Run* after = take(kSegmentPages / 4);
  ASSERT_NE(after, nullptr) << "recovered";
  give(after);
  for (hz3::Run* r : runs) give(r);
  give(seed);
}

// Every commit in turn is the one that is refused.
TEST_F(PageHeapTest, NthCommitRefused) {
  for (unsigned nth = 0; nth < 6; nth++) {
    std::vector<hz3::Run*> runs;
    Kernel kernel;
    kernel.refuse(Call::Commit, nth, 1);
    for (int i = 0; i < 12; i++)
      if (hz3::Run* run = take(kSegmentPages / 2)) runs.push_back(run);
    kernel.allow();
    for (int i = 0; i < 200; i++) {
      hz3::Run* run = take(2);
      ASSERT_NE(run, nullptr);
      runs.push_back(run);
    }
    for (hz3::Run* r : runs) give(r);
  }
}

TEST_F(PageHeapTest, DescriptorsAreReusedAndMayBeRefused) {
  hz3::Run* anchor = take(1);
  std::vector<hz3::Run*> runs;
  size_t got = 0;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    // Descriptors run out before pages do, or pages before descriptors: either way a nullptr.
    for (int i = 0; i < 5000; i++) {
      hz3::Run* d = PageHeap::take_descriptor(0, anchor->segment->arena);
      if (d == nullptr) break;
      d->segment = anchor->segment;
      runs.push_back(d);
    }
    got = runs.size();
    EXPECT_LT(got, 5000u);
    EXPECT_EQ(take(1), nullptr);
    EXPECT_EQ(PageHeap::take_descriptor(0, anchor->segment->arena), nullptr);
    EXPECT_NE(anchor->segment->free_pages, 0) << "the pages were there";
  }
  for (hz3::Run* d : runs) PageHeap::return_descriptor(0, d);
  hz3::Run* run = take(1);
  ASSERT_NE(run, nullptr);
  give(run);
  give(anchor);
}

}  // namespace
}  // namespace hz3
