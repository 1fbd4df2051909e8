// The class tables: every size gets the smallest class that holds it, every alignment a class whose blocks have it.
#include "hz3/size_class.hpp"

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

TEST(SizeClass, EverySizeGetsTheSmallestClassThatHoldsIt) {
  for (size_t bytes = 0; bytes <= kMaxBinBytes; bytes++) {
    const Slot slot = slot_of(bytes);
    ASSERT_GE(slot, 1u);
    ASSERT_LT(slot, kSlots);
    ASSERT_GE(class_bytes(slot), bytes);
    ASSERT_TRUE(slot == 1 || class_bytes(slot - 1) < bytes);
  }
}

TEST(SizeClass, TiersCoverTheirRanges) {
  EXPECT_EQ(class_bytes(1), kQuantum);
  EXPECT_EQ(class_bytes(kFirstSub4k), small_v2::kMaxBytes);
  EXPECT_GT(class_bytes(kFirstSub4k + 1), small_v2::kMaxBytes);
  EXPECT_LE(class_bytes(kFirstMedium), sub4k::kMaxBytes);
  EXPECT_EQ(class_bytes(kFirstMedium + 1), 4096u);
  EXPECT_EQ(class_bytes(kTierBins), kMaxTierBytes);
  EXPECT_GT(class_bytes(kFirstLarge + 1), kMaxTierBytes);
  EXPECT_EQ(class_bytes(kSlots - 1), kMaxBinBytes);
}

// A page of 4096 bytes behind a header of the program's: databases have very many.
TEST(SizeClass, APageWithAHeaderWastesLessThan128Bytes) {
  for (size_t bytes = 4097; bytes <= 4608; bytes++) ASSERT_LT(class_bytes(slot_of(bytes)) - bytes, 128u) << bytes;
}

TEST(SizeClass, LargeClassesWasteLessThanAnEighth) {
  for (size_t bytes = kMaxTierBytes + 1; bytes <= kMaxBinBytes; bytes++) {
    const size_t waste = class_bytes(slot_of(bytes)) - bytes;
    ASSERT_LT(waste * 8, bytes) << bytes;
    ASSERT_TRUE(bytes > 65536 || waste < kPageSize) << "no more than the rest of its last page: " << bytes;
  }
}

TEST(SizeClass, EverySizeAndAlignmentGetsBlocksThatHaveBoth) {
  for (size_t alignment = 1; alignment <= kPageSize; alignment *= 2)
    for (size_t bytes = 0; bytes <= kMaxBinBytes; bytes += bytes < 512 ? 1 : bytes < kMaxTierBytes ? 13 : 61) {
      const Slot slot = slot_of_aligned(bytes, alignment);
      if (slot == 0) {
        for (Slot s = slot_of(bytes); s < kSlots; s++)
          ASSERT_NE(class_bytes(s) % alignment, 0u) << "class " << s << " would have served";
        continue;
      }
      ASSERT_GE(class_bytes(slot), bytes);
      ASSERT_EQ(class_bytes(slot) % alignment, 0u);
    }
  EXPECT_EQ(slot_of_aligned(1, 2 * kPageSize), 0u);
  EXPECT_EQ(slot_of_aligned(kMaxBinBytes, kPageSize), kSlots - 1);
  EXPECT_EQ(slot_of_aligned(kMaxBinBytes + 1, 16), 0u);
}

// The last class of the tiers is a multiple of a page, so that no alignment up to a page needs another tier; all classes above
// are.
TEST(SizeClass, AlignmentsUpToAPageAreServedByTheClassesOfTheirSize) {
  for (size_t alignment = 16; alignment <= kPageSize; alignment *= 2) {
    for (size_t bytes = 0; bytes <= kMaxTierBytes; bytes += 64) {
      ASSERT_NE(slot_of_aligned(bytes, alignment), 0u);
      ASSERT_LE(slot_of_aligned(bytes, alignment), kTierBins);
    }
    for (size_t bytes = kMaxTierBytes + 1; bytes <= kMaxBinBytes; bytes += 61)
      ASSERT_EQ(slot_of_aligned(bytes, alignment), slot_of(bytes));
  }
}

TEST(SizeClass, RunsAndBatchesAreWithinBounds) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    EXPECT_EQ(c.size % kQuantum, 0u);
    EXPECT_GE(c.run.blocks, 1u);
    EXPECT_LE(size_t{c.run.blocks} * c.size, size_t{c.run.pages} * kPageSize);
    EXPECT_LE(c.run.pages, kSegmentPages / 2);
    EXPECT_GE(c.carve, 1u);
    EXPECT_GE(c.refill, 1u);
    EXPECT_LE(c.refill, c.limit_first);
    EXPECT_LE(c.limit_first, c.limit_most);
    EXPECT_LE(c.limit_most, kBinLimitBlocks > 16 ? kBinLimitBlocks : 16u);
    // What is written when blocks are first carved lies within the run.
    EXPECT_LE(round_up(size_t{c.carve} * c.size, kPageSize) / kPageSize, c.run.pages) << "class of " << c.size;
  }
}

TEST(SizeClass, ALargeBlockIsARunOfItsOwn) {
  for (Slot slot = kFirstLarge + 1; slot < kSlots; slot++) {
    const ClassInfo& c = class_info(slot);
    for (const RunShape& run : {c.first_run, c.run}) {
      EXPECT_EQ(run.blocks, 1u);
      EXPECT_EQ(size_t{run.pages} * kPageSize, c.size);
    }
    EXPECT_EQ(c.refill, 1u);
    EXPECT_EQ(c.carve, 1u);
    EXPECT_EQ(c.limit_first, clamp(kBinFirstBytes / c.size, 1, kBinLimitBlocks));
    EXPECT_EQ(c.limit_most, clamp(kBinLimitBytes / c.size, 4, kBinLimitBlocks));
  }
}

// The app distribution: 80 % 16..256, 15 % 257..2048, 5 % 2049..32768 bytes, each even.
TEST(SizeClass, WasteLittle) {
  double asked = 0, given = 0;
  const auto add = [&](size_t from, size_t to, double share) {
    for (size_t n = from; n <= to; n++) {
      const ClassInfo& c = class_info(slot_of(n));
      const double weight = share / static_cast<double>(to - from + 1);
      asked += weight * static_cast<double>(n);
      given += weight * static_cast<double>(size_t{c.run.pages} * kPageSize + sizeof(uint64_t) * c.run.pages) / c.run.blocks;
    }
  };
  add(16, 256, 0.80);
  add(257, 2048, 0.15);
  add(2049, 32768, 0.05);
  EXPECT_LT(given / asked, 1.06);
}

}  // namespace
}  // namespace hz3
