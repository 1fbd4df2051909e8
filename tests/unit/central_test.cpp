// Central: blocks of a shard's runs, lazily carved, fullest run first, counted, shared by any number of threads.
#include "hz3/central.hpp"

#include <map>
#include <set>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

using test::Call;
using test::Kernel;

class CentralTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  Central& central = Central::of(0);
};

// Takes `n` blocks one batch at a time.
std::vector<void*> take(Central& central, Slot slot, unsigned n) {
  std::vector<void*> blocks;
  while (blocks.size() < n) {
    const Batch batch = test::take_or_make(central, slot, n - static_cast<unsigned>(blocks.size()));
    if (batch.head == nullptr) break;
    EXPECT_EQ(test::list_length(batch.count == 1 && batch.zero ? nullptr : batch.head),
              batch.count == 1 && batch.zero ? 0 : batch.count);
    void* b = batch.head;
    for (unsigned i = 0; i < batch.count; i++) {
      blocks.push_back(b);
      b = link_of(b);
    }
  }
  return blocks;
}

void put(Central& central, const std::vector<void*>& blocks) {
  void* list = nullptr;
  for (void* b : blocks) {
    set_link(b, list);
    list = b;
  }
  central.put(list);
}

TEST_F(CentralTest, BlocksOfEveryClassAreDistinctAlignedAndTagged) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    const std::vector<void*> blocks = take(central, slot, 2 * c.run.blocks + 1);
    ASSERT_EQ(blocks.size(), 2u * c.run.blocks + 1);
    EXPECT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), blocks.size());
    for (void* b : blocks) {
      ASSERT_EQ(tag_of(b), make_tag(slot, 0));
      const hz3::Run* run = run_of(b);
      ASSERT_EQ(static_cast<size_t>(static_cast<char*>(b) - run->start) % c.size, 0u);
      ASSERT_LE(static_cast<char*>(b) + c.size, run->start + (size_t{run->pages} << kPageShift));
      memset(b, 0xee, c.size);
    }
    central.check();
    put(central, blocks);
    central.check();
  }
}

TEST_F(CentralTest, AFreshRunIsCarvedABatchAtATime) {
  const Slot slot = slot_of(64);
  const Batch first = test::take_or_make(central, slot, 10000);
  EXPECT_EQ(first.count, class_info(slot).carve);
  const hz3::Run* run = run_of(first.head);
  EXPECT_EQ(run->carved, first.count);
  EXPECT_EQ(run->capacity, class_info(slot).run.blocks);
  const Batch second = test::take_or_make(central, slot, 1);
  EXPECT_EQ(second.count, 1u);
  EXPECT_EQ(run->carved, first.count + 1u);
  central.put(first.head);
  set_link(second.head, nullptr);
  central.put(second.head);
}

TEST_F(CentralTest, ASingleBlockOfAFreshRunIsKnownToBeZero) {
  const Slot slot = slot_of(8192);
  const Batch fresh = test::take_or_make(central, slot, 1);
  ASSERT_EQ(fresh.count, 1u);
  EXPECT_EQ(fresh.zero, run_of(fresh.head)->zero);
  if (fresh.zero) {
    EXPECT_TRUE(test::all_bytes(fresh.head, class_bytes(slot), 0));
  }
  const Batch next = test::take_or_make(central, slot, 1);  // keeps the run in use
  memset(fresh.head, 1, class_bytes(slot));
  set_link(fresh.head, nullptr);
  central.put(fresh.head);
  const Batch again = test::take_or_make(central, slot, 1);
  EXPECT_EQ(again.head, fresh.head);
  EXPECT_FALSE(again.zero);
  set_link(again.head, nullptr);
  set_link(next.head, nullptr);
  central.put(again.head);
  central.put(next.head);
}

TEST_F(CentralTest, TheFullestRunGivesFirst) {
  const Slot slot = slot_of(1024);
  const unsigned per_run = class_info(slot).run.blocks;
  ASSERT_GE(per_run, 8u);
  const std::vector<void*> blocks = take(central, slot, 3 * per_run);
  std::map<hz3::Run*, std::vector<void*>> by_run;
  for (void* b : blocks) by_run[run_of(b)].push_back(b);
  ASSERT_EQ(by_run.size(), 3u);
  auto it = by_run.begin();
  hz3::Run* sparse = (it++)->first;
  hz3::Run* dense = (it++)->first;
  std::vector<void*>& of_sparse = by_run[sparse];
  std::vector<void*>& of_dense = by_run[dense];
  put(central, {of_dense[0]});
  put(central, {of_sparse.begin(), of_sparse.end() - 1});
  central.check();
  const Batch one = test::take_or_make(central, slot, 1);
  EXPECT_EQ(run_of(one.head), dense) << "so that the sparse one becomes free";
  const Central::Totals totals = central.totals();
  EXPECT_EQ(totals.runs, 1u);
  EXPECT_EQ(totals.free_bytes, size_t{per_run - 1} * class_bytes(slot));
  of_dense[0] = one.head;
  put(central, {of_sparse.back()});
  put(central, of_dense);
  put(central, by_run.rbegin()->second);
}

TEST_F(CentralTest, ARunWhoseBlocksAreAllFreeReturnsItsPages) {
  const Slot slot = slot_of(16384);  // too large for a spare
  const std::vector<void*> blocks = take(central, slot, class_info(slot).run.blocks);
  const size_t free_before = PageHeap::free_pages();
  put(central, blocks);
  EXPECT_GE(PageHeap::free_pages() + kSegmentPages, free_before + class_info(slot).run.pages);
  for (void* b : blocks) EXPECT_EQ(tag_of(b), 0u) << "its pages are nobody's";
  EXPECT_EQ(central.totals().runs, 0u);
}

TEST_F(CentralTest, OneSmallRunIsSpareForATickAndNoLonger) {
  const Slot slot = slot_of(64);
  const std::vector<void*> blocks = take(central, slot, 2 * class_info(slot).run.blocks);
  put(central, blocks);
  unsigned tagged = 0;
  std::set<hz3::Run*> runs;
  for (void* b : blocks)
    if (tag_of(b) != 0) tagged++, runs.insert(run_of(b));
  EXPECT_EQ(tagged, class_info(slot).run.blocks);
  EXPECT_EQ(runs.size(), 1u);
  const Batch batch = test::take_or_make(central, slot, 1);
  EXPECT_EQ(run_of(batch.head), *runs.begin()) << "the bin gets its spare back";
  set_link(batch.head, nullptr);
  central.put(batch.head);
  central.release_spares();
  EXPECT_NE(tag_of(batch.head), 0u);
  central.release_spares();
  EXPECT_EQ(tag_of(batch.head), 0u);
  const Batch fresh = test::take_or_make(central, slot, 1);
  central.put((set_link(fresh.head, nullptr), fresh.head));
  central.release_all_spares();
  EXPECT_EQ(tag_of(fresh.head), 0u);
}

TEST_F(CentralTest, TakesBackItsOwnBlocksOfAnyClassAndReturnsTheOthers) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const Slot slots[] = {slot_of(16), slot_of(64), slot_of(3000), slot_of(8192)};
  Central& other = Central::of(1);
  std::vector<void*> own, foreign, mixed;
  for (Slot slot : slots) {
    for (void* b : take(central, slot, 3)) own.push_back(b);
    for (void* b : take(other, slot, 3)) foreign.push_back(b);
  }
  unsigned at = 0;
  for (size_t i = 0; i < own.size(); i++) {
    mixed.insert(mixed.end(), {own[i], foreign[i]});
    if (i % 3 == 2) std::swap(mixed[at], mixed.back()), at += 2;  // longer and shorter stretches of one owner
  }
  void* list = nullptr;
  for (void* b : mixed) set_link(b, list), list = b;
  std::set<void*> returned;
  for (void* b = central.put(list); b != nullptr; b = link_of(b)) EXPECT_TRUE(returned.insert(b).second);
  EXPECT_EQ(returned, std::set<void*>(foreign.begin(), foreign.end()));
  central.check();
  put(other, foreign);
  EXPECT_EQ(central.totals().runs, 0u);
  EXPECT_EQ(other.totals().runs, 0u);
}

// One that has no cache gets one, and a run's list stays with the run.
TEST_F(CentralTest, WhoWantsOneBlockGetsOne) {
  const Slot slot = slot_of(64);
  const std::vector<void*> blocks = take(central, slot, 20);
  put(central, {blocks.begin() + 1, blocks.end()});
  for (int i = 0; i < 3; i++) {
    const Batch batch = central.take(slot, 1);
    ASSERT_EQ(batch.count, 1u);
    set_link(batch.head, nullptr);
    central.put(batch.head);
  }
  const Batch all = central.take(slot, 2);
  EXPECT_EQ(all.count, 19u) << "a short list is handed over whole";
  EXPECT_EQ(test::list_length(all.head), 19u);
  EXPECT_EQ(central.returned(slot), 0u);
  central.put(all.head);
  put(central, {blocks[0]});
}

TEST_F(CentralTest, WithoutMemoryThereIsNoBlockAndLaterThereIs) {
  std::vector<void*> blocks;
  const Slot slot = slot_of(32768);
  Kernel kernel;
  kernel.refuse(Call::Commit);
  kernel.refuse(Call::Reserve);
  for (;;) {
    const Batch batch = test::take_or_make(central, slot, 4);
    if (batch.head == nullptr) {
      EXPECT_EQ(batch.count, 0u);
      break;
    }
    void* b = batch.head;
    for (unsigned i = 0; i < batch.count; i++, b = link_of(b)) blocks.push_back(b);
    ASSERT_LT(blocks.size(), 10000u);
  }
  kernel.allow();
  const Batch batch = test::take_or_make(central, slot, 1);
  ASSERT_NE(batch.head, nullptr);
  blocks.push_back(batch.head);
  put(central, blocks);
}

TEST_F(CentralTest, SeveralThreadsOfOneShard) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; t++)
    threads.emplace_back([this, t] {
      test::Random random(t + 1);
      std::vector<std::pair<void*, Slot>> mine;
      for (int step = 0; step < 6000; step++) {
        if (mine.size() < 200 && random.below(3) != 0) {
          const Slot slot = 1 + static_cast<Slot>(random.below(kSlots - 1));
          for (void* b : take(central, slot, 1 + static_cast<unsigned>(random.below(8)))) {
            *static_cast<uint64_t*>(b) = reinterpret_cast<uint64_t>(b) ^ t;
            mine.emplace_back(b, slot);
          }
        } else if (!mine.empty()) {
          void* list = nullptr;
          for (int k = 0; k < 10 && !mine.empty(); k++) {
            auto [b, slot] = mine[random.below(mine.size())];
            ASSERT_EQ(*static_cast<uint64_t*>(b), reinterpret_cast<uint64_t>(b) ^ t) << "the block is in one place";
            std::erase(mine, std::pair{b, slot});
            set_link(b, list);
            list = b;
          }
          central.put(list);
        }
        if (step % 1000 == 0) central.check();
      }
      for (auto [b, slot] : mine) {
        set_link(b, nullptr);
        central.put(b);
      }
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace hz3
