// Page tags: what goes in comes out, and one comparison tells a local block from everything else.
#include "hz3/tag.hpp"

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

TEST(Tag, HoldsSlotAndShard) {
  for (unsigned shard = 0; shard < 254; shard += 11)
    for (Slot slot = 1; slot < kSlots; slot++) {
      const Tag tag = make_tag(slot, shard);
      EXPECT_EQ(tag_slot(tag), slot);
      EXPECT_EQ(tag_shard(tag), shard);
      EXPECT_NE(tag_low(tag), 0u);
    }
}

TEST(Tag, OnlyTheOwnShardXorsToLessThanAllSlots) {
  for (unsigned mine : {0u, 1u, 7u, 100u, 253u})
    for (unsigned shard = 0; shard < 254; shard++) {
      for (Slot slot = 1; slot < kSlots; slot++) {
        const uint64_t x = tag_low(make_tag(slot, shard)) ^ local_key(mine);
        if (shard == mine) {
          ASSERT_EQ(x, slot);
        } else {
          ASSERT_GE(x, kTagSlots);
        }
        ASSERT_GE(tag_low(make_tag(slot, shard)) ^ kNoShardKey, kTagSlots) << "a thread without a cache finds nothing local";
      }
      ASSERT_GE(tag_low(make_tag(kLargeSlot, shard)) ^ local_key(mine), kSlots) << "a large block is never on the hot path";
      ASSERT_GE(0 ^ local_key(mine), kTagSlots) << "nor is a page without blocks";
    }
}

TEST(Tag, TheLowHalfIsReadAlone) {
  Tag tag = make_tag(5, 3) | 0xabcd0000;
  EXPECT_EQ(load_tag_low(&tag), make_tag(5, 3));
  EXPECT_EQ(tag_low(tag), make_tag(5, 3));
}

}  // namespace
}  // namespace hz3
