// The sparse stash with a ring of 64 entries: what happens when it is full, in which order it is emptied, and that its
// counters may wrap.
#include <sys/mman.h>
#include <csignal>
#include <memory>
#include <type_traits>

#include "hz3/bins.hpp"
#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using remote::Inbox;
using remote::kRingSlots;
using remote::SparseRing;
using test::Blocks;
using test::Worker;

static_assert(std::is_same_v<remote::RemoteStash, SparseRing> && kRingSlots == 64, "sparse.config");

class Ring : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  static Blocks received(unsigned dst) {
    const Blocks blocks = test::taken_from(Inbox::of(dst));
    for (void* b : blocks) EXPECT_EQ(tag_shard(tag_of(b)), dst);
    return blocks;
  }
  std::unique_ptr<SparseRing> ring = std::make_unique<SparseRing>();
};

TEST_F(Ring, AFullOneIsFlushedBeforeTheNextEntryIsWritten) {
  const Slot slot = slot_of(64);
  Blocks pushed;
  for (unsigned i = 0; i < kRingSlots; i++) {
    const unsigned dst = i % kShards;
    pushed.push_back(test::blocks_of(dst, slot, 1).front());
    ring->stash_push(dst, slot, pushed.back());
    ASSERT_EQ(ring->entries(), i + 1);
    ASSERT_TRUE(Inbox::of(dst).empty());
  }
  void* last = test::blocks_of(0, slot, 1).front();
  ring->stash_push(0, slot, last);
  EXPECT_EQ(ring->entries(), 1u) << "the new one alone";
  Blocks arrived;
  for (unsigned dst = 0; dst < kShards; dst++)
    for (void* b : received(dst)) arrived.push_back(b);
  EXPECT_EQ(test::as_set(arrived), test::as_set(pushed));
  test::give_back(arrived);
  ring->stash_flush_all();
  EXPECT_EQ(received(0), Blocks{last});
  test::give_back({last});
}

TEST_F(Ring, BudgetFlushesTakeTheOldestFirst) {
  const Slot slot = slot_of(64);
  const Blocks blocks = test::blocks_of(0, slot, 30);
  for (void* b : blocks) ring->stash_push(0, slot, b);
  for (unsigned at = 0; at < 30;) {
    const unsigned budget = at / 5 + 1;
    ring->stash_flush_budget(budget);
    const unsigned end = at + budget < 30 ? at + budget : 30;
    EXPECT_EQ(test::as_set(received(0)), test::as_set({blocks.begin() + at, blocks.begin() + end}));
    at = end;
  }
  test::give_back(blocks);
}

TEST_F(Ring, ManyTimesAroundNothingIsLost) {
  test::Random random(1);
  size_t pushed = 0, arrived = 0;
  const auto receive = [&] {
    for (unsigned dst = 0; dst < kShards; dst++) {
      const Blocks blocks = received(dst);
      arrived += blocks.size();
      test::give_back(blocks);
    }
  };
  for (int round = 0; round < 300; round++) {
    for (uint64_t n = random.below(100); n-- > 0; pushed++) {
      const unsigned dst = static_cast<unsigned>(random.below(kShards));
      const Slot slot = 1 + static_cast<Slot>(random.below(kTierBins));
      ring->stash_push(dst, slot, test::blocks_of(dst, slot, 1).front());
    }
    ring->stash_flush_budget(static_cast<unsigned>(random.below(80)));
    receive();
    ASSERT_EQ(arrived + ring->entries(), pushed);
  }
  ring->stash_flush_all();
  receive();
  EXPECT_EQ(arrived, pushed);
}

// The counters are its first two words. A thread gets there after 2^32 remote frees.
TEST_F(Ring, ItsCountersMayWrap) {
  static_assert(std::is_standard_layout_v<SparseRing>);
  const uint32_t counters[2] = {UINT32_MAX - 40, UINT32_MAX - 40};
  memcpy(static_cast<void*>(ring.get()), counters, sizeof counters);
  ASSERT_EQ(ring->entries(), 0u);
  const Slot slot = slot_of(16);
  const Blocks blocks = test::blocks_of(1, slot, 60);
  for (unsigned i = 0; i < 60; i++) {
    ring->stash_push(1, slot, blocks[i]);
    ASSERT_EQ(ring->entries(), i + 1);
  }
  EXPECT_TRUE(ring->due());
  ring->stash_flush_budget(45);
  EXPECT_EQ(test::as_set(received(1)), test::as_set({blocks.begin(), blocks.begin() + 45}));
  ring->stash_flush_all();
  EXPECT_EQ(ring->entries(), 0u);
  EXPECT_EQ(test::as_set(received(1)), test::as_set({blocks.begin() + 45, blocks.end()}));
  test::give_back(blocks);
}

// However much goes through a ring that is emptied early, no entry behind the first few is ever written.
TEST_F(Ring, StartsOverAtItsFirstEntryWhenItHasRunEmpty) {
  constexpr unsigned kFew = 3;
  const auto is_zero = [this](unsigned entry) {
    const char* end = reinterpret_cast<const char*>(ring.get() + 1);  // the entries are what it ends with, 16 bytes each
    return test::all_bytes(end - size_t{16} * (kRingSlots - entry), 16, 0);
  };
  const Slot slot = slot_of(64);
  for (unsigned round = 0; round < kRingSlots; round++) {
    const Blocks blocks = test::blocks_of(0, slot, kFew);
    for (void* b : blocks) ring->stash_push(0, slot, b);
    ring->stash_flush_budget(2);
    ring->stash_flush_budget(2);
    ASSERT_EQ(ring->entries(), 0u);
    test::give_back(received(0));
  }
  for (unsigned entry = 0; entry < kRingSlots; entry++) EXPECT_EQ(is_zero(entry), entry >= kFew) << entry;
}

// The flush of a full ring is a change within a change. It comes to the oldest entry's block first, which carries others.
struct Interruption {
  static inline SparseRing* ring = nullptr;
  static inline char* page = nullptr;
  static inline unsigned busy = 0;
  static void handler(int) {
    busy += ring->busy();
    mprotect(page, kPageSize, PROT_READ | PROT_WRITE);
  }
};

TEST_F(Ring, IsBusyUntilThePushThatFlushedItIsDone) {
  const Slot slot = slot_of(4096);
  const Blocks blocks = test::blocks_of(0, slot, kRingSlots + 1);
  for (unsigned i = 0; i < kRingSlots; i++) ring->stash_push(0, slot, blocks[i]);
  Interruption::ring = ring.get();
  Interruption::page = static_cast<char*>(blocks[0]);
  struct sigaction action {
  }, before{};
  action.sa_handler = Interruption::handler;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  mprotect(blocks[0], kPageSize, PROT_NONE);
  EXPECT_FALSE(ring->busy());
  ring->stash_push(0, slot, blocks[kRingSlots]);
  sigaction(SIGSEGV, &before, nullptr);
  EXPECT_EQ(Interruption::busy, 1u);
  EXPECT_FALSE(ring->busy());
  ring->stash_flush_all();
  EXPECT_EQ(Inbox::of(0).count(), kRingSlots + 1);
  test::give_back(received(0));
}

// Two threads of two shards that free each other's blocks only.
TEST_F(Ring, ThreadsThatFreeEachOthersBlocks) {
  constexpr unsigned kBlocks = 3000;
  Worker a, b;
  ASSERT_NE(a.cache()->shard, b.cache()->shard);
  Blocks of_a(kBlocks), of_b(kBlocks);
  for (size_t bytes : {48, 64, 2000, 8192}) {
    const auto take = [bytes](Blocks& blocks) {
      for (void*& p : blocks) {
        p = malloc_hot(bytes);
        memset(p, 0x5a, 48);
      }
    };
    const auto give = [bytes](const Blocks& blocks) {
      for (void* p : blocks) {
        ASSERT_TRUE(test::all_bytes(p, 48, 0x5a));
        free_hot(p);
        ASSERT_LT(tls_own->stash.entries(), remote::kFlushBatch);
      }
    };
    for (int round = 0; round < 3; round++) {
      a.run([&] { take(of_a); });
      b.run([&] { take(of_b); });
      std::thread other([&] { a.run([&] { give(of_b); }); });
      b.run([&] { give(of_a); });
      other.join();
    }
  }
}

}  // namespace
}  // namespace hz3
