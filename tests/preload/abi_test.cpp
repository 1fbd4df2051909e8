// The entry points of malloc(3), one by one: results, zero sizes, failures, errno. As glibc documents and does them;
// where glibc leaves a choice, as the compatibility table says.
#include "support.hpp"

namespace {

constexpr size_t kAbovePtrdiffMax = static_cast<size_t>(PTRDIFF_MAX) + 1;

// Requests that no machine can serve: above PTRDIFF_MAX, at it, and above the user address space.
const size_t kImpossibleSizes[] = {
    SIZE_MAX,         SIZE_MAX - 1,     SIZE_MAX - 15, SIZE_MAX - 16,      SIZE_MAX - 4095, SIZE_MAX - 4096, SIZE_MAX - 65536,
    SIZE_MAX / 2 + 2, kAbovePtrdiffMax, PTRDIFF_MAX,   PTRDIFF_MAX - 4096, size_t{1} << 62, size_t{1} << 48, size_t{1} << 47,
};

// Sizes of every kind of block, from nothing to one that has its own mapping.
const size_t kSizes[] = {0,    1,    15,    16,    17,    100,    2048,    2049,    4095,    4096,
                         4097, 9000, 32768, 32769, 65536, 300000, 1 << 20, 5 << 20, 40 << 20};

template <typename Call>
void expect_out_of_memory(const Call& call) {
  errno = 0;
  void* block = call();
  EXPECT_EQ(block, nullptr);
  EXPECT_EQ(errno, ENOMEM);
  free(block);
}

bool is_aligned(const void* block, size_t alignment) { return reinterpret_cast<uintptr_t>(block) % alignment == 0; }

}  // namespace

TEST(Malloc, zero_size_gives_unique_freeable_blocks) {
  void* first = malloc(0);
  void* second = malloc(0);
  EXPECT_NE(first, nullptr);
  EXPECT_NE(second, nullptr);
  EXPECT_NE(first, second);
  free(first);
  free(second);
}

TEST(Malloc, impossible_sizes_fail_at_once) {
  for (size_t size : kImpossibleSizes) {
    SCOPED_TRACE(size);
    expect_out_of_memory([size] { return malloc(hide(size)); });
  }
}

TEST(Malloc, works_after_failures) {
  for (int i = 0; i < 10000; ++i) EXPECT_EQ(malloc(hide(kAbovePtrdiffMax)), nullptr);
  void* block = malloc(100);
  ASSERT_NE(block, nullptr);
  free(block);
}

TEST(Free, null_is_ignored) {
  free(hide<void*>(nullptr));
  SUCCEED();
}

TEST(Free, preserves_errno) {
  for (size_t size : kSizes) {
    for (int round = 0; round < 64; ++round) {
      void* block = malloc(size);
      ASSERT_NE(block, nullptr);
      memset(block, 1, size);
      errno = 4711 + round;
      free(block);
      ASSERT_EQ(errno, 4711 + round) << "size " << size;
    }
  }
  errno = -3;
  free(hide<void*>(nullptr));
  EXPECT_EQ(errno, -3);
}

TEST(Free, preserves_errno_when_many_blocks_go_back) {
  std::vector<void*> blocks;
  Random random{1};
  for (int i = 0; i < 50000; ++i) blocks.push_back(malloc(mixed_size(random)));
  errno = 77777;
  for (void* block : blocks) {
    free(block);
    ASSERT_EQ(errno, 77777);
  }
}

TEST(Free, preserves_errno_when_another_thread_allocated) {
  // Few of the large ones: together they are 10 GiB of address space, or a segment each, which a small arena has not.
  constexpr int kRounds = 200, kRoundsOfLarge = 4;
  std::vector<void*> blocks;
  run_threads(1, [&](size_t) {
    for (int round = 0; round < kRounds; ++round) {
      for (size_t size : kSizes) {
        if (size <= 64 * kKiB || round < kRoundsOfLarge) blocks.push_back(malloc(size));
      }
    }
  });
  errno = 123456;
  for (void* block : blocks) {
    ASSERT_NE(block, nullptr);
    free(block);
    ASSERT_EQ(errno, 123456);
  }
}

TEST(Calloc, zero_operands_give_unique_freeable_blocks) {
  void* blocks[] = {calloc(0, 0), calloc(0, 8), calloc(8, 0), calloc(0, hide(SIZE_MAX)), calloc(hide(SIZE_MAX), 0)};
  for (void* block : blocks) EXPECT_NE(block, nullptr);
  for (size_t i = 0; i < std::size(blocks); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(blocks[i], blocks[j]);
  }
  for (void* block : blocks) free(block);
}

TEST(Calloc, overflow_fails) {
  const size_t half = size_t{1} << 32;
  const std::pair<size_t, size_t> operands[] = {
      {SIZE_MAX, 2},
      {2, SIZE_MAX},
      {half, half},
      {half + 1, half},
      {SIZE_MAX / 2, 3},
      {SIZE_MAX, SIZE_MAX},
      {SIZE_MAX / 16 + 2, 16},
      {3, SIZE_MAX / 3 + 1},
      {size_t{1} << 63, 2},
      {1, kAbovePtrdiffMax},
      {kAbovePtrdiffMax / 8, 8},
      {PTRDIFF_MAX, 1},
  };
  for (auto [count, size] : operands) {
    SCOPED_TRACE(testing::Message() << count << " x " << size);
    expect_out_of_memory([count = count, size = size] { return calloc(hide(count), hide(size)); });
  }
}

TEST(Reallocarray, multiplies_and_keeps_content) {
  char* block = static_cast<char*>(reallocarray(nullptr, 10, 30));
  ASSERT_NE(block, nullptr);
  EXPECT_GE(malloc_usable_size(block), 300u);
  fill_pattern(block, 300, 5);
  block = static_cast<char*>(reallocarray(block, 1000, 40));
  ASSERT_NE(block, nullptr);
  EXPECT_GE(malloc_usable_size(block), 40000u);
  EXPECT_EQ(find_mismatch(block, 300, 5), kNoMismatch);
  free(block);
}

TEST(Reallocarray, overflow_fails_and_keeps_the_block) {
  char* block = static_cast<char*>(malloc(200));
  ASSERT_NE(block, nullptr);
  fill_pattern(block, 200, 9);
  expect_out_of_memory([=] { return reallocarray(hide(block), hide(SIZE_MAX / 2), 3); });
  expect_out_of_memory([=] { return reallocarray(hide(block), hide(size_t{1} << 32), size_t{1} << 32); });
  expect_out_of_memory([=] { return reallocarray(hide(block), 1, hide(kAbovePtrdiffMax)); });
  EXPECT_EQ(find_mismatch(block, 200, 9), kNoMismatch);
  free(block);
}

TEST(Reallocarray, zero_operand_frees_as_realloc_does) {
  EXPECT_EQ(reallocarray(malloc(100), hide(size_t{0}), 8), nullptr);
  EXPECT_EQ(reallocarray(malloc(100), 8, hide(size_t{0})), nullptr);
  void* block = reallocarray(nullptr, hide(size_t{0}), 8);
  EXPECT_NE(block, nullptr) << "reallocarray(NULL, 0, n) is malloc(0)";
  free(block);
}

TEST(MallocUsableSize, of_null_is_zero) { EXPECT_EQ(malloc_usable_size(nullptr), 0u); }

TEST(MallocUsableSize, of_empty_block_can_be_written) {
  void* block = malloc(0);
  memset(block, 0x5A, malloc_usable_size(block));
  free(block);
}

TEST(PosixMemalign, gives_aligned_blocks) {
  for (size_t alignment = sizeof(void*); alignment <= 8 * kMiB; alignment *= 2) {
    for (size_t size : kSizes) {
      void* block = nullptr;
      ASSERT_EQ(posix_memalign(&block, alignment, size), 0) << alignment << " " << size;
      ASSERT_NE(block, nullptr);
      EXPECT_TRUE(is_aligned(block, alignment)) << block << " for " << alignment;
      EXPECT_GE(malloc_usable_size(block), size);
      free(block);
    }
  }
}

TEST(PosixMemalign, bad_alignment_leaves_pointer_and_errno_untouched) {
  for (size_t alignment : {size_t{0}, size_t{1}, size_t{2}, size_t{4}, size_t{3}, size_t{12}, size_t{24}, size_t{48},
                           size_t{100}, size_t{4097}, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2}) {
    void* const marker = &alignment;
    void* block = marker;
    errno = 4242;
    EXPECT_EQ(posix_memalign(&block, hide(alignment), 64), EINVAL) << alignment;
    EXPECT_EQ(block, marker);
    EXPECT_EQ(errno, 4242);
  }
}

TEST(PosixMemalign, exhaustion_leaves_pointer_untouched) {
  for (size_t size : kImpossibleSizes) {
    for (size_t alignment : {size_t{8}, size_t{16}, size_t{64}, size_t{4096}, size_t{1} << 21, size_t{1} << 40}) {
      void* const marker = &size;
      void* block = marker;
      EXPECT_EQ(posix_memalign(&block, alignment, hide(size)), ENOMEM) << alignment << " " << size;
      EXPECT_EQ(block, marker);
    }
  }
}

TEST(PosixMemalign, exhaustion_leaves_errno_untouched) {
  SKIP_WITHOUT_LIBRARY("sets errno to ENOMEM beside returning it");
  for (size_t size : kImpossibleSizes) {
    void* block = nullptr;
    errno = 4242;
    EXPECT_EQ(posix_memalign(&block, 64, hide(size)), ENOMEM) << size;
    EXPECT_EQ(errno, 4242);
  }
}

TEST(PosixMemalign, huge_alignment_is_refused_or_kept) {
  const size_t before = resident_bytes();
  for (int shift = 24; shift <= 62; ++shift) {
    void* block = nullptr;
    const int error = posix_memalign(&block, size_t{1} << shift, 100);
    EXPECT_TRUE(error == 0 || error == ENOMEM) << shift;
    if (error == 0) {
      EXPECT_TRUE(is_aligned(block, size_t{1} << shift));
      free(block);
    }
  }
  void* block = nullptr;
  const int error = posix_memalign(&block, size_t{1} << 63, 100);
  EXPECT_TRUE(error == ENOMEM || error == EINVAL);
  EXPECT_LT(resident_bytes(), before + 256 * kMiB) << "what is kept of addresses that were skipped";
}

TEST(AlignedAlloc, accepts_sizes_that_are_no_multiple) {
  for (size_t alignment : {16, 32, 64, 256, 4096, 65536}) {
    for (size_t size : {0, 1, 3, 17, 100, 5000, 70001}) {
      void* block = aligned_alloc(hide(alignment), hide(size));
      ASSERT_NE(block, nullptr) << alignment << " " << size;
      EXPECT_TRUE(is_aligned(block, alignment));
      EXPECT_GE(malloc_usable_size(block), size);
      free(block);
    }
  }
}

TEST(AlignedAlloc, small_powers_of_two_are_accepted) {
  for (size_t alignment : {1, 2, 4, 8}) {
    void* block = aligned_alloc(hide(alignment), 24);
    ASSERT_NE(block, nullptr) << alignment;
    EXPECT_TRUE(is_aligned(block, 16));
    free(block);
  }
}

TEST(AlignedAlloc, alignment_that_is_no_power_of_two_is_refused) {
  SKIP_WITHOUT_LIBRARY("2.36 rounds up");
  for (size_t alignment : {size_t{0}, size_t{3}, size_t{24}, size_t{48}, size_t{4095}, size_t{12288}, SIZE_MAX}) {
    errno = 0;
    void* block = aligned_alloc(hide(alignment), 64);
    EXPECT_EQ(block, nullptr) << alignment;
    EXPECT_EQ(errno, EINVAL) << alignment;
    free(block);
  }
}

TEST(AlignedAlloc, impossible_sizes_fail_at_once) {
  for (size_t size : kImpossibleSizes) {
    SCOPED_TRACE(size);
    expect_out_of_memory([size] { return aligned_alloc(64, hide(size)); });
    expect_out_of_memory([size] { return aligned_alloc(kMiB, hide(size)); });
  }
}

TEST(Memalign, odd_alignments_are_rounded_up_to_a_power_of_two) {
  for (size_t alignment : {0, 1, 3, 5, 8, 17, 24, 33, 48, 100, 1000, 4097, 12288, 100000}) {
    size_t expected = 16;
    while (expected < alignment) expected *= 2;
    for (size_t size : {0, 1, 40, 3000, 40000}) {
      for (int round = 0; round < 8; ++round) {
        void* block = memalign(hide(alignment), hide(size));
        ASSERT_NE(block, nullptr) << alignment << " " << size;
        EXPECT_TRUE(is_aligned(block, expected)) << block << " for " << alignment;
        free(block);
      }
    }
  }
}

TEST(Memalign, failures) {
  errno = 0;
  EXPECT_EQ(memalign(hide(SIZE_MAX), 1), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(memalign(hide(kAbovePtrdiffMax + 1), 1), nullptr);
  EXPECT_EQ(errno, EINVAL);
  for (size_t size : kImpossibleSizes) {
    SCOPED_TRACE(size);
    expect_out_of_memory([size] { return memalign(hide(size_t{128}), hide(size)); });
  }
}

TEST(Valloc, gives_page_aligned_blocks) {
  for (size_t size : kSizes) {
    void* block = valloc(size);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(is_aligned(block, 4096));
    EXPECT_GE(malloc_usable_size(block), size);
    memset(block, 1, size);
    free(block);
  }
  for (size_t size : kImpossibleSizes) expect_out_of_memory([size] { return valloc(hide(size)); });
}

TEST(Pvalloc, rounds_up_to_whole_pages) {
  for (size_t size : kSizes) {
    if (size == 0) continue;
    void* block = pvalloc(size);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(is_aligned(block, 4096));
    EXPECT_GE(malloc_usable_size(block), (size + 4095) / 4096 * 4096) << size;
    memset(block, 1, (size + 4095) / 4096 * 4096);
    free(block);
  }
  for (size_t size : kImpossibleSizes) expect_out_of_memory([size] { return pvalloc(hide(size)); });
}

TEST(Pvalloc, zero_gives_a_page) {
  void* block = pvalloc(0);
  ASSERT_NE(block, nullptr);
  EXPECT_TRUE(is_aligned(block, 4096));
  if (library_is_expected()) {
    EXPECT_GE(malloc_usable_size(block), 4096u);
  }
  free(block);
}

TEST(FreeSized, both_forms_free) {
  using FreeSized = void (*)(void*, size_t);
  using FreeAlignedSized = void (*)(void*, size_t, size_t);
  auto free_sized = reinterpret_cast<FreeSized>(dlsym(RTLD_DEFAULT, "free_sized"));
  auto free_aligned_sized = reinterpret_cast<FreeAlignedSized>(dlsym(RTLD_DEFAULT, "free_aligned_sized"));
  if (free_sized == nullptr || free_aligned_sized == nullptr) {
    SKIP_WITHOUT_LIBRARY("2.36 lacks free_sized");
    FAIL() << "free_sized or free_aligned_sized is not exported";
  }
  free_sized(nullptr, 0);
  free_aligned_sized(nullptr, 16, 0);
  const size_t before = resident_bytes();
  for (int round = 0; round < 1000; ++round) {
    for (size_t size : {0, 1, 100, 3000, 20000, 200000}) {
      void* block = malloc(size);
      ASSERT_NE(block, nullptr);
      memset(block, 1, size);
      errno = 99;
      free_sized(block, size);
      EXPECT_EQ(errno, 99);
      block = aligned_alloc(64, size);
      ASSERT_NE(block, nullptr);
      memset(block, 1, size);
      free_aligned_sized(block, 64, size);
    }
  }
  EXPECT_LT(resident_bytes(), before + 64 * kMiB) << "446 MiB came and went: the frees did not free";
}
