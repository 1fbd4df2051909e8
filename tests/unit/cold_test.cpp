// Pages that runs with blocks in use give back: which ones, when, and that every block stays in one place.
#include <cstring>
#include <map>

#include "hz3/settings.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

Central::Work cool(unsigned idle_ticks, unsigned shard = 0) {
  Central::Work work{UINT32_MAX, UINT32_MAX, UINT32_MAX};
  if (idle_ticks != 0) Central::of(shard).age();
  Central::of(shard).cool(idle_ticks, work);
  return work;
}

// The name of a type of its own in GoogleTest is Run, too.
using PageRun = hz3::Run;

class Cold : public testing::Test {
 protected:
  void SetUp() override {
    if (settings::huge_pages() == HugePages::Always || os::page_size() != kPageSize)
      GTEST_SKIP() << "pages of runs in use do not go back here";
    test::no_ticks();
  }
  void TearDown() override {
    give_short_ones_back();
    EXPECT_NOTHING_LOST();
  }

  static void fill(const Blocks& blocks, unsigned char value) {
    for (void* b : blocks) memset(b, value, class_bytes(tag_slot(tag_of(b))));
  }
  static unsigned resident(const PageRun* run) { return os::resident_pages(run->start, size_t{run->pages} << kPageShift); }
  // The short runs stay in use.
  Blocks whole_run(Slot slot) { return test::whole_run(0, slot, short_); }
  void give_short_ones_back() {
    test::give_back(short_);
    short_.clear();
  }
  // What the kernel keeps of a run: the pages that its blocks in use have a part of.
  static unsigned pages_in_use(const PageRun* run, const Blocks& in_use) {
    std::set<size_t> pages;
    for (const void* b : in_use) {
      const size_t at = static_cast<size_t>(static_cast<const char*>(b) - run->start);
      for (size_t page = at >> kPageShift; page <= (at + class_bytes(run->slot) - 1) >> kPageShift; page++) pages.insert(page);
    }
    return static_cast<unsigned>(pages.size());
  }
  Central& central = Central::of(0);
  Blocks short_;
};

TEST_F(Cold, PagesWithoutABlockInUseGoBack) {
  for (Slot slot = 1; slot <= kTierBins; slot++) {
    SCOPED_TRACE(class_bytes(slot));
    const Blocks blocks = whole_run(slot);
    PageRun* const run = run_of(blocks[0]);
    ASSERT_EQ(run->carved, run->capacity);
    if (run->pages > PageRun::kColdPages || blocks.size() < 2) {
      test::give_back(blocks);
      give_short_ones_back();
      continue;
    }
    fill(blocks, 0xee);
    const size_t kept = blocks.size() / 2;
    Blocks others = blocks;
    others.erase(others.begin() + static_cast<ptrdiff_t>(kept));
    test::give_back(others);
    if (!central.has_warm()) {  // too many are in use
      EXPECT_LE(others.size() * 2, blocks.size());
      test::give_back({blocks[kept]});
      give_short_ones_back();
      continue;
    }
    cool(0);
    central.check();
    EXPECT_FALSE(central.has_warm());
    // Its last page may have an end that no block has a part of.
    EXPECT_LE(resident(run), pages_in_use(run, {blocks[kept]}) + 1);
    EXPECT_TRUE(test::all_bytes(blocks[kept], class_bytes(slot), 0xee));
    EXPECT_EQ(central.returned(slot), others.size());
    EXPECT_EQ(central.totals().free_bytes, others.size() * class_bytes(slot));
    const Blocks again = test::blocks_of(0, slot, static_cast<unsigned>(others.size()));
    EXPECT_EQ(test::as_set(again), test::as_set(others)) << "each of them is there, once";
    fill(again, 0xdd);
    EXPECT_TRUE(test::all_bytes(blocks[kept], class_bytes(slot), 0xee));
    test::give_back(again);
    test::give_back({blocks[kept]});
    give_short_ones_back();
    EXPECT_EQ(central.totals().runs, 0u);
  }
}

TEST_F(Cold, TheLastBlockOfARunWithColdPagesEndsIt) {
  const Slot slot = slot_of(16384);
  const Blocks blocks = whole_run(slot);
  test::give_back({blocks.begin() + 1, blocks.end()});
  cool(0);
  EXPECT_EQ(tag_of(blocks[0]), make_tag(slot, 0));
  test::give_back({blocks[0]});
  EXPECT_EQ(tag_of(blocks[0]), 0u);
}

// Random blocks come, go and stay, in whatever part of their runs was carved, while pages go back.
TEST_F(Cold, BlocksStayInOnePlace) {
  test::Random random(7);
  for (unsigned round = 0; round < 300; round++) {
    const Slot slot = 1 + static_cast<Slot>(random.below(kTierBins));
    const size_t size = class_bytes(slot);
    SCOPED_TRACE(testing::Message() << "round " << round << ", blocks of " << size);
    std::map<void*, unsigned char> live;
    for (unsigned step = 0; step < 40; step++) {
      const unsigned n = 1 + static_cast<unsigned>(random.below(class_info(slot).run.blocks));
      if (live.size() < 4u * class_info(slot).run.blocks && random.below(2) != 0) {
        for (void* b : test::blocks_of(0, slot, n)) {
          const auto value = static_cast<unsigned char>(random.below(256));
          ASSERT_TRUE(live.emplace(b, value).second) << "a block is in two places";
          memset(b, value, size);
        }
      } else {
        Blocks back;
        for (unsigned i = 0; i < n && !live.empty(); i++) {
          auto at = live.lower_bound(
              reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(live.begin()->first) + random.below(1 << 20)));
          if (at == live.end()) at = live.begin();
          ASSERT_TRUE(test::all_bytes(at->first, size, at->second)) << "a page of a block in use went back";
          back.push_back(at->first);
          live.erase(at);
        }
        test::give_back(back);
      }
      if (random.below(3) == 0) cool(static_cast<unsigned>(random.below(3)));
      central.check();
    }
    Blocks rest;
    for (auto [b, value] : live) {
      ASSERT_TRUE(test::all_bytes(b, size, value));
      rest.push_back(b);
    }
    test::give_back(rest);
    ASSERT_EQ(central.totals().runs, 0u);
  }
}

TEST_F(Cold, ARunHasToBeIdleForSoLong) {
  const Slot slot = slot_of(16384);
  const Blocks blocks = whole_run(slot);
  const PageRun* const run = run_of(blocks[0]);
  fill(blocks, 1);
  const unsigned all = resident(run);
  test::give_back({blocks[1]});
  cool(3);
  cool(3);
  test::give_back({blocks[2]});
  cool(3);
  cool(3);
  EXPECT_EQ(resident(run), all) << "a block came back meanwhile";
  cool(3);
  EXPECT_EQ(resident(run), all - 8);
  test::give_back({blocks[0]});
  test::give_back({blocks.begin() + 3, blocks.end()});
}

TEST_F(Cold, RefillsTakeFromThemLast) {
  const Slot slot = slot_of(16384);
  const Blocks idle = whole_run(slot), other = whole_run(slot);
  test::give_back({idle.begin() + 1, idle.end()});
  cool(0);
  test::give_back({other[0]});
  const Blocks one = test::blocks_of(0, slot, 1);
  EXPECT_EQ(one[0], other[0]);
  const Blocks two = test::blocks_of(0, slot, 1);
  EXPECT_EQ(run_of(two[0]), run_of(idle[0]));
  test::give_back({idle[0]});
  test::give_back(two);
  test::give_back(other);
}

TEST_F(Cold, RunsWithoutAFreePageAreNotLookedAt) {
  const Blocks blocks = test::blocks_of(0, slot_of(64), class_info(slot_of(64)).run.blocks / 2);
  EXPECT_FALSE(central.has_warm()) << "blocks of fresh pages wait";
  test::give_back({blocks[0]});
  EXPECT_FALSE(central.has_warm());
  test::give_back({blocks.begin() + 1, blocks.end()});
}

// It is where it was on its list, but has a block now that came back.
TEST_F(Cold, ARunThatWasNotCarvedToItsEndIsLookedAt) {
  const Slot slot = slot_of(8192);
  const Blocks whole = whole_run(slot), some = test::blocks_of(0, slot, 4);
  fill(some, 1);
  cool(0);
  const unsigned before = resident(run_of(some[1]));
  test::give_back({some[1]});
  EXPECT_TRUE(central.has_warm());
  cool(0);
  EXPECT_LT(resident(run_of(some[1])), before);
  test::give_back({some[0], some[2], some[3]});
  test::give_back(whole);
}

TEST_F(Cold, TheKernelMayRefuse) {
  const Slot slot = slot_of(8192);
  const Blocks blocks = whole_run(slot);
  fill(blocks, 0xee);
  const Blocks others{blocks.begin() + 1, blocks.end()};
  test::give_back(others);
  Kernel kernel;
  kernel.refuse(Call::Advise);
  cool(0);
  EXPECT_GT(kernel.refused(Call::Advise), 0u);
  kernel.allow();
  central.check();
  EXPECT_EQ(test::as_set(test::blocks_of(0, slot, static_cast<unsigned>(others.size()))), test::as_set(others));
  test::give_back(blocks);
}

TEST_F(Cold, NotWhereAllAreHugePages) {
  const Blocks blocks = whole_run(slot_of(8192));
  test::give_back({blocks.begin() + 1, blocks.end()});
  const int before = settings::values[settings::kHugePages].exchange(static_cast<int>(HugePages::Always));
  EXPECT_FALSE(central.has_warm());
  settings::values[settings::kHugePages] = before;
  EXPECT_TRUE(central.has_warm());
  test::give_back({blocks[0]});
}

// What was given back already, and not used since, is not given back again.
TEST_F(Cold, PagesGoOnce) {
  for (size_t size : {6000, 8192, 12000, 16384}) {
    SCOPED_TRACE(size);
    const Blocks blocks = whole_run(slot_of(size));
    fill(blocks, 1);
    test::give_back({blocks.begin() + 1, blocks.end()});
    EXPECT_GT(UINT32_MAX - cool(0).calls, 0u);
    const Blocks one = test::blocks_of(0, slot_of(size), 1);
    test::give_back(one);
    Kernel kernel;
    cool(0);
    EXPECT_LE(kernel.calls(Call::Advise), 1u);
    cool(0);
    EXPECT_LE(kernel.calls(Call::Advise), 1u);
    test::give_back({blocks[0]});
    give_short_ones_back();
  }
}

// Runs that have no page to give do not use up the looks of all ticks, nor keep those who wait for nothing awake.
TEST_F(Cold, RunsWithoutAPageAreLookedAtOnce) {
  const Slot tiny = slot_of(64), other = slot_of(16384);
  Blocks kept, back;
  for (unsigned i = 0; i < 500; i++) {
    const Blocks blocks = whole_run(tiny);
    for (size_t n = 0; n < blocks.size(); n++) (n == 0 || n + 1 == blocks.size() ? kept : back).push_back(blocks[n]);
  }
  test::give_back(back);
  const Blocks sparse = whole_run(other);
  test::give_back({sparse.begin() + 1, sparse.end()});
  unsigned ticks = 0;
  for (; central.has_warm(); ticks++) {
    ASSERT_LT(ticks, 1000u);
    Central::Work work{8192, 8192, 512};
    central.age();
    central.cool(1, work);
    if (ticks == 2) {
      EXPECT_LE(resident(run_of(sparse[0])), 5u) << "a class behind has its turn";
    }
  }
  EXPECT_GT(ticks, 3u);
  test::give_back(kept);
  test::give_back({sparse[0]});
}

// A block that was freed twice makes a ring of a list.
TEST_F(Cold, ABrokenListIsLeftAlone) {
  const Blocks blocks = whole_run(slot_of(8192));
  test::give_back({blocks[0], blocks[1], blocks[2]});
  PageRun* const run = run_of(blocks[0]);
  void* const first = run->free;
  void* const link = link_of(first);
  set_link(first, first);
  cool(0);
  EXPECT_EQ(run->free, first);
  EXPECT_EQ(link_of(first), first);
  set_link(first, link);
  test::give_back({blocks.begin() + 3, blocks.end()});
}

// Others use the run while the kernel has some of its pages in hand.
TEST_F(Cold, ARunIsUsedDuringThePurge) {
  const Slot slot = slot_of(8192);
  const Blocks blocks = whole_run(slot);
  Blocks taken;
  ASSERT_GE(blocks.size(), 8u);
  fill(blocks, 0xee);
  test::give_back({blocks[0], blocks[1], blocks[2], blocks[4]});
  Kernel kernel;
  kernel.at_advice = [&] {
    test::give_back({blocks[3], blocks[5]});
    taken = test::blocks_of(0, slot, 1);  // one of these: the others are the purge's
    EXPECT_TRUE(taken[0] == blocks[3] || taken[0] == blocks[5]);
    memset(taken[0], 0xdd, class_bytes(slot));
    cool(0);  // another purge, of what there is now
    central.check();
  };
  cool(0);
  ASSERT_EQ(taken.size(), 1u);
  central.check();
  EXPECT_TRUE(test::all_bytes(taken[0], class_bytes(slot), 0xdd));
  for (size_t i = 6; i < blocks.size(); i++) EXPECT_TRUE(test::all_bytes(blocks[i], class_bytes(slot), 0xee));
  EXPECT_EQ(central.returned(slot), 5u);
  const Blocks rest = test::blocks_of(0, slot, 5);
  EXPECT_EQ(std::set<void*>(rest.begin(), rest.end()).size(), 5u);
  for (const void* b : rest) EXPECT_TRUE(run_of(b) == run_of(blocks[0]) && b != taken[0]);
  test::give_back(blocks);
}

// All blocks of a run come back while a purge has some of them: it ends with those.
TEST_F(Cold, ARunEndsWithThePurge) {
  const Slot slot = slot_of(16384);
  const Blocks blocks = whole_run(slot);
  test::give_back({blocks[0]});
  Kernel kernel;
  kernel.at_advice = [&] {
    test::give_back({blocks.begin() + 1, blocks.end()});
    EXPECT_NE(tag_of(blocks[1]), 0u);
  };
  cool(0);
  EXPECT_EQ(tag_of(blocks[1]), 0u);
  EXPECT_EQ(central.totals().runs, 0u);
}

TEST_F(Cold, BesideThreadsAtWork) {
  constexpr unsigned kThreads = 3, kSteps = 200000;
  std::atomic<unsigned> working{kThreads};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      test::my_cache();
      test::Random random(t + 11);
      std::vector<std::pair<unsigned char*, size_t>> mine;
      for (unsigned step = 0; step < kSteps; step++) {
        if (mine.size() < 400 && random.below(2 + step / (kSteps / 4)) < 2) {
          const size_t bytes = 1 + random.below(size_t{1} << (4 + random.below(12)));
          unsigned char* const p = static_cast<unsigned char*>(malloc_hot(bytes));
          p[0] = p[bytes - 1] = static_cast<unsigned char>(t + bytes);
          mine.emplace_back(p, bytes);
        } else if (!mine.empty()) {
          const size_t at = random.below(mine.size());
          auto [p, bytes] = mine[at];
          ASSERT_TRUE(p[0] == static_cast<unsigned char>(t + bytes) && p[bytes - 1] == static_cast<unsigned char>(t + bytes));
          free_hot(p);
          mine[at] = mine.back();
          mine.pop_back();
        }
        if (step % 500 == 0) flush_cache(tls_own);
      }
      for (auto [p, bytes] : mine) free_hot(p);
      working--;
    });
  while (working != 0)
    for (unsigned i = 0; i < kShards; i++) cool(i % 2, i);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace hz3
