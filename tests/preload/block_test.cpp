// Blocks: their alignment, their usable size, that they do not overlap, and that calloc's are zero.
#include "support.hpp"

namespace {

struct Block {
  char* start;
  size_t usable;
  uint64_t seed;
};

bool is_aligned(const void* block, size_t alignment) { return reinterpret_cast<uintptr_t>(block) % alignment == 0; }

// Keeps the last blocks alive, written to the last usable byte; each is checked when it is let go.
class Window {
 public:
  explicit Window(size_t capacity) : capacity_(capacity) {}
  ~Window() { clear(); }

  void add(void* start) {
    const Block block{static_cast<char*>(start), malloc_usable_size(start), ++seed_};
    fill_pattern(block.start, block.usable, block.seed);
    blocks_.push_back(block);
    if (blocks_.size() == capacity_) release_half();
  }
  void clear() {
    while (!blocks_.empty()) release(blocks_.size() - 1);
  }

 private:
  void release_half() {
    for (size_t i = 0; i < capacity_ / 2; ++i) release(random_.below(blocks_.size()));
  }
  void release(size_t index) {
    const Block block = blocks_[index];
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
    ASSERT_EQ(malloc_usable_size(block.start), block.usable) << "usable size changed during the block's life";
    ASSERT_EQ(find_mismatch(block.start, block.usable, block.seed), kNoMismatch)
        << "a neighbour wrote into a block of " << block.usable << " usable bytes";
    free(block.start);
  }
  size_t capacity_;
  uint64_t seed_ = 0;
  Random random_{7};
  std::vector<Block> blocks_;
};

// Sizes around every power of two and its quarters, where size classes and tiers meet.
std::vector<size_t> boundary_sizes(size_t limit) {
  std::vector<size_t> sizes;
  for (size_t power = 16; power <= limit; power *= 2) {
    for (size_t base : {power, power + power / 4, power + power / 2, power + power / 4 * 3}) {
      for (size_t size : {base - 16, base - 1, base, base + 1}) sizes.push_back(size);
    }
  }
  return sizes;
}

void dirty(size_t size, int count) {
  std::vector<void*> blocks;
  for (int i = 0; i < count; ++i) {
    blocks.push_back(malloc(size));
    memset(blocks.back(), 0xDB, malloc_usable_size(blocks.back()));
  }
  for (void* block : blocks) free(block);
}

// Dirties blocks of a size, callocs as many and more, and looks at every usable byte that was asked for.
void expect_zero_after_dirt(size_t size, int count) {
  dirty(size, count);
  std::vector<char*> blocks;
  for (int i = 0; i < count * 2; ++i) {
    char* block = static_cast<char*>(i % 2 == 0 ? calloc(1, size) : calloc(size, 1));
    ASSERT_NE(block, nullptr);
    ASSERT_EQ(find_nonzero(block, size), kNoMismatch) << "calloc of " << size << " bytes, block " << i;
    memset(block, 0xC3, malloc_usable_size(block));
    blocks.push_back(block);
  }
  for (char* block : blocks) free(block);
}

}  // namespace

TEST(Block, every_size_to_40000_is_aligned_to_16_and_usable) {
  Window window(64);
  for (size_t size = 0; size <= 40000; ++size) {
    void* block = malloc(size);
    ASSERT_NE(block, nullptr) << size;
    ASSERT_TRUE(is_aligned(block, 16)) << block << " for size " << size;
    ASSERT_GE(malloc_usable_size(block), size);
    window.add(block);
  }
}

TEST(Block, boundary_sizes_to_28_mib_are_aligned_and_usable) {
  Window window(4);
  for (size_t size : boundary_sizes(16 * kMiB)) {
    void* block = malloc(size);
    ASSERT_NE(block, nullptr) << size;
    ASSERT_TRUE(is_aligned(block, 16)) << block << " for size " << size;
    ASSERT_GE(malloc_usable_size(block), size);
    window.add(block);
  }
}

TEST(Block, tiny_blocks_of_all_entry_points_are_aligned_to_16) {
  for (size_t size = 0; size <= 64; ++size) {
    void* blocks[] = {malloc(size), calloc(1, size), realloc(nullptr, size), memalign(1, size), aligned_alloc(8, size)};
    for (void* block : blocks) {
      EXPECT_TRUE(is_aligned(block, 16)) << block << " for size " << size;
      free(block);
    }
  }
}

TEST(Block, many_live_blocks_of_one_size_do_not_overlap) {
  for (size_t size : {1, 16, 24, 48, 64, 112, 256, 1000, 2048, 2500, 4095, 4096, 6000, 20000, 32768, 50000}) {
    Window window(std::max<size_t>(64, std::min<size_t>(100000, 32 * kMiB / (size + 16))));
    for (size_t i = 0; i < 48 * kMiB / (size + 16); ++i) window.add(malloc(size));
  }
}

TEST(Block, mixed_live_blocks_do_not_overlap) {
  Window window(20000);
  Random random{3};
  for (int i = 0; i < 200000; ++i) window.add(malloc(mixed_size(random)));
}

TEST(Block, alignment_matrix) {
  for (size_t alignment = 16; alignment <= 8 * kMiB; alignment *= 2) {
    Window window(6);
    for (size_t size : boundary_sizes(kMiB)) {
      void* block = memalign(hide(alignment), size);
      ASSERT_NE(block, nullptr) << alignment << " " << size;
      ASSERT_TRUE(is_aligned(block, alignment)) << block << " for alignment " << alignment << " size " << size;
      ASSERT_GE(malloc_usable_size(block), size);
      window.add(block);
    }
  }
}

TEST(Block, many_aligned_blocks_live_at_once) {
  for (size_t alignment : {32, 64, 128, 512, 1024, 2048, 4096, 8192, 32768, 65536}) {
    Window window(512);
    for (size_t size : {1, 32, 100, 1000, 2100, 4096, 10000}) {
      for (int i = 0; i < 300; ++i) {
        void* block = aligned_alloc(hide(alignment), size);
        ASSERT_TRUE(block != nullptr && is_aligned(block, alignment)) << block << " for " << alignment;
        window.add(block);
      }
    }
  }
}

TEST(Block, aligned_blocks_can_be_reallocated) {
  for (size_t alignment = 32; alignment <= kMiB; alignment *= 2) {
    for (size_t size : {1, 100, 3000, 40000}) {
      char* block = static_cast<char*>(memalign(hide(alignment), size));
      fill_pattern(block, size, alignment);
      block = static_cast<char*>(realloc(block, size * 3));
      ASSERT_EQ(find_mismatch(block, size, alignment), kNoMismatch) << alignment << " " << size;
      block = static_cast<char*>(realloc(block, size / 2 + 1));
      ASSERT_EQ(find_mismatch(block, (size / 2 + 1) / 8 * 8, alignment), kNoMismatch);
      free(block);
    }
  }
}

TEST(Block, usable_size_is_the_same_for_another_thread) {
  for (size_t size : {1, 100, 2049, 5000, 40000, 3000000}) {
    void* block = malloc(size);
    const size_t usable = malloc_usable_size(block);
    run_threads(2, [&](size_t) { EXPECT_EQ(malloc_usable_size(block), usable); });
    free(block);
  }
}

TEST(Calloc, is_zero_after_dirty_blocks_of_every_size_range) {
  for (size_t size = 1; size <= 4096; size += 7) expect_zero_after_dirt(size, 20);
  for (size_t size : boundary_sizes(128 * kKiB)) expect_zero_after_dirt(size, 12);
}

TEST(Calloc, is_zero_after_large_dirty_blocks) {
  for (size_t size : {200 * kKiB, 700 * kKiB, 1 * kMiB, 2 * kMiB - 4096, 2 * kMiB, 3 * kMiB, 8 * kMiB + 1, 33 * kMiB}) {
    expect_zero_after_dirt(size, 3);
  }
}

TEST(Calloc, is_zero_when_sizes_change_places) {
  // Pages that held blocks of one size come back as blocks of another: only their history tells whether they are zero.
  Random random{11};
  for (int round = 0; round < 60; ++round) {
    dirty(random.between(16, 40000), 400);
    for (int i = 0; i < 40; ++i) {
      const size_t size = random.between(1, 300000);
      char* block = static_cast<char*>(calloc(1, size));
      ASSERT_EQ(find_nonzero(block, size), kNoMismatch) << size;
      memset(block, 0xEE, malloc_usable_size(block));
      free(block);
    }
    if (round % 10 == 0) malloc_trim(0);
  }
}

TEST(Calloc, is_zero_in_every_thread_after_remote_frees) {
  ExchangeSlots slots;
  std::atomic<int> dirty_blocks{0};
  run_threads(6, [&](size_t seed) {
    Random random{seed};
    for (int i = 0; i < 60000; ++i) {
      const size_t size = mixed_size(random) % 50000;
      char* block = static_cast<char*>(calloc(size, 1));
      if (find_nonzero(block, size) != kNoMismatch) dirty_blocks.fetch_add(1);
      memset(block, 0xA7, malloc_usable_size(block));
      free(slots.swap(random.next(), block));
    }
  });
  slots.free_all();
  EXPECT_EQ(dirty_blocks.load(), 0);
}
