// Statistics: the numbers add up, agree with each other in all their forms, and follow what is allocated.
#include "hz3/info.hpp"

#include <climits>
#include <cstdlib>
#include <string>

#include "hz3/bins.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/stats_text.hpp"

namespace hz3 {
namespace {

using test::Blocks;

constexpr size_t kMiB = size_t{1} << 20;

class Info : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    api::trim();
    before = now();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  static struct mallinfo2 now() {
    const struct mallinfo2 m = info::mallinfo2();
    EXPECT_EQ(m.uordblks + m.fordblks, m.arena);
    EXPECT_LE(m.fsmblks + m.keepcost, m.fordblks);
    EXPECT_EQ(m.arena, arenas.bytes_in_use());
    EXPECT_EQ(m.hblks + m.hblkhd + m.smblks + m.usmblks, 0u) << "nothing of ours is any of these";
    return m;
  }
  ThreadCache* tc = nullptr;
  struct mallinfo2 before {};
};

TEST_F(Info, AnEmptyHeapHasNothing) {
  EXPECT_EQ(before.arena, 0u);
  EXPECT_EQ(before.uordblks, 0u);
  EXPECT_EQ(before.ordblks, 0u);
  EXPECT_EQ(before.keepcost, 0u);
}

TEST_F(Info, SpansCountByTheirSegmentsAndInTheCacheByTheirBytes) {
  Blocks blocks;
  for (int i = 0; i < 3; i++) blocks.push_back(malloc_hot(kSegmentBytes));
  EXPECT_EQ(now().arena, 3 * kSegmentBytes);
  EXPECT_EQ(now().uordblks, 3 * kSegmentBytes);
  for (void* b : blocks) free_hot(b);
  EXPECT_EQ(now().uordblks, 0u);
  EXPECT_EQ(now().keepcost, large::cached_span_bytes());
  EXPECT_EQ(now().arena, large::cached_span_bytes());
}

TEST_F(Info, OfSegmentsThatSpansShareOnlyTheirPagesAreInUse) {
  void* p = malloc_hot(kSegmentBytes + kPageSize);
  EXPECT_EQ(now().arena, 2 * kSegmentBytes);
  EXPECT_EQ(now().uordblks, kSegmentBytes + kPageSize);
  EXPECT_EQ(now().fordblks, kSegmentBytes - kPageSize);
  EXPECT_EQ(now().keepcost, 0u) << "none of the rest is in memory";
  free_hot(p);
  EXPECT_EQ(now().uordblks, 0u);
}

TEST_F(Info, PageRunsCountByTheirPages) {
  void* p = malloc_hot(100 * kPageSize);
  EXPECT_EQ(now().arena, kSegmentBytes);
  EXPECT_EQ(now().uordblks, 100 * kPageSize);
  void* q = malloc_hot(70 * kPageSize - 1);
  EXPECT_EQ(now().uordblks, 170 * kPageSize);
  free_hot(p);
  EXPECT_EQ(now().uordblks, 70 * kPageSize);
  EXPECT_EQ(now().keepcost, PageHeap::dirty_pages() << kPageShift);
  free_hot(q);
  EXPECT_EQ(now().uordblks, 0u);
}

TEST_F(Info, LargeBlocksOfBinsCountByTheirClasses) {
  const size_t bytes = class_bytes(slot_of(150000));
  void* p = malloc_hot(150000);
  EXPECT_EQ(now().uordblks, bytes);
  EXPECT_EQ(now().ordblks, 0u) << "no run has anything to give";
  free_hot(p);
  EXPECT_EQ(now().uordblks, bytes) << "it is in a bin";
  flush_cache(tc);
  EXPECT_EQ(now().uordblks, 0u);
  EXPECT_EQ(now().fsmblks, 0u);
}

TEST_F(Info, SmallBlocksCountByTheirRuns) {
  const Slot slot = slot_of(512);
  const Blocks blocks = test::blocks_of(0, slot, 200);
  std::set<hz3::Run*> runs;
  size_t run_bytes = 0;
  for (void* b : blocks)
    if (runs.insert(run_of(b)).second) run_bytes += size_t{run_of(b)->pages} << kPageShift;
  EXPECT_EQ(now().uordblks, run_bytes);
  EXPECT_GE(now().uordblks, 200 * 512u);
  EXPECT_EQ(now().fsmblks, 0u);
  // Every second block of each run comes back.
  Blocks back, stay;
  for (size_t i = 0; i < blocks.size(); i++) (i % 2 != 0 ? back : stay).push_back(blocks[i]);
  test::give_back(back);
  EXPECT_EQ(now().fsmblks, back.size() * 512);
  EXPECT_EQ(now().uordblks, run_bytes - back.size() * 512);
  EXPECT_EQ(now().ordblks, runs.size());
  test::give_back(stay);
  Central::of(0).release_all_spares();
  EXPECT_EQ(now().uordblks, 0u);
  EXPECT_EQ(now().ordblks, 0u);
}

TEST_F(Info, BlocksInBinsCountAsInUse) {
  Blocks blocks;
  for (int i = 0; i < 100; i++) blocks.push_back(malloc_hot(64));
  const size_t used = now().uordblks;
  EXPECT_GE(used, 6400u);
  for (void* b : blocks) free_hot(b);
  EXPECT_EQ(now().uordblks, used);
  flush_cache(tc);
  Central::of(tc->shard).release_all_spares();
  EXPECT_EQ(now().uordblks, 0u);
}

TEST_F(Info, NumbersThatDoNotFitAnIntStopAtItsEnd) {
  const auto expect_same = [](size_t wide, int narrow) {
    EXPECT_EQ(narrow, wide > INT_MAX ? INT_MAX : static_cast<int>(wide));
  };
  for (size_t bytes : {5 * kMiB, size_t{3} << 30}) {
    void* p = malloc_hot(bytes);
    ASSERT_NE(p, nullptr);
    void* q = malloc_hot(100000);
    free_hot(q);
    const struct mallinfo2 wide = info::mallinfo2();
    const struct mallinfo narrow = info::mallinfo();
    EXPECT_GE(wide.uordblks, bytes);
    expect_same(wide.arena, narrow.arena);
    expect_same(wide.ordblks, narrow.ordblks);
    expect_same(wide.uordblks, narrow.uordblks);
    expect_same(wide.fordblks, narrow.fordblks);
    expect_same(wide.fsmblks, narrow.fsmblks);
    expect_same(wide.keepcost, narrow.keepcost);
    free_hot(p);
  }
}

// A heap with some of everything that is counted.
class InfoForms : public Info {
 protected:
  void SetUp() override {
    Info::SetUp();
    for (int i = 0; i < 300; i++) blocks.push_back(malloc_hot(600));
    for (size_t bytes : {100000, 200000, 3 << 20, 4 << 20}) blocks.push_back(malloc_hot(bytes));
    for (size_t i = 0; i < blocks.size(); i += 2) {
      free_hot(blocks[i]);
      blocks[i] = nullptr;
    }
    flush_cache(tc);
    m = info::mallinfo2();
    EXPECT_GT(m.fsmblks, 0u);
    EXPECT_GT(m.uordblks, 0u);
  }
  void TearDown() override {
    for (void* b : blocks) free_hot(b);
    Info::TearDown();
  }
  Blocks blocks;
  struct mallinfo2 m {};
};

TEST_F(InfoForms, XmlHasTheSameNumbers) {
  char* text = nullptr;
  size_t length = 0;
  FILE* stream = open_memstream(&text, &length);
  ASSERT_EQ(info::xml(0, stream), 0);
  fclose(stream);
  const std::string xml(text, length);
  std::free(text);
  const auto number = [&](const std::string& before) -> size_t {
    const size_t at = xml.find(before);
    EXPECT_NE(at, std::string::npos) << before;
    return at == std::string::npos ? 0 : strtoull(xml.c_str() + at + before.size(), nullptr, 10);
  };
  EXPECT_EQ(xml.find("<malloc version=\"1\""), 0u);
  EXPECT_EQ(xml.rfind("</malloc>\n"), xml.size() - 10);
  EXPECT_EQ(number("<shards count=\""), kShards);
  EXPECT_EQ(number("<caches count=\""), thread_registry.caches());
  EXPECT_EQ(number("<system type=\"current\" size=\""), m.arena);
  EXPECT_EQ(number("<used size=\""), m.uordblks);
  EXPECT_EQ(number("type=\"blocks\" size=\""), m.fsmblks);
  EXPECT_EQ(number("\" runs=\""), m.ordblks);
  EXPECT_EQ(number("type=\"dirty\" size=\""), m.keepcost);
  EXPECT_EQ(number("type=\"pages\" size=\"") + number("type=\"blocks\" size=\"") + number("type=\"spans\" size=\""),
            m.fordblks);
  errno = 0;
  EXPECT_EQ(info::xml(1, nullptr), EINVAL);
  EXPECT_EQ(errno, 0) << "as the C library";
}

TEST_F(InfoForms, StatsAreFiveLinesWithTheSameNumbers) {
  std::string text = test::stats_text();
  const auto n = [](size_t value) { return std::to_string(value); };
  const size_t pages = PageHeap::free_pages() << kPageShift, dirty = PageHeap::dirty_pages() << kPageShift;
  const std::string expected = "hz3: in use " + n(m.uordblks) + " bytes of " + n(m.arena) + " in segments\n" +            //
                               "hz3: free pages " + n(pages) + " bytes, of them not yet given back " + n(dirty) + "\n" +  //
                               "hz3: free blocks " + n(m.fsmblks) + " bytes in " + n(m.ordblks) + " runs\n" +             //
                               "hz3: cached spans " + n(large::cached_span_bytes()) + " bytes\n" +                        //
                               "hz3: " + n(kShards) + " shards, " + n(thread_registry.caches()) + " thread caches made\n";
  if (kStatistics) text.resize(expected.size());  // more lines
  EXPECT_EQ(text, expected);
}

TEST(Mallopt, TakesAndRefusesWhatTheCLibraryDoes) {
  for (int parameter : {M_MMAP_THRESHOLD, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_TEST, M_ARENA_MAX, M_CHECK_ACTION}) {
    EXPECT_EQ(info::mallopt(parameter, 0), 1);
    EXPECT_EQ(info::mallopt(parameter, INT_MAX), 1);
    EXPECT_EQ(info::mallopt(parameter, -1), 1);
  }
  EXPECT_EQ(info::mallopt(M_MXFAST, 0), 1);
  EXPECT_EQ(info::mallopt(M_MXFAST, 160), 1);
  EXPECT_EQ(info::mallopt(M_MXFAST, 161), 0) << "as the C library";
  EXPECT_EQ(info::mallopt(M_MXFAST, -1), 0);
  EXPECT_EQ(info::mallopt(12345, 1), 1);
}

}  // namespace
}  // namespace hz3
