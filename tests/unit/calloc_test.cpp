// calloc: all of the block is zero whatever was there before, and nothing but the block is written.
#include "hz3/bins.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;

class Calloc : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

// Every size to 2100, and those around the border of every class above.
std::vector<size_t> sizes() {
  std::vector<size_t> all;
  for (size_t bytes = 0; bytes <= 2100; bytes++) all.push_back(bytes);
  for (Slot slot = slot_of(2100); slot < kSlots; slot++)
    for (size_t bytes : {class_bytes(slot) - 17, class_bytes(slot) - 16, class_bytes(slot) - 15, class_bytes(slot) - 1,
                         class_bytes(slot), class_bytes(slot) + 1})
      all.push_back(bytes);
  return all;
}

TEST_F(Calloc, RecycledBlocksAreClearedToTheirLastByteAndNoFurther) {
  for (size_t bytes : sizes()) {
    if (bytes > kMaxBinBytes) continue;
    const Slot slot = slot_of(bytes);
    const size_t size = class_bytes(slot);
    // Three neighbours: the one in the middle is freed and comes back.
    ThreadCache* tc = test::my_cache();
    Blocks blocks;
    for (int i = 0; i < 3; i++) {
      blocks.push_back(malloc_hot(bytes));
      memset(blocks.back(), 0xee, size);
    }
    free_hot(blocks[1]);
    memset(static_cast<char*>(blocks[1]) + sizeof(void*), 0xee, size - sizeof(void*));
    ASSERT_EQ(tc->head[slot], blocks[1]);
    void* p = api::calloc(1, bytes);
    ASSERT_EQ(p, blocks[1]);
    ASSERT_TRUE(test::all_bytes(p, bytes, 0)) << bytes;
    ASSERT_TRUE(test::all_bytes(blocks[0], size, 0xee)) << bytes;
    ASSERT_TRUE(test::all_bytes(blocks[2], size, 0xee)) << bytes;
    for (void* b : blocks) free_hot(b);
  }
}

TEST_F(Calloc, ZeroUnitsClearsSoManyBytesAndNoOthers) {
  constexpr size_t kMost = 512, kAround = 64;
  alignas(kQuantum) unsigned char buffer[kMost + 2 * kAround];
  for (size_t bytes = 0; bytes <= kMost; bytes += kQuantum) {
    memset(buffer, 0xee, sizeof buffer);
    zero_units(reinterpret_cast<char*>(buffer) + kAround, bytes);
    const size_t cleared = bytes != 0 ? bytes : kQuantum;
    ASSERT_TRUE(test::all_bytes(buffer, kAround, 0xee)) << bytes;
    ASSERT_TRUE(test::all_bytes(buffer + kAround, cleared, 0)) << bytes;
    ASSERT_TRUE(test::all_bytes(buffer + kAround + cleared, sizeof buffer - kAround - cleared, 0xee)) << bytes;
  }
}

TEST_F(Calloc, RoundedSizesAreWithinTheClass) {
  for (size_t bytes = 0; bytes <= kMaxTierBytes; bytes++) {
    const size_t cleared = bytes != 0 ? round_up(bytes, kQuantum) : kQuantum;
    ASSERT_LE(cleared, class_bytes(slot_of(bytes)));
  }
}

// Blocks from central, from an inbox, from runs that were used before, from pages that were.
TEST_F(Calloc, WhereverABlockComesFromItIsZero) {
  ThreadCache* tc = test::my_cache();
  for (size_t bytes :
       {16, 64, 256, 272, 1024, 2048, 3000, 4096, 9000, 16384, 32768, 32769, 100000, 262144, 262145, 1000000, 3000000}) {
    const int count = bytes > 100000 ? 3 : 70;
    const bool tier = bytes <= kMaxTierBytes;
    for (int round = 0; round < 6; round++) {
      Blocks blocks;
      for (int i = 0; i < count; i++) {
        void* p = api::calloc(bytes / 8, 8);
        ASSERT_NE(p, nullptr);
        ASSERT_TRUE(test::all_bytes(p, bytes / 8 * 8, 0)) << bytes << " in round " << round;
        memset(p, 0xee, api::usable_size(p));
        blocks.push_back(p);
      }
      if (tier && round == 3) {
        test::push_to_inbox(tc->shard, blocks);
      } else {
        for (void* p : blocks) free_hot(p);
      }
      if (round == 1) flush_cache(tc);
      if (round == 2) Central::of(tc->shard).release_all_spares();
      if (round == 4) api::trim();
    }
    flush_cache(tc);
    remote::drain_to_central(tc->shard);
  }
}

TEST_F(Calloc, ASingleBlockOfCleanPagesIsKnownToBeZero) {
  ThreadCache* tc = test::my_cache();
  for (size_t bytes : {size_t{32768}, class_bytes(kFirstLarge + 1), kMaxBinBytes}) {
    const Slot slot = slot_of(bytes);
    api::trim();
    bool zero = false;
    char* p = static_cast<char*>(alloc_slow_zero(tc, slot, &zero));
    EXPECT_TRUE(zero);
    EXPECT_TRUE(test::all_bytes(p + sizeof(void*), bytes - sizeof(void*), 0));
    memset(p, 0xee, bytes);
    free_hot(p);
    flush_cache(tc);
    p = static_cast<char*>(alloc_slow_zero(tc, slot, &zero));
    EXPECT_FALSE(zero) << "it is the one that was written";
    free_hot(p);
  }
}

TEST_F(Calloc, ProductsThatOverflowFail) {
  const size_t half = size_t{1} << 32;
  for (auto [count, bytes] : {std::pair{half, half}, {SIZE_MAX, size_t{2}}, {size_t{2}, SIZE_MAX}, {SIZE_MAX / 2, size_t{3}}}) {
    errno = 0;
    EXPECT_EQ(api::calloc(count, bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
  for (auto [count, bytes] : {std::pair{size_t{0}, SIZE_MAX}, {SIZE_MAX, size_t{0}}, {size_t{0}, size_t{0}}}) {
    void* p = api::calloc(count, bytes);
    EXPECT_NE(p, nullptr);
    free_hot(p);
  }
}

}  // namespace
}  // namespace hz3
