// Large blocks that have classes: kept in bins like smaller ones, given back as whole runs, resized in place.
#include <algorithm>

#include "hz3/bins.hpp"
#include "hz3/depot.hpp"
#include "hz3/hot.hpp"
#include "hz3/large.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using test::Blocks;
using test::Call;
using test::Kernel;
using test::Worker;

constexpr size_t kMiB = size_t{1} << 20;

class LargeBins : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    flush_cache(tc);
    reset_limits(tc);
    tc->now_ms = tc->trimmed_ms = os::now_ms();
  }
  void TearDown() override {
    flush_cache(tc);
    Depot::send_all_home();
    for (unsigned shard = 0; shard < kShards; shard++)
      for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++)
        EXPECT_EQ(Central::of(shard).runs(slot), 0u) << class_bytes(slot);
    EXPECT_NOTHING_LOST();
  }
  // Of a cache whose bins are empty.
  static void reset_limits(ThreadCache* cache) {
    drop_grants(cache);
    reset_bins(cache);
  }
  unsigned other_shard() const { return (tc->shard + 1) % kShards; }
  unsigned runs(size_t bytes) const { return Central::of(tc->shard).runs(slot_of(bytes)); }
  ThreadCache* tc = nullptr;
};

TEST_F(LargeBins, APairHitsTheBin) {
  for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) {
    const size_t bytes = class_bytes(slot);
    void* p = malloc_hot(bytes);
    ASSERT_EQ(tag_of(p), make_tag(slot, tc->shard));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % kPageSize, 0u);
    for (size_t at = kPageSize; at < bytes; at += kPageSize)
      ASSERT_EQ(tag_of(static_cast<char*>(p) + at), 0u) << "only its start is known";
    memset(p, 1, bytes);
    const size_t free_pages = PageHeap::free_pages(), dirty_pages = PageHeap::dirty_pages();
    unsigned misses = 0;
    for (int i = 0; i < 1000; i++) {
      free_hot(p);
      if (test::bin_length(tc, slot) == 0) {
        misses++;
      } else {
        ASSERT_EQ(PageHeap::free_pages(), free_pages) << "the page heap knows nothing of it";
        ASSERT_EQ(PageHeap::dirty_pages(), dirty_pages);
      }
      void* q = malloc_hot(i % 2 == 0 ? bytes : bytes - kPageSize + 1);
      ASSERT_EQ(q, p);
    }
    EXPECT_LE(misses, 1u) << "a bin of one block is full when its room has leaked away; then its limit grows";
    for (int i = 0; i < 3; i++) {
      free_hot(p);
      void* q = i == 0 ? api::calloc(1, bytes) : i == 1 ? api::memalign(kPageSize, bytes) : api::memalign(64, bytes - 100);
      ASSERT_EQ(q, p);
    }
    EXPECT_EQ(api::usable_size(p), bytes);
    free_hot(p);
  }
}

TEST_F(LargeBins, ACallThatSeesTimePassGetsItsBlockAllTheSame) {
  const Slot slot = slot_of(100000);
  for (uint32_t hits = 0; hits < 64; hits++) {
    void* p = malloc_hot(100000);
    free_hot(p);
    ASSERT_EQ(tc->head[slot], p);
    tc->seen_room[slot] = tc->room[slot];  // the bin has been idle for long, and is looked at next
    tc->next_trim = slot - 1;
    tc->now_ms = 0;
    tc->trimmed_ms = os::now_ms() - 10 * kPurgeDecayMs - 1;
    tc->large_hits = hits;
    ASSERT_EQ(malloc_hot(100000), p);
    free_hot(p);
    empty_bin(tc, slot);
  }
}

TEST_F(LargeBins, SizesAndAlignmentsWithoutAClassHaveNoBin) {
  for (auto [alignment, bytes] : {std::pair{size_t{16}, kMaxBinBytes + 1}, {2 * kPageSize, size_t{40000}}}) {
    void* p = api::memalign(alignment, bytes);
    EXPECT_EQ(tag_of(p), make_tag(kLargeSlot, tc->shard));
    EXPECT_EQ(api::usable_size(p), round_up(bytes, kPageSize));
    free_hot(p);
    EXPECT_EQ(tag_of(p), 0u);
  }
}

// One block at first, and as many as the most of the class when a bin overflows and runs empty again and again.
TEST_F(LargeBins, BinsKeepTheirBoundsAndGrow) {
  for (Slot slot : {kFirstLarge + 1, slot_of(100000), kSlots - 1}) {
    const ClassInfo& c = class_info(slot);
    unsigned longest = 0;
    const auto pass = [&](unsigned n) {
      Blocks blocks;
      for (unsigned i = 0; i < n; i++) blocks.push_back(malloc_hot(c.size));
      for (void* b : blocks) {
        free_hot(b);
        ASSERT_NO_FATAL_FAILURE(test::expect_bounded(tc, slot));
        longest = std::max(longest, test::bin_length(tc, slot));
      }
    };
    EXPECT_EQ(tc->limit[slot], c.limit_first);
    pass(1);
    EXPECT_EQ(test::bin_length(tc, slot), 1u);
    pass(20);
    EXPECT_EQ(tc->limit[slot], c.limit_first) << "it had not run empty after an overflow";
    EXPECT_LE(longest, c.limit_first + 3u);
    for (int i = 0; i < 6; i++) pass(40);
    EXPECT_EQ(tc->limit[slot], c.limit_most);
    EXPECT_GE(longest, 2 * (c.limit_most / 2u) - 1) << "one list that is full and one that is nearly";
    EXPECT_EQ(tc->granted, (c.limit_most - c.limit_first) * size_t{c.size});
    EXPECT_EQ(runs(c.size), test::bin_length(tc, slot)) << "the others went back";
    flush_cache(tc);
    reset_limits(tc);
  }
}

TEST_F(LargeBins, FlushTrimAndAgeGiveThemBack) {
  for (int way = 0; way < 3; way++) {
    Blocks blocks;
    for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) blocks.push_back(malloc_hot(class_bytes(slot)));
    for (void* b : blocks) free_hot(b);
    EXPECT_EQ(test::blocks_in_bins(tc), blocks.size());
    const size_t free_pages = PageHeap::free_pages();
    if (way == 0) flush_cache(tc);
    if (way == 1) api::trim();
    if (way == 2) {
      test::look_at_bins(tc);
      EXPECT_EQ(test::blocks_in_bins(tc), blocks.size()) << "in use since the last look";
      test::look_at_bins(tc);
    }
    EXPECT_EQ(test::blocks_in_bins(tc), 0u);
    for (void* b : blocks) ASSERT_EQ(tag_of(b), 0u);
    size_t pages = 0;
    for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) {
      pages += class_info(slot).run.pages;
      EXPECT_EQ(Central::of(tc->shard).runs(slot), 0u);
    }
    if (way != 1 && kPurgeReservePages != 0) {
      EXPECT_EQ(PageHeap::free_pages(), free_pages + pages);
    }
    Central::of(tc->shard).check();
  }
}

TEST_F(LargeBins, TheEndOfAThreadGivesThemBack) {
  Blocks blocks;
  test::in_thread([&] {
    for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) blocks.push_back(malloc_hot(class_bytes(slot)));
    for (void* b : blocks) free_hot(b);
    EXPECT_EQ(test::blocks_in_bins(tls_own), blocks.size());
  });
  for (void* b : blocks) EXPECT_EQ(tag_of(b), 0u);
}

TEST_F(LargeBins, AThreadWithoutACacheIsServedWithoutABin) {
  test::in_thread([] {
    tls_cache = &ended_cache;
    for (size_t bytes : {size_t{33000}, size_t{100000}, kMaxBinBytes}) {
      char* p = static_cast<char*>(malloc_hot(bytes));
      char* q = static_cast<char*>(api::calloc(1, bytes));
      EXPECT_EQ(tag_of(p), make_tag(slot_of(bytes), 0));
      EXPECT_TRUE(test::all_bytes(q, bytes, 0));
      memset(p, 1, bytes);
      free_hot(p);
      EXPECT_EQ(tag_of(p), 0u) << "it went back";
      free_hot(q);
    }
    EXPECT_EQ(test::blocks_in_bins(&ended_cache), 0u);
  });
}

// --- calloc ----------------------------------------------------------------------------------------------------------------

TEST_F(LargeBins, CallocIsZeroWhereverTheBlockComesFrom) {
  for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) {
    const size_t bytes = class_bytes(slot);
    enum { Fresh, FromTheBin, FromUsedPages, FromPurgedPages, kWays };
    for (int way = Fresh; way < kWays; way++) {
      char* p = static_cast<char*>(api::calloc(bytes / 16, 16));
      ASSERT_TRUE(test::all_bytes(p, bytes, 0)) << bytes << " " << way;
      memset(p, 0xee, bytes);
      free_hot(p);
      if (way + 1 == FromUsedPages) flush_cache(tc);
      if (way + 1 == FromPurgedPages) api::trim();
    }
    flush_cache(tc);
  }
}

// --- other threads' blocks -------------------------------------------------------------------------------------------------

class RemoteLargeBins : public LargeBins {
 protected:
  void SetUp() override {
    if constexpr (kShards < 2) GTEST_SKIP();
    LargeBins::SetUp();
  }
};

TEST_F(RemoteLargeBins, AThreadThatDoesNotAllocateFromTheClassSendsThemToTheirOwnerAtOnce) {
  for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) {
    for (void* b : test::blocks_of(other_shard(), slot, 3)) {
      free_hot(b);
      ASSERT_EQ(tag_of(b), 0u) << "its run is dissolved";
      ASSERT_EQ(tc->head[slot], nullptr);
    }
    EXPECT_EQ(tc->stash.entries(), 0u);
    EXPECT_TRUE(Inbox::of(other_shard()).empty());
    EXPECT_EQ(Central::of(other_shard()).runs(slot), 0u);
  }
  Central::of(other_shard()).check();
}

TEST_F(RemoteLargeBins, AThreadThatAllocatesFromTheClassKeepsThem) {
  for (Slot slot : {kFirstLarge + 1, slot_of(100000), kSlots - 1}) {
    const size_t bytes = class_bytes(slot);
    void* mine = malloc_hot(bytes);
    void* foreign = test::blocks_of(other_shard(), slot, 1).front();
    free_hot(foreign);
    EXPECT_EQ(tc->head[slot], foreign) << "as its own";
    EXPECT_EQ(malloc_hot(bytes), foreign);
    EXPECT_EQ(tag_of(foreign), make_tag(slot, other_shard())) << "it knows its owner for ever";
    free_hot(foreign);
    // Its own is of another shard than the others: all go home, each to its owner.
    free_hot(mine);
    flush_cache(tc);
    for (void* b : {foreign, mine}) EXPECT_EQ(tag_of(b), 0u);
    EXPECT_EQ(tc->stash.entries(), 0u);
    EXPECT_TRUE(Inbox::of(other_shard()).empty());
    EXPECT_EQ(Central::of(other_shard()).runs(slot), 0u);
  }
}

TEST_F(RemoteLargeBins, ThreadsThatHandThemToEachOther) {
  constexpr unsigned kThreads = 4, kExchange = 16;
  std::vector<std::atomic<uint64_t*>> exchange(kExchange);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::Random random(t + 1);
      for (int step = 0; step < 2000; step++) {
        const size_t bytes = kMaxTierBytes + 1 + random.below(kMaxBinBytes);
        uint64_t* p = static_cast<uint64_t*>(malloc_hot(bytes));
        p[0] = p[bytes / 8 - 1] = reinterpret_cast<uintptr_t>(p);
        p[1] = bytes;
        uint64_t* q = exchange[random.below(kExchange)].exchange(p);
        if (q == nullptr) continue;
        ASSERT_EQ(q[0], reinterpret_cast<uintptr_t>(q)) << "a block is in one place";
        ASSERT_EQ(q[q[1] / 8 - 1], reinterpret_cast<uintptr_t>(q));
        if (random.below(4) == 0) {
          const size_t now = kMaxTierBytes + 1 + random.below(kMaxBinBytes);
          q = static_cast<uint64_t*>(api::realloc(q, now));
          ASSERT_GE(api::usable_size(q), now);
        }
        free_hot(q);
        ASSERT_EQ(tls_own->stash.entries(), 0u) << "none waits in the stash";
      }
    });
  for (std::thread& t : threads) t.join();
  for (std::atomic<uint64_t*>& b : exchange) free_hot(b);
}

// --- realloc in place ------------------------------------------------------------------------------------------------------

class ReallocLargeBins : public LargeBins {
 protected:
  void expect_class(const void* p, size_t bytes, unsigned shard) const {
    const Slot slot = slot_of(bytes);
    EXPECT_EQ(tag_of(p), make_tag(slot, shard));
    EXPECT_EQ(run_of(p)->slot, slot);
    EXPECT_EQ(size_t{run_of(p)->pages} * kPageSize, class_bytes(slot));
    EXPECT_EQ(api::usable_size(const_cast<void*>(p)), class_bytes(slot));
    EXPECT_EQ(Central::of(shard).runs(slot), 1u);
    Central::of(shard).check();
  }
};

TEST_F(ReallocLargeBins, GrowsAndShrinksBetweenClasses) {
  api::trim();
  char* p = static_cast<char*>(malloc_hot(kMaxTierBytes + 1));
  size_t bytes = kMaxTierBytes + 1;
  memset(p, 7, bytes);
  for (size_t to : {60000ul, 61441ul, 150000ul, 262144ul, 131072ul, 200000ul, 90000ul, 40000ul, 262144ul, 33000ul}) {
    const size_t free_pages = PageHeap::free_pages();
    const size_t had = class_bytes(slot_of(bytes)), has = class_bytes(slot_of(to));
    ASSERT_EQ(api::realloc(p, to), p) << bytes << " to " << to;
    EXPECT_EQ(PageHeap::free_pages() + has / kPageSize, free_pages + had / kPageSize) << "what is not needed is free";
    expect_class(p, to, tc->shard);
    EXPECT_EQ(runs(bytes), 0u);
    EXPECT_TRUE(test::all_bytes(p, std::min(bytes, to), 7)) << bytes << " to " << to;
    memset(p, 7, class_bytes(slot_of(to)));
    bytes = to;
  }
  free_hot(p);
  EXPECT_EQ(tc->head[slot_of(bytes)], p) << "it is in the bin of the class that it has now";
}

TEST_F(ReallocLargeBins, MoreThanHalfOfItStays) {
  char* p = static_cast<char*>(malloc_hot(262144));
  EXPECT_EQ(api::realloc(p, 131073), p);
  expect_class(p, 262144, tc->shard);
  free_hot(p);
}

TEST_F(ReallocLargeBins, GrowsOutOfTheClassesInPlaceAndIsALargeBlockFromThenOn) {
  api::trim();
  char* p = static_cast<char*>(malloc_hot(50000));
  memset(p, 7, 50000);
  ASSERT_EQ(api::realloc(p, 300000), p);
  EXPECT_EQ(tag_of(p), make_tag(kLargeSlot, tc->shard));
  EXPECT_EQ(api::usable_size(p), round_up(size_t{300000}, kPageSize)) << "by pages, not by classes";
  EXPECT_EQ(runs(50000), 0u) << "it is no class's";
  Central::of(tc->shard).check();
  EXPECT_TRUE(test::all_bytes(p, 50000, 7));
  memset(p, 7, 300000);
  ASSERT_EQ(api::realloc(p, 50000), p);
  EXPECT_EQ(tag_of(p), make_tag(kLargeSlot, tc->shard));
  EXPECT_EQ(api::usable_size(p), round_up(size_t{50000}, kPageSize));
  EXPECT_TRUE(test::all_bytes(p, 50000, 7));
  free_hot(p);
  EXPECT_EQ(tag_of(p), 0u);
  EXPECT_EQ(tc->head[slot_of(50000)], nullptr);
}

TEST_F(ReallocLargeBins, MovesToATierAndToASpan) {
  for (size_t to : {size_t{20000}, kMaxTierBytes, kSpanMinBytes + 1, 5 * kMiB}) {
    char* p = static_cast<char*>(malloc_hot(100000));
    memset(p, 7, 100000);
    char* q = static_cast<char*>(api::realloc(p, to));
    ASSERT_NE(q, nullptr);
    EXPECT_NE(q, p);
    EXPECT_TRUE(test::all_bytes(q, std::min(to, size_t{100000}), 7));
    EXPECT_EQ(tag_slot(tag_of(q)), to <= kMaxTierBytes ? slot_of(to) : kLargeSlot);
    EXPECT_EQ(tc->head[slot_of(100000)], p) << "the old block is in its bin";
    free_hot(q);
  }
}

// The pages behind it are in use: a copy, or with no memory for one the block as it was.
TEST_F(ReallocLargeBins, ANeighbourIsInTheWay) {
  api::trim();
  char* p = static_cast<char*>(malloc_hot(100000));
  char* behind = static_cast<char*>(malloc_hot(100000));
  ASSERT_EQ(behind, p + class_bytes(slot_of(100000)));
  memset(p, 7, 100000);
  for (size_t to : {size_t{150000}, kMaxBinBytes + 1}) {
    Blocks blocks;
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    while (void* b = malloc_hot(to)) {
      blocks.push_back(b);
      ASSERT_LT(blocks.size(), 10000u);
    }
    errno = 0;
    EXPECT_EQ(api::realloc(p, to), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_FALSE(large::resize_binned_in_place(p, to));
    EXPECT_EQ(tag_of(p), make_tag(slot_of(100000), tc->shard));
    EXPECT_EQ(api::usable_size(p), class_bytes(slot_of(100000)));
    EXPECT_EQ(runs(100000), 2u);
    EXPECT_TRUE(test::all_bytes(p, 100000, 7));
    // A shrink needs no memory.
    EXPECT_EQ(api::realloc(p, 45000), p);
    expect_class(p, 45000, tc->shard);
    EXPECT_TRUE(test::all_bytes(p, 45000, 7));
    EXPECT_EQ(api::realloc(p, 100000), p) << "nobody has taken what it gave back";
    memset(p, 7, 100000);
    for (void* b : blocks) free_hot(b);
    flush_cache(tc);
  }
  char* q = static_cast<char*>(api::realloc(p, 150000));
  ASSERT_NE(q, nullptr);
  EXPECT_NE(q, p);
  EXPECT_TRUE(test::all_bytes(q, 100000, 7));
  EXPECT_EQ(tc->head[slot_of(100000)], p);
  free_hot(q);
  free_hot(behind);
}

TEST_F(ReallocLargeBins, WithoutMemoryABlockThatShrinksIntoATierStays) {
  char* p = static_cast<char*>(malloc_hot(100000));
  memset(p, 7, 100000);
  Blocks blocks;
  {
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    for (size_t each : {size_t{262144}, size_t{20000}})
      while (void* b = malloc_hot(each)) {
        blocks.push_back(b);
        ASSERT_LT(blocks.size(), 100000u);
      }
    EXPECT_EQ(api::realloc(p, 20000), p) << "a block never fails to shrink";
    EXPECT_TRUE(test::all_bytes(p, 100000, 7));
    expect_class(p, 100000, tc->shard);
  }
  for (void* b : blocks) free_hot(b);
  free_hot(p);
}

TEST_F(ReallocLargeBins, OfAnotherShardStaysTheOwners) {
  if constexpr (kShards < 2) GTEST_SKIP();
  api::trim();
  char* p = static_cast<char*>(test::blocks_of(other_shard(), slot_of(100000), 1).front());
  memset(p, 7, 100000);
  ASSERT_EQ(api::realloc(p, 200000), p);
  expect_class(p, 200000, other_shard());
  EXPECT_EQ(Central::of(other_shard()).runs(slot_of(100000)), 0u);
  ASSERT_EQ(api::realloc(p, 50000), p);
  expect_class(p, 50000, other_shard());
  EXPECT_TRUE(test::all_bytes(p, 50000, 7));
  free_hot(p);
  EXPECT_EQ(tag_of(p), 0u);
}

TEST_F(ReallocLargeBins, NotForSizesOfOtherWays) {
  void* p = malloc_hot(100000);
  EXPECT_FALSE(large::resize_binned_in_place(p, kMaxTierBytes));
  EXPECT_FALSE(large::resize_binned_in_place(p, kSpanMinBytes + 1));
  expect_class(p, 100000, tc->shard);
  EXPECT_TRUE(large::resize_binned_in_place(p, 99999)) << "nothing to do";
  expect_class(p, 100000, tc->shard);
  free_hot(p);
}

TEST_F(LargeBins, ARunChangesItsClassAndTheCountsFollow) {
  Central& central = Central::of(tc->shard);
  const Slot from = slot_of(100000), to = slot_of(50000);
  const Blocks blocks = test::blocks_of(tc->shard, from, 3);
  EXPECT_EQ(central.runs(from), 3u);
  central.reclassify(run_of(blocks[0]), to);
  EXPECT_EQ(central.runs(from), 2u);
  EXPECT_EQ(central.runs(to), 1u);
  central.check();
  central.reclassify(run_of(blocks[0]), kLargeSlot);
  EXPECT_EQ(central.runs(to), 0u);
  central.check();
  central.reclassify(run_of(blocks[1]), from);
  EXPECT_EQ(central.runs(from), 2u);
  large::free(blocks[0], tag_of(blocks[0]));
  test::give_back({blocks[1], blocks[2]});
  EXPECT_EQ(central.runs(from), 0u);
}

}  // namespace
}  // namespace hz3
