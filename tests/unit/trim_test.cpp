// malloc_trim() gives back everything that is free: counted page by page, with what the kernel says is in memory.
#include <sys/mman.h>

#include "hz3/bins.hpp"
#include "hz3/depot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Worker;

constexpr size_t kSizes[] = {16,    64,    100,    1000,   2048,   3000,    4096,   20000,
                             32768, 50000, 200000, 400000, 900000, 3 << 20, 9 << 20};

// The pages of the first arena that are in memory.
std::set<const char*> resident_pages() {
  std::set<const char*> pages;
  const char* base = reinterpret_cast<const char*>(hot_map.base);
  std::vector<unsigned char> seen(kSegmentPages);
  for (size_t at = 0; at + kSegmentPages <= hot_map.pages; at += kSegmentPages) {
    char* segment = const_cast<char*>(base) + (at << kPageShift);
    if (mincore(segment, kSegmentBytes, seen.data()) != 0) continue;  // nothing is mapped there
    for (unsigned i = 0; i < kSegmentPages; i++)
      if ((seen[i] & 1) != 0) pages.insert(segment + (size_t{i} << kPageShift));
  }
  return pages;
}

class Trim : public testing::Test {
 protected:
  void SetUp() override {
    if (os::page_size() != kPageSize) GTEST_SKIP() << "pages are counted as the kernel does";
    test::no_ticks();
    tc = test::my_cache();
    api::trim();
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  // The pages of the runs that these blocks are in.
  static void add_runs(std::set<const char*>& pages, const Blocks& blocks) {
    for (void* b : blocks) {
      const hz3::Run* run = run_of(b);
      for (unsigned i = 0; i < run->pages; i++) pages.insert(run->start + (size_t{i} << kPageShift));
    }
  }
  static Blocks in_bins(const ThreadCache* cache) {
    Blocks blocks;
    for (Slot slot = 1; slot < kSlots; slot++)
      for (void* list : {cache->head[slot], cache->second[slot]})
        for (void* b : test::blocks_in(list)) blocks.push_back(b);
    return blocks;
  }
  static void* written(size_t bytes) { return memset(malloc_hot(bytes), 1, bytes); }
  static bool nothing_waits() {
    for (unsigned i = 0; i < kShards; i++)
      if (!remote::Inbox::of(i).empty() || Central::of(i).has_spares()) return false;
    for (Slot slot = 1; slot < kSlots; slot++)
      if (Depot::of(slot).blocks() != 0) return false;
    return PageHeap::dirty_pages() == 0 && large::cached_span_bytes() == 0;
  }
  ThreadCache* tc = nullptr;
};

TEST_F(Trim, AfterEverythingWasFreedNoPageIsInMemory) {
  Blocks blocks;
  for (size_t size : kSizes)
    for (size_t held = 0; held < (1 << 20) || held == 0; held += size) blocks.push_back(written(size));
  EXPECT_GT(resident_pages().size(), 10u << (20 - kPageShift));
  for (void* b : blocks) free_hot(b);
  EXPECT_EQ(api::trim(), 1);
  EXPECT_EQ(resident_pages().size(), 0u);
  EXPECT_TRUE(nothing_waits());
  EXPECT_EQ(api::trim(), 0);
}

// Threads free each other's blocks, so that stashes, inboxes and the depot have some; one ends, the others sleep with what is
// in their bins. In memory is what is in use or in their bins, and the rest of the runs that have such blocks.
TEST_F(Trim, WhatIsInMemoryIsInRunsThatAreInUse) {
  Worker sleepers[3];
  Blocks kept;
  test::Random random(7);
  const auto churn = [&random](Blocks& live, unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
      const size_t size = kSizes[random.below(random.below(50) == 0 ? std::size(kSizes) : 9)];
      live.push_back(written(size));
      if (live.size() < 400) continue;
      std::swap(live[random.below(live.size())], live.back());
      free_hot(live.back());
      live.pop_back();
    }
  };
  Blocks live;
  for (unsigned round = 0; round < 12; round++) {
    sleepers[round % 3].run([&] { churn(live, 2000); });
    test::in_thread([&] { churn(live, 500); });
    churn(live, 1000);
  }
  for (size_t i = 0; i < live.size(); i++) {
    if (i % 40 == 0) {
      kept.push_back(live[i]);
    } else if (i % 2 == 0) {
      free_hot(live[i]);
    } else {
      sleepers[i % 3].run([&] { free_hot(live[i]); });
    }
  }
  for (Worker& sleeper : sleepers) sleeper.run([] { tls_own->stash.stash_flush_all(); });
  EXPECT_FALSE(nothing_waits());

  EXPECT_EQ(api::trim(), 1);
  EXPECT_TRUE(nothing_waits());
  EXPECT_EQ(test::blocks_in_bins(tc), 0u);
  EXPECT_EQ(tc->stash.entries(), 0u);
  std::set<const char*> allowed;
  add_runs(allowed, kept);
  for (Worker& sleeper : sleepers) add_runs(allowed, in_bins(sleeper.cache()));
  size_t wrong = 0;
  for (const char* page : resident_pages()) wrong += allowed.count(page) != 0 ? 0 : 1;
  EXPECT_EQ(wrong, 0u) << "pages in memory that belong to nobody";
  for (void* b : kept) free_hot(b);
  for (Worker& sleeper : sleepers) sleeper.run([] { flush_cache(tls_own); });
}

// Those of threads that have ended wait for new ones; what is in them is given back.
TEST_F(Trim, StructuresOfThreadsThatEndedAreGivenBack) {
  std::vector<const char*> pages;
  const auto add_pages = [&pages](const ThreadCache* cache) {
    const uintptr_t first = round_up(reinterpret_cast<uintptr_t>(&cache->head), kPageSize);
    for (uintptr_t at = first; at + kPageSize <= reinterpret_cast<uintptr_t>(cache + 1); at += kPageSize)
      pages.push_back(reinterpret_cast<const char*>(at));
  };
  {
    Worker workers[4];
    for (Worker& worker : workers) add_pages(worker.cache());
  }
  ASSERT_FALSE(pages.empty());
  const auto resident = [&pages] {
    size_t n = 0;
    for (const char* page : pages) {
      unsigned char seen = 0;
      EXPECT_EQ(mincore(const_cast<char*>(page), kPageSize, &seen), 0);
      n += seen & 1;
    }
    return n;
  };
  EXPECT_GT(resident(), 0u);
  api::trim();
  EXPECT_EQ(resident(), 0u);
  Worker again;
  again.run([] {
    void* b = malloc_hot(100);
    free_hot(b);
    EXPECT_EQ(malloc_hot(100), b);
    free_hot(b);
  });
}

}  // namespace
}  // namespace hz3
