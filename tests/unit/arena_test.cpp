// Arenas: segments come and go, neighbours join, alignment is kept, addresses are found again, the kernel may say no.
#include "hz3/arena.hpp"

#include <algorithm>
#include <set>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

using test::Call;
using test::Kernel;
using Behind = ArenaSet::Behind;

TEST(Arena, SegmentsAreAlignedUsableAndFoundAgain) {
  Segment* s = arenas.allocate(2);
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(s->start()) % kSegmentBytes, 0u);
  EXPECT_EQ(s[1].start(), s->start() + kSegmentBytes);
  EXPECT_EQ(s->page(3), s->start() + 3 * kPageSize);
  EXPECT_EQ(arenas.find(s->start()), s->arena);
  EXPECT_EQ(arenas.find(s->start() + 2 * kSegmentBytes - 1), s->arena);
  EXPECT_EQ(tag_of(s->start()), 0u);
  memset(s->start(), 1, 2 * kSegmentBytes);
  EXPECT_EQ(arenas.bytes_in_use(), 2 * kSegmentBytes);
  arenas.release(s, 2);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
}

TEST(Arena, WhatIsNotOursIsNotFound) {
  arenas.release(arenas.allocate(1), 1);
  int here = 0;
  static int there = 0;
  for (const void* p : {static_cast<const void*>(&here), static_cast<const void*>(&there), static_cast<const void*>(nullptr),
                        reinterpret_cast<const void*>(~uintptr_t{0}), reinterpret_cast<const void*>(hot_map.base - 1),
                        static_cast<const void*>(hot_map.tags)}) {
    EXPECT_EQ(arenas.find(p), nullptr);
    EXPECT_EQ(tag_of(p), 0u);
  }
}

TEST(Arena, LabelsAreReadBackAndTakenOff) {
  Segment* s = arenas.allocate(1);
  ASSERT_NE(s, nullptr);
  hz3::Run* run = arenas.allocate_runs(s->arena, 1);
  ASSERT_NE(run, nullptr);
  s->arena->label(s->page(2), 3, make_tag(7, 1), run);
  for (unsigned i = 2; i < 5; i++) {
    EXPECT_EQ(tag_of(s->page(i) + 17), make_tag(7, 1));
    EXPECT_EQ(run_of(s->page(i)), run);
  }
  EXPECT_EQ(tag_of(s->page(1)), 0u);
  EXPECT_EQ(tag_of(s->page(5)), 0u);
  s->arena->unlabel(s->page(2), 3);
  for (unsigned i = 2; i < 5; i++) EXPECT_EQ(tag_of(s->page(i)), 0u);
  arenas.release(s, 1);
}

TEST(Arena, FreedSegmentsAreUsedAgainLowestFirst) {
  Segment* s[5];
  for (Segment*& each : s) each = arenas.allocate(1);
  const size_t in_use = arenas.bytes_in_use();
  arenas.release(s[3], 1);
  arenas.release(s[1], 1);
  Segment* again = arenas.allocate(1);
  EXPECT_EQ(again, s[1]);
  arenas.release(s[2], 1);
  EXPECT_EQ(arenas.allocate(2), s[2]) << "neighbours that were freed one by one join";
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
  for (Segment* each : s) arenas.release(each, 1);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
}

TEST(Arena, AlignmentInSegments) {
  Segment* odd = arenas.allocate(1);
  for (uint32_t alignment : {2u, 4u, 8u, 16u}) {
    Segment* s = arenas.allocate(3, alignment);
    ASSERT_NE(s, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(s->start()) % (alignment * kSegmentBytes), 0u);
    arenas.release(s, 3);
  }
  arenas.release(odd, 1);
  EXPECT_EQ(arenas.bytes_in_use(), 0u) << "segments skipped for alignment are free ones";
}

TEST(Arena, ExtendTakesFreedAndFreshNeighboursAndNobodyElses) {
  Segment* s = arenas.allocate(1);
  Segment* next = s + 1;
  ASSERT_TRUE(arenas.extend(s, 3, Behind::FreedOrFresh));
  EXPECT_EQ(arenas.bytes_in_use(), 4 * kSegmentBytes);
  memset(s->start(), 1, 4 * kSegmentBytes);
  arenas.release(next, 3);
  Segment* other = arenas.allocate(1);
  EXPECT_EQ(other, next);
  EXPECT_FALSE(arenas.extend(s, 1, Behind::FreedOrFresh)) << "the neighbour is in use";
  EXPECT_EQ(arenas.bytes_in_use(), 2 * kSegmentBytes);
  arenas.release(other, 1);
  EXPECT_TRUE(arenas.extend(s, 1, Behind::Freed));
  EXPECT_FALSE(arenas.extend(next, ~0u >> 2, Behind::FreedOrFresh)) << "more than an arena";
  EXPECT_FALSE(arenas.extend(next, 100000, Behind::Freed)) << "more than were ever used";
  arenas.release(s, 2);
  EXPECT_EQ(arenas.bytes_in_use(), 0u);
}

TEST(Arena, ExtendFailsCleanlyWhenTheKernelRefuses) {
  constexpr uint32_t kMore = 50;
  std::vector<Segment*> taken;
  Segment* last = arenas.allocate(1);
  for (;;) {  // until the last segment is a fresh one: nothing free behind it
    Segment* s = arenas.allocate(1);
    taken.push_back(s);
    if (s->index < last->index) continue;
    last = s;
    if (taken.size() > 40) break;
  }
  const size_t in_use = arenas.bytes_in_use();
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    EXPECT_FALSE(arenas.extend(last, kMore, Behind::FreedOrFresh)) << "more than what was made usable ahead";
    EXPECT_EQ(arenas.bytes_in_use(), in_use);
    kernel.allow();
    EXPECT_TRUE(arenas.extend(last, kMore, Behind::FreedOrFresh));
  }
  arenas.release(last + 1, kMore);
  EXPECT_EQ(arenas.bytes_in_use(), in_use);
}

TEST(Arena, RunDescriptorsAreDistinctAndTheirMemoryMayBeRefused) {
  Segment* s = arenas.allocate(1);
  std::set<hz3::Run*> seen;
  for (int i = 0; i < 10; i++) {
    hz3::Run* list = arenas.allocate_runs(s->arena, 100);
    ASSERT_EQ(std::distance(&list, &list), 0);
    unsigned n = 0;
    for (hz3::Run* r = list; r != nullptr; r = r->next, n++) EXPECT_TRUE(seen.insert(r).second);
    EXPECT_EQ(n, 100u);
  }
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    hz3::Run* last = nullptr;
    for (int i = 0; i < 100; i++) last = arenas.allocate_runs(s->arena, 100);
    EXPECT_EQ(last, nullptr);
    EXPECT_GT(kernel.refused(Call::Commit), 0u);
  }
  EXPECT_NE(arenas.allocate_runs(s->arena, 100), nullptr);
  arenas.release(s, 1);
}

TEST(MetaRegion, GrowsInStepsUpToItsSize) {
  char* p = static_cast<char*>(os::calls.reserve(size_t{200} << 10));
  MetaRegion region;
  region.place(p, size_t{200} << 10, true);
  EXPECT_TRUE(region.ensure(0));
  EXPECT_EQ(region.usable(), 0u);
  EXPECT_TRUE(region.ensure(1));
  EXPECT_GE(region.usable(), 1u);
  const size_t usable = region.usable();
  {
    Kernel kernel;
    EXPECT_TRUE(region.ensure(usable));
    EXPECT_EQ(kernel.calls(Call::Commit), 0u);
    kernel.refuse(Call::Commit);
    EXPECT_FALSE(region.ensure(usable + 1));
    EXPECT_EQ(region.usable(), usable);
  }
  EXPECT_TRUE(region.ensure(size_t{200} << 10));
  EXPECT_EQ(region.usable(), size_t{200} << 10);
  memset(p, 1, region.usable());
  os::calls.release(p, size_t{200} << 10);
}

}  // namespace
}  // namespace hz3
