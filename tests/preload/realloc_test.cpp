// realloc: content, growth and shrinking over every size range, in place where the block suffices, and memory given back.
#include "support.hpp"

namespace {

std::vector<size_t> ladder() {
  std::vector<size_t> sizes;
  for (size_t size = 16; size <= 64 * kMiB; size += size / 2) {
    sizes.push_back(size);
    if (size < kMiB) sizes.push_back(size + 1);
  }
  return sizes;
}

// Reallocates and checks what must have been kept.
char* checked_realloc(char* block, size_t old_size, size_t new_size, uint64_t seed) {
  char* moved = static_cast<char*>(realloc(block, new_size));
  EXPECT_NE(moved, nullptr) << old_size << " to " << new_size;
  if (moved == nullptr) return nullptr;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(moved) % 16, 0u);
  EXPECT_GE(malloc_usable_size(moved), new_size);
  EXPECT_EQ(find_mismatch(moved, std::min(old_size, new_size) / 8 * 8, seed), kNoMismatch) << old_size << " to " << new_size;
  return moved;
}

}  // namespace

TEST(Realloc, null_is_malloc) {
  for (size_t size : {0, 1, 100, 5000, 100000}) {
    void* block = realloc(nullptr, size);
    ASSERT_NE(block, nullptr) << size;
    EXPECT_GE(malloc_usable_size(block), size);
    free(block);
  }
}

TEST(Realloc, to_zero_frees_and_returns_null) {
  const size_t before = resident_bytes();
  for (int i = 0; i < 300000; ++i) {
    const size_t size = i % 100 == 0 ? 100000 : 1000;
    void* block = malloc(size);
    memset(block, 1, size);
    ASSERT_EQ(realloc(block, hide(size_t{0})), nullptr);
  }
  EXPECT_LT(resident_bytes(), before + 32 * kMiB) << "570 MiB came and went: realloc(p, 0) did not free";
}

TEST(Realloc, to_zero_is_no_failure) {
  for (size_t size : {10, 3000, 50000, 2000000}) {
    void* block = malloc(size);
    errno = 31;
    EXPECT_EQ(realloc(block, hide(size_t{0})), nullptr);
    EXPECT_EQ(errno, 31) << "errno tells a free from a failure";
  }
}

TEST(Realloc, failure_keeps_the_block) {
  for (size_t size : {1, 100, 2500, 5000, 40000, 3000000}) {
    char* block = static_cast<char*>(malloc(size));
    fill_pattern(block, size, size);
    for (size_t impossible :
         {SIZE_MAX, SIZE_MAX - 4096, static_cast<size_t>(PTRDIFF_MAX) + 1, static_cast<size_t>(PTRDIFF_MAX), size_t{1} << 47}) {
      errno = 0;
      EXPECT_EQ(realloc(block, hide(impossible)), nullptr);
      EXPECT_EQ(errno, ENOMEM);
      EXPECT_EQ(find_mismatch(block, size, size), kNoMismatch) << size;
    }
    free(block);
  }
}

TEST(Realloc, within_usable_size_does_not_move) {
  for (size_t size = 0; size <= 40000; size += size < 5000 ? 1 : 61) {
    char* block = static_cast<char*>(malloc(size));
    const uintptr_t address = reinterpret_cast<uintptr_t>(block);
    const size_t usable = malloc_usable_size(block);
    char* same = static_cast<char*>(realloc(block, usable));
    ASSERT_EQ(reinterpret_cast<uintptr_t>(same), address) << size << " to its usable size " << usable;
    EXPECT_GE(malloc_usable_size(same), usable);
    free(same);
  }
}

TEST(Realloc, ladder_up_keeps_content) {
  char* block = nullptr;
  size_t old_size = 0;
  uint64_t seed = 0;
  for (size_t size : ladder()) {
    block = checked_realloc(block, old_size, size, seed);
    ASSERT_NE(block, nullptr);
    fill_pattern(block, malloc_usable_size(block), ++seed);
    old_size = size;
  }
  free(block);
}

TEST(Realloc, ladder_down_keeps_content) {
  std::vector<size_t> sizes = ladder();
  size_t old_size = 100 * kMiB;
  char* block = static_cast<char*>(malloc(old_size));
  fill_pattern(block, old_size, 1);
  uint64_t seed = 1;
  for (auto size = sizes.rbegin(); size != sizes.rend(); ++size) {
    block = checked_realloc(block, old_size, *size, seed);
    ASSERT_NE(block, nullptr);
    fill_pattern(block, malloc_usable_size(block), ++seed);
    old_size = *size;
  }
  free(block);
}

TEST(Realloc, every_size_to_every_size_keeps_content) {
  std::vector<size_t> sizes;
  for (size_t size = 8; size <= 3 * kMiB; size *= 3) {
    for (size_t near : {size - 1, size, size + 1}) sizes.push_back(near);
  }
  for (size_t edge : {2047, 2048, 2049, 4095, 4096, 4097, 32767, 32768, 32769}) sizes.push_back(edge);
  uint64_t seed = 0;
  for (size_t from : sizes) {
    for (size_t to : sizes) {
      char* block = static_cast<char*>(malloc(from));
      fill_pattern(block, from, ++seed);
      block = checked_realloc(block, from, to, seed);
      ASSERT_NE(block, nullptr);
      memset(block, 0x11, malloc_usable_size(block));
      free(block);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Realloc, random_walk_of_many_blocks_keeps_content) {
  struct Walker {
    char* block = nullptr;
    size_t size = 0;
    uint64_t seed = 0;
  };
  std::vector<Walker> walkers(500);
  Random random{21};
  for (uint64_t step = 1; step <= 60000; ++step) {
    Walker& walker = walkers[random.below(walkers.size())];
    const size_t size = mixed_size(random) + 1;
    walker.block = checked_realloc(walker.block, walker.size, size, walker.seed);
    walker.size = size;
    walker.seed = step;
    fill_pattern(walker.block, malloc_usable_size(walker.block), step);
    if (testing::Test::HasFailure()) break;
  }
  for (Walker& walker : walkers) free(walker.block);
}

TEST(Realloc, of_blocks_that_other_threads_allocated) {
  constexpr size_t kBlocks = 4000;
  std::vector<char*> blocks(kBlocks);
  std::vector<size_t> sizes(kBlocks);
  run_threads(1, [&](size_t) {
    Random random{5};
    for (size_t i = 0; i < kBlocks; ++i) {
      sizes[i] = mixed_size(random) + 1;
      blocks[i] = static_cast<char*>(malloc(sizes[i]));
      fill_pattern(blocks[i], sizes[i], i);
    }
  });
  std::atomic<int> wrong{0};
  run_threads(4, [&](size_t thread) {
    Random random{thread};
    for (size_t i = thread; i < kBlocks; i += 4) {
      const size_t size = mixed_size(random) + 1;
      blocks[i] = static_cast<char*>(realloc(blocks[i], size));
      if (find_mismatch(blocks[i], std::min(size, sizes[i]) / 8 * 8, i) != kNoMismatch) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong.load(), 0);
  for (char* block : blocks) free(block);
}

TEST(Realloc, shrinking_a_large_block_gives_memory_back) {
  for (size_t small : {100, 10000, 100000, 1000000, 10000000}) {
    const size_t before = resident_bytes();
    char* block = static_cast<char*>(malloc(256 * kMiB));
    ASSERT_NE(block, nullptr);
    fill_pattern(block, 256 * kMiB, 1);
    ASSERT_GT(resident_bytes(), before + 200 * kMiB);
    block = static_cast<char*>(realloc(block, small));
    EXPECT_EQ(find_mismatch(block, small / 8 * 8, 1), kNoMismatch);
    EXPECT_LT(tick_until_resident_below(before + small + 20 * kMiB), before + small + 25 * kMiB) << small;
    free(block);
  }
}

TEST(Realloc, shrinking_many_blocks_gives_memory_back) {
  SKIP_WITHOUT_LIBRARY("keeps the tails of blocks in the middle of its heap");
  const size_t before = resident_bytes();
  std::vector<char*> blocks;
  for (int i = 0; i < 200; ++i) {
    blocks.push_back(static_cast<char*>(malloc(kMiB)));
    fill_pattern(blocks.back(), kMiB, static_cast<uint64_t>(i));
  }
  for (char*& block : blocks) block = static_cast<char*>(realloc(block, 64 * kKiB));
  EXPECT_LT(tick_until_resident_below(before + 40 * kMiB), before + 60 * kMiB) << "12.5 MiB are live of 200";
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(find_mismatch(blocks[i], 64 * kKiB, i), kNoMismatch);
    free(blocks[i]);
  }
}

TEST(Realloc, moved_large_blocks_keep_every_byte) {
  // Neighbours grow in turn, so that none can in place; no size ends where a page does.
  for (size_t first : {size_t{1500000}, 2 * kMiB - 8, 3 * kMiB + 4088}) {
    std::vector<std::pair<char*, size_t>> blocks(12, {nullptr, 0});
    for (int round = 0; round < 4; ++round) {
      for (size_t i = 0; i < blocks.size(); ++i) {
        auto& [block, size] = blocks[i];
        const size_t wanted = size == 0 ? first : size / 4 * 7 / 8 * 8 + 120;
        block = checked_realloc(block, size, wanted, i);
        ASSERT_NE(block, nullptr);
        size = wanted;
        fill_pattern(block, size, i);
      }
    }
    for (auto [block, size] : blocks) free(block);
  }
}

TEST(Realloc, shrinking_never_fails) {
  EXPECT_CLEAN(run_in_child([] {
    constexpr size_t kSizes[] = {300, 3000, 20000, 40000, 5 * kMiB};
    char* blocks[std::size(kSizes)];
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      blocks[i] = static_cast<char*>(malloc(kSizes[i]));
      CHILD_REQUIRE(blocks[i] != nullptr);
      fill_pattern(blocks[i], kSizes[i] / 8 * 8, i);
    }
    const rlimit none{0, 0};
    CHILD_REQUIRE(setrlimit(RLIMIT_AS, &none) == 0 && setrlimit(RLIMIT_DATA, &none) == 0);
    // All that is left, but for what only tiny blocks would fill.
    for (size_t size = 16 * kMiB; size >= kKiB; size /= 2) {
      while (malloc(size) != nullptr) {
      }
    }
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      char* block = static_cast<char*>(realloc(blocks[i], kSizes[i] / 3));
      CHILD_REQUIRE(block != nullptr && find_mismatch(block, kSizes[i] / 3 / 8 * 8, i) == kNoMismatch);
      CHILD_REQUIRE(realloc(block, 20) != nullptr);
    }
    return 0;
  }));
}

TEST(Realloc, growing_step_by_step_does_not_copy_without_end) {
  // 512 MiB in steps of 64 KiB: copied at each step it would move 2 TiB and never end.
  size_t size = 0;
  char* block = nullptr;
  while (size < 512 * kMiB) {
    size += 64 * kKiB;
    block = static_cast<char*>(realloc(block, size));
    ASSERT_NE(block, nullptr);
    memset(block + size - 64 * kKiB, static_cast<int>(size >> 16), 64 * kKiB);
  }
  for (size_t at = 0; at < size; at += 64 * kKiB) {
    ASSERT_EQ(static_cast<unsigned char>(block[at]), ((at + 64 * kKiB) >> 16) & 0xFF) << at;
  }
  free(block);
}
