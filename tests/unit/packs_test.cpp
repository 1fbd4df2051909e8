// Packs: what is added comes out once, whatever the sizes of the blocks, and few of them are written to.
#include "hz3/remote/packs.hpp"

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using remote::Packs;
using test::Blocks;

Blocks blocks_of(void* list) {
  Blocks blocks;
  Packs::for_each(list, [&](void* block) {
    blocks.push_back(block);
    memset(block, 0xee, 2 * sizeof block);  // the taker may write to what it was given
  });
  return blocks;
}

// Memory for blocks of a size, in a row; a byte that nobody wrote to is kUntouched.
constexpr unsigned char kUntouched = 0xa5;
struct Row {
  Row(size_t size, size_t count) : bytes(size), memory(size * count, kUntouched) {}
  void* at(size_t i) { return memory.data() + i * bytes; }
  bool untouched(size_t i) const {
    const auto* block = &memory[i * bytes];
    return std::all_of(block, block + bytes, [](unsigned char c) { return c == kUntouched; });
  }
  size_t bytes;
  std::vector<unsigned char> memory;
};

TEST(Packs, AnEmptyListHasNothing) {
  Packs packs;
  EXPECT_EQ(packs.count(), 0u);
  EXPECT_EQ(packs.first(), nullptr);
  EXPECT_TRUE(blocks_of(packs.first()).empty());
}

TEST(Packs, WhatIsAddedComesOutOnce) {
  for (size_t size : {16, 32, 48, 64, 128, 512, 1024, 4096})
    for (size_t count : {1, 2, 3, 7, 8, 9, 63, 64, 65, 200}) {
      Row row(size, count);
      Packs packs;
      Blocks added;
      for (size_t i = 0; i < count; i++) {
        packs.add(row.at(i), size);
        added.push_back(row.at(i));
      }
      EXPECT_EQ(packs.count(), count);
      EXPECT_EQ(test::as_set(blocks_of(packs.first())), test::as_set(added)) << size << " " << count;
    }
}

// A carrier of `size` bytes leads so many blocks, and nobody touches those.
TEST(Packs, OnlyCarriersAreWrittenTo) {
  for (auto [size, led] : {std::pair<size_t, size_t>{16, 1}, {32, 3}, {64, 7}, {512, 63}, {1024, 63}}) {
    const size_t count = 5 * (led + 1);
    Row row(size, count);
    Packs packs;
    for (size_t i = 0; i < count; i++) packs.add(row.at(i), size);
    for (size_t i = 0; i < count; i++) EXPECT_EQ(row.untouched(i), i % (led + 1) != 0) << size << " " << i;
  }
}

TEST(Packs, OfMixedSizesEveryOneComesOut) {
  test::Random random(5);
  Row small(16, 300), large(512, 300);
  for (int round = 0; round < 50; round++) {
    Packs packs;
    Blocks added;
    for (size_t i = 0; i < 300; i++) {
      Row& row = random.below(4) == 0 ? large : small;
      packs.add(row.at(i), row.bytes);
      added.push_back(row.at(i));
    }
    ASSERT_EQ(test::as_set(blocks_of(packs.first())), test::as_set(added));
  }
}

TEST(Packs, ListsAreJoinedAndKeepWhatTheyLead) {
  Row row(64, 40);
  Packs one, other;
  Blocks added;
  for (size_t i = 0; i < 40; i++) {
    (i < 17 ? one : other).add(row.at(i), 64);
    added.push_back(row.at(i));
  }
  Packs::set_next(one.last(), other.first());
  EXPECT_EQ(test::as_set(blocks_of(one.first())), test::as_set(added));
}

TEST(Packs, AListOfLinkedBlocksIsOne) {
  Row row(16, 12);
  Blocks blocks;
  for (size_t i = 0; i < 12; i++) blocks.push_back(row.at(i));
  EXPECT_EQ(blocks_of(test::list_of(blocks)), blocks);
}

}  // namespace
}  // namespace hz3
