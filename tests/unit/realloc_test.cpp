// realloc: every way from one tier to another, in place or moved; the content stays, and what is not needed goes back.
#include <algorithm>
#include <map>

#include "hz3/large.hpp"
#include "tests/unit/blocks.hpp"
#include "tests/unit/worker.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

constexpr size_t kMiB = size_t{1} << 20;

class Realloc : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

void fill(void* p, size_t bytes, uint64_t seed) {
  unsigned char* c = static_cast<unsigned char*>(p);
  for (size_t i = 0; i < bytes; i++) c[i] = static_cast<unsigned char>((i * 31 + seed) ^ (i >> 8));
}
bool is_filled(const void* p, size_t bytes, uint64_t seed) {
  const unsigned char* c = static_cast<const unsigned char*>(p);
  for (size_t i = 0; i < bytes; i++)
    if (c[i] != static_cast<unsigned char>((i * 31 + seed) ^ (i >> 8))) return false;
  return true;
}

// Sizes around every border between tiers, and between ways to serve them.
constexpr size_t kSizes[] = {1,
                             16,
                             17,
                             64,
                             65,
                             256,
                             257,
                             1000,
                             2048,
                             2049,
                             3968,
                             3969,
                             4096,
                             4097,
                             16384,
                             32767,
                             32768,
                             32769,
                             40000,
                             65536,
                             100000,
                             262144,
                             262145,
                             300000,
                             524288,
                             1000000,
                             kSpanMinBytes,
                             2 * kMiB,
                             kSpanMinBytes + 1,
                             2 * kMiB + 1,
                             3 * kMiB,
                             4 * kMiB,
                             7 * kMiB};

TEST_F(Realloc, FromEverySizeToEverySizeKeepsTheContent) {
  uint64_t seed = 0;
  for (size_t from : kSizes)
    for (size_t to : kSizes) {
      void* p = malloc_hot(from);
      // All of it where that is quick, else both ends.
      const size_t checked = std::min({from, to, size_t{70000}});
      fill(p, std::min(from, size_t{70000}), ++seed);
      const size_t last = std::min(from, to) - 1;
      if (last >= checked) static_cast<char*>(p)[last] = 77;
      void* q = api::realloc(p, to);
      ASSERT_NE(q, nullptr);
      ASSERT_GE(api::usable_size(q), to);
      ASSERT_TRUE(is_filled(q, checked, seed)) << from << " to " << to;
      if (last >= checked) {
        ASSERT_EQ(static_cast<char*>(q)[last], 77) << from << " to " << to;
      }
      if (q != p) {
        ASSERT_TRUE(tag_of(p) == 0 || tag_slot(tag_of(p)) != kLargeSlot) << "the old block is free";
      }
      memset(static_cast<char*>(q) + to - 1, 1, 1);
      free_hot(q);
    }
}

TEST_F(Realloc, OfNothingIsMallocAndToNothingIsFree) {
  void* p = api::realloc(nullptr, 100);
  ASSERT_NE(p, nullptr);
  const Slot slot = slot_of(100);
  ASSERT_EQ(tag_slot(tag_of(p)), slot);
  EXPECT_EQ(api::realloc(p, 0), nullptr);
  EXPECT_EQ(test::my_cache()->head[slot], p);
  void* binned = api::realloc(nullptr, 100000);
  EXPECT_EQ(api::realloc(binned, 0), nullptr);
  EXPECT_EQ(test::my_cache()->head[slot_of(100000)], binned);
  void* large = api::realloc(nullptr, 300000);
  EXPECT_EQ(api::realloc(large, 0), nullptr);
  EXPECT_EQ(tag_of(large), 0u);
  void* empty = api::realloc(nullptr, 0);
  EXPECT_NE(empty, nullptr);
  free_hot(empty);
}

TEST_F(Realloc, WithinABlockItStaysWhereMoreThanHalfIsUsed) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    const size_t bytes = class_bytes(slot);
    void* p = malloc_hot(bytes);
    for (size_t to : {bytes, bytes - 1, bytes / 2 + 1}) ASSERT_EQ(api::realloc(p, to), p) << bytes << " to " << to;
    void* q = api::realloc(p, bytes / 2);
    // Half of a small block is not worth a copy; a run of its own gives what is over back and stays where it is.
    ASSERT_EQ(q == p, bytes <= 64 || bytes / 2 > kMaxTierBytes) << bytes;
    ASSERT_LE(api::usable_size(q), bytes <= 64 ? bytes : bytes / 2 + bytes / 8) << bytes;
    free_hot(q);
  }
}

TEST_F(Realloc, LargeBlocksGrowAndShrinkInPlace) {
  char* p = static_cast<char*>(malloc_hot(300000));
  fill(p, 300000, 1);
  EXPECT_EQ(api::realloc(p, 400000), p);
  EXPECT_EQ(api::realloc(p, 50000), p);
  EXPECT_LT(api::usable_size(p), 55000u);
  EXPECT_TRUE(is_filled(p, 50000, 1));
  char* span = static_cast<char*>(api::realloc(p, 3 * kMiB));
  EXPECT_NE(span, p);
  EXPECT_TRUE(is_filled(span, 50000, 1));
  EXPECT_EQ(api::realloc(span, 9 * kMiB), span);
  EXPECT_EQ(api::realloc(span, 2 * kMiB), span);
  EXPECT_EQ(api::realloc(span, kSpanMinBytes / 2 + 1), span);
  char* run = static_cast<char*>(api::realloc(span, 100000));
  EXPECT_NE(run, span);
  char* small = static_cast<char*>(api::realloc(run, 20000));
  EXPECT_EQ(tag_slot(tag_of(small)), slot_of(20000));
  EXPECT_TRUE(is_filled(small, 20000, 1));
  free_hot(small);
}

TEST_F(Realloc, SpansMoveWithoutACopyUnlessTheKernelRefuses) {
  constexpr size_t kLeast = 2 * kSegmentBytes;  // smaller ones are copied
  for (bool refused : {false, true}) {
    char* p = static_cast<char*>(malloc_hot(kLeast));
    void* behind = malloc_hot(2 * kMiB);
    fill(p, kLeast, 5);
    Kernel kernel;
    if (refused) kernel.refuse(Call::Move);
    char* q = static_cast<char*>(api::realloc(p, 5 * kSegmentBytes));
    ASSERT_NE(q, nullptr);
    EXPECT_NE(q, p);
    EXPECT_EQ(kernel.calls(Call::Move), 1u);
    EXPECT_TRUE(is_filled(q, kLeast, 5));
    memset(q + kLeast, 1, 3 * kSegmentBytes);
    free_hot(q);
    free_hot(behind);
  }
}

TEST_F(Realloc, FailureKeepsTheBlock) {
  for (size_t bytes : {100, 3000, 20000, 100000, 3 << 20}) {
    void* p = malloc_hot(bytes);
    fill(p, bytes, bytes);
    Kernel kernel;
    kernel.refuse(Call::Commit);
    kernel.refuse(Call::Reserve);
    for (size_t to : {size_t{1} << 40, size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1, SIZE_MAX}) {
      errno = 0;
      ASSERT_EQ(api::realloc(p, to), nullptr);
      ASSERT_EQ(errno, ENOMEM);
    }
    EXPECT_TRUE(is_filled(p, bytes, bytes));
    EXPECT_GE(api::usable_size(p), bytes);
    free_hot(p);
  }
}

TEST_F(Realloc, OfOthersBlocks) {
  test::Worker worker;
  Blocks blocks;
  worker.run([&] {
    for (size_t bytes : kSizes) {
      blocks.push_back(malloc_hot(bytes));
      fill(blocks.back(), std::min(bytes, size_t{5000}), bytes);
    }
  });
  for (size_t i = 0; i < blocks.size(); i++) {
    const size_t bytes = kSizes[i];
    void* q = api::realloc(blocks[i], bytes * 3 + 100);
    ASSERT_TRUE(is_filled(q, std::min(bytes, size_t{5000}), bytes));
    q = api::realloc(q, 10);
    ASSERT_TRUE(is_filled(q, std::min(bytes, size_t{10}), bytes));
    free_hot(q);
  }
}

TEST_F(Realloc, RandomWalksOfManyBlocks) {
  test::Random random(8);
  struct Block {
    void* p;
    size_t bytes;
    uint64_t seed;
  };
  std::vector<Block> blocks(60, Block{nullptr, 0, 0});
  for (int step = 0; step < 4000; step++) {
    Block& b = blocks[random.below(blocks.size())];
    ASSERT_TRUE(is_filled(b.p, b.bytes, b.seed));
    const size_t bytes = 1 + random.below(size_t{1} << (4 + random.below(step % 50 == 0 ? 18 : 13)));
    void* q = api::realloc(b.p, bytes);
    ASSERT_NE(q, nullptr);
    ASSERT_TRUE(is_filled(q, std::min(bytes, b.bytes), b.seed));
    b = Block{q, bytes, static_cast<uint64_t>(step)};
    fill(b.p, b.bytes, b.seed);
  }
  for (const Block& b : blocks) free_hot(b.p);
}

}  // namespace
}  // namespace hz3
