// Two arenas of 512 segments are all there is: what happens at the end of them, and afterwards. Blocks of the second arena,
// whose pages the hot path does not know, are blocks like any other.
#include <cerrno>

#include "hz3/bins.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;

static_assert(kArenasMax == 2 && kArenaBytes == size_t{1} << 30, "tiny.config");
constexpr size_t kMoreThanThereIs = size_t{1} << 45;
constexpr size_t kArenaSegments = kArenaBytes / kSegmentBytes;

class Exhaustion : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    api::trim();
  }
  void TearDown() override {
    for (void* b : blocks) free_hot(b);
    EXPECT_NOTHING_LOST();
  }
  // Takes blocks of so many bytes until there are no more.
  void take_all(size_t bytes) {
    errno = 0;
    while (void* b = malloc_hot(bytes)) {
      blocks.push_back(b);
      ASSERT_EQ(errno, 0);
      ASSERT_LT(blocks.size(), 100000u);
    }
    EXPECT_EQ(errno, ENOMEM);
  }
  static bool in_first_arena(const void* p) {
    return (reinterpret_cast<uintptr_t>(p) - hot_map.base) >> kPageShift < hot_map.pages;
  }
  // Fills the first arena, so that what comes next is in the second.
  void fill_first_arena() {
    do {
      blocks.push_back(malloc_hot(64 * kSegmentBytes));
    } while (in_first_arena(blocks.back()));
    free_hot(blocks.back());
    blocks.pop_back();
    do {
      blocks.push_back(malloc_hot(kSegmentBytes));
    } while (in_first_arena(blocks.back()));
    free_hot(blocks.back());
    blocks.pop_back();
  }
  ThreadCache* tc = nullptr;
  Blocks blocks;
};

// First, because it needs segments that were never used.
TEST_F(Exhaustion, AlignedSpansUseTheGapsThatTheyLeave) {
  for (int i = 0; i < 4; i++) {
    void* p = api::memalign(64 * kSegmentBytes, kSegmentBytes);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % (64 * kSegmentBytes), 0u);
    blocks.push_back(p);
  }
  take_all(kSegmentBytes);
  EXPECT_EQ(blocks.size(), 2 * kArenaSegments) << "every segment is in use";
}

TEST_F(Exhaustion, SpansFillBothArenasToTheLastSegment) {
  take_all(kSegmentBytes);
  EXPECT_EQ(blocks.size(), 2 * kArenaSegments);
  EXPECT_EQ(arenas.bytes_in_use(), 2 * kArenaBytes);
  size_t in_first = 0;
  for (void* b : blocks) {
    in_first += in_first_arena(b);
    ASSERT_NE(arenas.find(b), nullptr);
    ASSERT_EQ(tag_of(b), make_tag(kLargeSlot, tc->shard));
    ASSERT_EQ(api::usable_size(b), kSegmentBytes);
  }
  EXPECT_EQ(in_first, kArenaSegments);
  for (size_t bytes : {size_t{1}, size_t{3000}, size_t{20000}, size_t{100000}, kSegmentBytes, 5 * kSegmentBytes}) {
    errno = 0;
    EXPECT_EQ(malloc_hot(bytes), nullptr) << bytes;
    EXPECT_EQ(errno, ENOMEM);
  }
  errno = 0;
  EXPECT_EQ(api::realloc(blocks[0], 3 * kSegmentBytes), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  for (int i = 0; i < 3; i++) {
    free_hot(blocks.back());
    blocks.pop_back();
  }
  void* small = malloc_hot(100);
  ASSERT_NE(small, nullptr) << "service comes back";
  blocks.push_back(malloc_hot(kSegmentBytes));
  EXPECT_NE(blocks.back(), nullptr);
  free_hot(small);
}

TEST_F(Exhaustion, PageRunsFillWhatSpansLeave) {
  take_all(17 * kSegmentBytes);
  const size_t spans = blocks.size();
  take_all(kSegmentBytes / 4);
  take_all(20000);
  take_all(100);
  EXPECT_GT(blocks.size(), spans);
  EXPECT_EQ(arenas.bytes_in_use(), 2 * kArenaBytes);
  const Blocks all = blocks;
  EXPECT_EQ(std::set<void*>(all.begin(), all.end()).size(), all.size());
}

TEST_F(Exhaustion, AnArenaThatIsEmptyIsGivenUpBeforeACallFailsAndComesBack) {
  fill_first_arena();
  void* p = malloc_hot(300 * kSegmentBytes);
  ASSERT_NE(p, nullptr);
  ASSERT_FALSE(in_first_arena(p));
  free_hot(p);
  EXPECT_NE(arenas.find(p), nullptr);
  EXPECT_EQ(malloc_hot(kMoreThanThereIs), nullptr);
  EXPECT_EQ(arenas.find(p), nullptr) << "its addresses were given back";
  free_hot(p);  // as of any foreign pointer
  for (int i = 0; i < 3; i++) {
    void* again = malloc_hot(300 * kSegmentBytes);
    ASSERT_NE(again, nullptr);
    static_cast<char*>(again)[300 * kSegmentBytes - 1] = 1;
    free_hot(again);
    EXPECT_EQ(malloc_hot(kMoreThanThereIs), nullptr);
  }
}

TEST_F(Exhaustion, BlocksOfTheSecondArenaAreServedByTheSlowPaths) {
  fill_first_arena();
  const unsigned other = 1 - tc->shard;
  for (size_t bytes : {16, 64, 1000, 3000, 8192, 32768}) {
    const Slot slot = slot_of(bytes);
    Blocks mine;
    for (int i = 0; i < 40; i++) {
      mine.push_back(malloc_hot(bytes));
      ASSERT_NE(mine.back(), nullptr);
      ASSERT_FALSE(in_first_arena(mine.back()));
      ASSERT_EQ(tag_of(mine.back()), make_tag(slot, tc->shard));
      memset(mine.back(), 1, bytes);
    }
    for (void* b : mine) {
      free_hot(b);
      ASSERT_NO_FATAL_FAILURE(test::expect_bounded(tc, slot)) << "bounded as on the hot path";
    }
    const void* first = tc->head[slot] != nullptr ? tc->head[slot] : tc->second[slot];
    ASSERT_TRUE(first == mine.back() || first == nullptr) << "the last one is in front, unless all lists were given away";
    void* q = api::realloc(malloc_hot(bytes), 3 * bytes);
    ASSERT_NE(q, nullptr);
    free_hot(q);
    // Another shard's, freed here and by a thread without a cache.
    const Blocks foreign = test::blocks_of(other, slot, 40);
    ASSERT_FALSE(in_first_arena(foreign[0]));
    for (int i = 0; i < 35; i++) free_hot(foreign[i]);
    test::in_thread([&] {
      for (int i = 35; i < 40; i++) free_hot(foreign[i]);
      EXPECT_TRUE(is_static_cache(tls_cache));
    });
  }
  void* run = malloc_hot(100000);
  EXPECT_FALSE(in_first_arena(run));
  run = api::realloc(run, 200000);
  free_hot(run);
  flush_cache(tc);
  remote::drain_to_central(other);
  Central::of(other).release_all_spares();
  EXPECT_EQ(Central::of(other).totals().runs, 0u);
}

}  // namespace
}  // namespace hz3
