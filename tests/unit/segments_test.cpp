// What a page heap knows of its segments, against what follows from their bits; where it places runs; and page heaps that
// several threads use while their pages are purged.
#include <functional>
#include <map>

#include "hz3/page_heap.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Call;
using test::Kernel;

constexpr bool kKeepsDirty = kPurgeReservePages >= 64;

hz3::Run* take(unsigned pages, unsigned shard = 0) { return PageHeap::allocate(shard, pages, 1, pages); }
void give(hz3::Run* run) { PageHeap::free(run, run->pages); }
unsigned first_page(const hz3::Run* run) { return static_cast<unsigned>((run->start - run->segment->start()) >> kPageShift); }

// All that is said of a segment follows from its bits.
void check_segment(const Segment* s) {
  unsigned longest = 0, here = 0, free = 0, dirty = 0;
  for (unsigned i = 0; i < kSegmentPages; i++) {
    here = s->used.test(i) ? 0 : here + 1;
    if (here > longest) longest = here;
    free += !s->used.test(i);
    dirty += s->dirty.test(i);
    ASSERT_FALSE(s->dirty.test(i) && s->used.test(i)) << "dirty pages are free";
    ASSERT_FALSE(s->dirty.test(i) && !s->touched.test(i)) << "and were written";
    ASSERT_FALSE(s->aging.test(i) && !s->dirty.test(i)) << "and those that age are dirty";
  }
  ASSERT_EQ(s->longest, longest);
  ASSERT_EQ(s->free_pages, free);
  ASSERT_EQ(s->dirty_pages, dirty);
  unsigned list = 0;
  while (longest >> list != 0) list++;
  ASSERT_EQ(s->list, list);
  ASSERT_TRUE(dirty == 0 || s->on_dirty_list);
}

class Segments : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

TEST_F(Segments, WhatIsSaidOfThemFollowsFromTheirBitsAfterAnything) {
  test::Random random(6);
  std::vector<hz3::Run*> live;
  uint64_t time = os::now_ms();
  for (int step = 0; step < 6000; step++) {
    const uint64_t what = random.below(20);
    if (live.size() < 20 || (what < 9 && live.size() < 150)) {
      const unsigned pages = 1 + static_cast<unsigned>(random.below(random.below(10) == 0 ? kSegmentPages / 2 - 8 : 24));
      hz3::Run* run = PageHeap::allocate(static_cast<unsigned>(random.below(kShards)), pages, 1u << random.below(4),
                                         1 + static_cast<unsigned>(random.below(pages)));
      ASSERT_NE(run, nullptr);
      ASSERT_EQ(run->segment->used.count(first_page(run), pages), pages);
      live.push_back(run);
    } else if (what == 19) {
      PageHeap::purge_all(time += kPurgeDecayMs / 2, random.below(4) == 0);
    } else {
      std::swap(live[random.below(live.size())], live.back());
      hz3::Run* run = live.back();
      const unsigned change = 1 + static_cast<unsigned>(random.below(16));
      bool zero = false;
      if (what < 12 && run->pages > change) {
        PageHeap::shrink(run, run->pages - change);
      } else if (what >= 14 || !PageHeap::extend(run, run->pages + change, &zero)) {
        PageHeap::free(run, static_cast<unsigned>(random.below(run->pages + 1)));
        live.pop_back();
      }
    }
    size_t free = 0, dirty = 0;
    std::set<Segment*> segments;
    for (hz3::Run* run : live) segments.insert(run->segment);
    for (Segment* s : segments) {
      check_segment(s);
      if (HasFatalFailure()) FAIL() << "in step " << step;
      free += s->free_pages;
      dirty += s->dirty_pages;
    }
    ASSERT_LE(free, PageHeap::free_pages());
    ASSERT_LE(dirty, PageHeap::dirty_pages());
  }
  for (hz3::Run* run : live) give(run);
}

// --- places ----------------------------------------------------------------------------------------------------------------

TEST_F(Segments, PagesInMemoryAreTakenFirstFromOtherHeapsToo) {
  if constexpr (kPageHeaps < 2 || !kKeepsDirty) GTEST_SKIP();
  // Each heap has a segment of its own with clean pages. A run of half a segment first: a heap that has many lends them.
  hz3::Run* mine[] = {take(kSegmentPages / 2 - 1, 0), take(kSegmentPages / 4, 0)};
  hz3::Run* other[] = {take(kSegmentPages / 2 - 1, 1), take(kSegmentPages / 4, 1), take(8, 1), take(8, 1)};
  ASSERT_NE(mine[0]->segment->heap, other[0]->segment->heap);
  char* dirty = other[2]->start;
  ASSERT_EQ(other[2]->segment->heap, 1 % kPageHeaps);
  give(other[2]);
  hz3::Run* again = take(8, 0);
  EXPECT_EQ(again->start, dirty) << "rather than clean ones of its own heap";
  give(again);
  hz3::Run* larger = take(9, 0);
  EXPECT_EQ(larger->segment, mine[0]->segment) << "so many are not in memory in a row";
  hz3::Run* soon = PageHeap::allocate(0, 8, 1, 8);
  EXPECT_EQ(soon->start, dirty);
  for (hz3::Run* run : {mine[0], mine[1], other[0], other[1], other[3], larger, soon}) give(run);
}

TEST_F(Segments, OnlyThePagesThatAreWrittenSoonNeedToBeInMemory) {
  if constexpr (!kKeepsDirty) GTEST_SKIP();
  hz3::Run* anchor = take(4);
  hz3::Run* gap = take(20);
  hz3::Run* behind = take(4);
  char* start = gap->start;
  PageHeap::free(gap, 3);
  hz3::Run* run = PageHeap::allocate(0, 20, 1, 3);
  EXPECT_EQ(run->start, start);
  EXPECT_FALSE(run->zero);
  PageHeap::free(run, 3);
  run = PageHeap::allocate(0, 20, 1, 4);
  EXPECT_TRUE(run->zero || run->start == start);
  for (hz3::Run* r : {anchor, behind, run}) give(r);
}

TEST_F(Segments, RunsBeginWhereExtentsDoSoThatOnePieceIsLeft) {
  hz3::Run* all[8];
  for (hz3::Run*& run : all) run = take(32);
  Segment* s = all[0]->segment;
  for (hz3::Run* run : all) ASSERT_EQ(run->segment, s);
  for (unsigned i : {1u, 2u, 4u, 6u}) PageHeap::free(all[i], 0);
  hz3::Run* small = take(5);
  EXPECT_EQ(small->segment, s);
  const unsigned at = first_page(small);
  EXPECT_TRUE(at == 0 || s->used.test(at - 1)) << "next to its neighbour";
  for (unsigned i : {0u, 3u, 5u, 7u}) give(all[i]);
  give(small);
}

TEST_F(Segments, AnAlignedPlaceWithinPagesInMemoryIsFound) {
  if constexpr (!kKeepsDirty) GTEST_SKIP();
  hz3::Run* first = take(4);
  hz3::Run* clean = take(12);
  hz3::Run* between = take(1);
  hz3::Run* dirty = take(16);
  hz3::Run* behind = take(1);
  Segment* s = first->segment;
  ASSERT_EQ(first_page(dirty), 17u);
  PageHeap::free(clean, 0);
  give(dirty);
  hz3::Run* aligned = PageHeap::allocate(0, 8, 4, 8);
  EXPECT_EQ(aligned->start, s->page(20)) << "in the middle, where no extent begins, though a clean one would serve";
  for (hz3::Run* run : {first, between, behind, aligned}) give(run);
}

TEST_F(Segments, OfSeveralPlacesTheOneThatHasMostInMemoryIsTaken) {
  if constexpr (!kKeepsDirty) GTEST_SKIP();
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 8; i++) runs.push_back(take(kSegmentPages / 8));
  ASSERT_EQ(runs[0]->segment, runs[7]->segment);
  for (auto [i, written] : {std::pair{1u, 0u}, {3u, 2u}, {5u, 9u}, {7u, 4u}}) PageHeap::free(runs[i], written);
  char* most = runs[4]->start + (size_t{runs[4]->pages} << kPageShift);
  hz3::Run* run = PageHeap::allocate(0, 20, 1, 20);  // so many are nowhere in memory in a row
  EXPECT_EQ(run->start, most);
  for (unsigned i : {0u, 2u, 4u, 6u}) give(runs[i]);
  give(run);
}

TEST_F(Segments, TheFullestSegmentThatServesIsTaken) {
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 4; k++) runs.push_back(take(kSegmentPages / 4));
  // The second has one quarter free, the others two.
  for (int i : {0, 2, 5, 8, 10}) PageHeap::free(runs[i], 0);
  hz3::Run* run = take(kSegmentPages / 8);
  EXPECT_EQ(run->segment, runs[4]->segment);
  for (int i : {1, 3, 4, 6, 7, 9, 11}) give(runs[i]);
  give(run);
}

TEST_F(Segments, TheLastResortIsWhateverAnybodyHas) {
  if constexpr (kPageHeaps < 2) GTEST_SKIP();
  std::vector<hz3::Run*> runs = {take(1, 1)};
  for (unsigned heap : {0u, 1u}) {  // pages are to run out, not descriptors
    std::vector<hz3::Run*> descriptors;
    for (int i = 0; i < 4000; i++) {
      descriptors.push_back(PageHeap::take_descriptor(heap, runs[0]->segment->arena));
      descriptors.back()->segment = runs[0]->segment;
    }
    for (hz3::Run* d : descriptors) PageHeap::return_descriptor(heap, d);
  }
  Kernel kernel;
  kernel.refuse(Call::Commit);
  kernel.refuse(Call::Reserve);
  for (unsigned pages : {kSegmentPages / 2, 1u})
    while (hz3::Run* run = take(pages, 1)) {
      runs.push_back(run);
      ASSERT_LT(runs.size(), 100000u);
    }
  ASSERT_EQ(PageHeap::free_pages(), 0u);
  hz3::Run* freed = runs.back();
  runs.pop_back();
  PageHeap::free(freed, 0);  // one page of a full segment of another heap
  hz3::Run* run = take(1, 0);
  ASSERT_NE(run, nullptr);
  runs.push_back(run);
  EXPECT_EQ(take(1, 0), nullptr);
  for (hz3::Run* r : runs) give(r);
}

TEST_F(Segments, PagesInMemoryStayKnownWhenTheirRunGetsNoDescriptor) {
  if constexpr (!kKeepsDirty) GTEST_SKIP();
  hz3::Run* anchor = take(1);
  give(take(8));
  ASSERT_EQ(PageHeap::dirty_pages(), 8u);
  std::vector<hz3::Run*> descriptors;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    while (hz3::Run* d = PageHeap::take_descriptor(0, anchor->segment->arena)) {
      d->segment = anchor->segment;
      descriptors.push_back(d);
      ASSERT_LT(descriptors.size(), 100000u);
    }
    EXPECT_EQ(take(8), nullptr);
  }
  EXPECT_EQ(PageHeap::dirty_pages(), 8u) << "or they would never be given back";
  check_segment(anchor->segment);
  for (hz3::Run* d : descriptors) PageHeap::return_descriptor(0, d);
  give(anchor);
}

// --- purge and others at the same time ---------------------------------------------------------------------------------------

// What happens while the kernel has the pages that a purge gives it, when no lock is held.
struct DuringAdvice {
  static inline os::Calls real;
  static inline std::function<void(char*, size_t)> then;
  explicit DuringAdvice(std::function<void(char*, size_t)> f) {
    real = os::calls;
    then = std::move(f);
    os::calls.advise = [](void* p, size_t bytes, os::Advice advice) {
      const auto once = std::exchange(then, nullptr);
      if (once) once(static_cast<char*>(p), bytes);
      return real.advise(p, bytes, advice);
    };
  }
  ~DuringAdvice() { os::calls = real; }
};

TEST_F(Segments, PagesAreNobodysWhileTheKernelHasThem) {
  hz3::Run* anchor = take(4);
  hz3::Run* purged = take(100);
  Segment* s = anchor->segment;
  char* start = purged->start;
  memset(start, 1, 100 * kPageSize);
  PageHeap::free(purged, 0);
  s->touched.set(first_page(anchor) + 4, 100);  // as if they had been written, whatever the configuration keeps
  std::vector<hz3::Run*> meanwhile;
  {
    hz3::Run* again = take(100);
    const DuringAdvice during([&](char* p, size_t bytes) {
      EXPECT_EQ(p, again->start);
      EXPECT_EQ(bytes, 100 * kPageSize);
      check_segment(s);
      while (s->free_pages != 0) {
        ASSERT_LT(meanwhile.size(), 4 * kSegmentPages) << "they come from elsewhere";
        meanwhile.push_back(take(1));
        ASSERT_TRUE(meanwhile.back()->start < p || meanwhile.back()->start >= p + bytes);
        meanwhile.back()->start[0] = 2;
      }
      for (size_t i = 0; i < meanwhile.size(); i += 2) {
        give(meanwhile[i]);
        meanwhile[i] = nullptr;
      }
    });
    PageHeap::free(again, 100);
    PageHeap::purge_all(test::later(), true);
  }
  ASSERT_FALSE(meanwhile.empty()) << "the purge came to the kernel";
  check_segment(s);
  for (hz3::Run* run : meanwhile)
    if (run != nullptr) {
      EXPECT_EQ(run->start[0], 2);
      give(run);
    }
  give(anchor);
}

TEST_F(Segments, ASegmentThatBecomesFreeDuringItsPurgeGoesBack) {
  hz3::Run* anchor = take(4);
  hz3::Run* purged = take(100);
  const size_t in_use = arenas.bytes_in_use();
  {
    const DuringAdvice during([&](char*, size_t) { PageHeap::free(anchor, 0); });
    give(purged);
    PageHeap::purge_all(test::later(), true);
  }
  PageHeap::purge_all(test::later(), true);
  EXPECT_EQ(arenas.bytes_in_use(), in_use - kSegmentBytes);
}

// Each page of a run says whose it is.
TEST_F(Segments, ThreadsKeepTheirPagesWhileOthersPurge) {
  std::atomic<unsigned> running{3};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 31);
      std::map<hz3::Run*, uint64_t> live;
      const auto write = [](hz3::Run* run, unsigned from, uint64_t mark) {
        for (unsigned i = from; i < run->pages; i++)
          *reinterpret_cast<uint64_t*>(run->start + size_t{i} * kPageSize) = mark + i;
      };
      const auto is_whole = [](const hz3::Run* run, uint64_t mark) {
        for (unsigned i = 0; i < run->pages; i++)
          if (*reinterpret_cast<const uint64_t*>(run->start + size_t{i} * kPageSize) != mark + i) return false;
        return true;
      };
      for (uint64_t step = 0; step < 2500; step++) {
        if (live.size() < 25) {
          const unsigned pages = 1 + static_cast<unsigned>(random.below(random.below(12) == 0 ? 200 : 16));
          hz3::Run* run = PageHeap::allocate(static_cast<unsigned>(random.below(kShards)), pages, 1, pages);
          ASSERT_NE(run, nullptr);
          for (unsigned i = 0; run->zero && i < pages; i++) ASSERT_EQ(run->start[size_t{i} * kPageSize], 0);
          write(run, 0, live[run] = (step << 20 | t << 16) * 16 + 1);
          continue;
        }
        auto it = live.begin();
        std::advance(it, static_cast<long>(random.below(live.size())));
        auto [run, mark] = *it;
        ASSERT_TRUE(is_whole(run, mark));
        const unsigned pages = run->pages, change = 1 + static_cast<unsigned>(random.below(8));
        bool zero = false;
        if (random.below(4) == 0 && PageHeap::extend(run, pages + change, &zero)) {
          write(run, pages, mark);
        } else if (pages > change && random.below(3) == 0) {
          PageHeap::shrink(run, pages - change);
        } else {
          live.erase(it);
          give(run);
        }
      }
      for (auto [run, mark] : live) {
        EXPECT_TRUE(is_whole(run, mark));
        give(run);
      }
      running--;
    });
  for (bool everything = true; running != 0; everything = !everything) PageHeap::purge_all(test::later(), everything);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace hz3
