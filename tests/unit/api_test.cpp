// The rest of the malloc interface: aligned blocks and their errors, usable sizes, trim.
#include "hz3/api.hpp"

#include "hz3/large.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;
using test::Call;
using test::Kernel;

class Api : public testing::Test {
 protected:
  void SetUp() override { test::no_ticks(); }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
};

bool is_aligned(const void* p, size_t alignment) { return reinterpret_cast<uintptr_t>(p) % alignment == 0; }

// In an empty heap, and again with bins that have blocks of all classes.
TEST_F(Api, EveryAlignmentOfEverySize) {
  for (int round = 0; round < 2; round++)
    for (size_t alignment = 1; alignment <= 8 << 20; alignment *= 2) {
      Blocks blocks;
      for (size_t bytes : {0,    1,    15,   16,    17,    48,    100,    500,    1000,   2048,   2100,
                           4000, 4096, 5000, 20000, 32768, 32769, 100000, 262144, 262145, 3 << 20}) {
        void* p = api::memalign(alignment, bytes);
        void* q = api::aligned_alloc(alignment, bytes);
        void* r = nullptr;
        const int error = api::posix_memalign(&r, alignment, bytes);
        ASSERT_EQ(error, alignment < sizeof(void*) ? EINVAL : 0);
        if (error != 0) r = malloc_hot(bytes);
        for (void* each : {p, q, r}) {
          ASSERT_NE(each, nullptr);
          ASSERT_TRUE(each == r && error != 0 ? is_aligned(each, 16) : is_aligned(each, alignment < 16 ? 16 : alignment));
          ASSERT_GE(api::usable_size(each), bytes);
          memset(each, 0xee, bytes);
          blocks.push_back(each);
        }
      }
      ASSERT_EQ(std::set<void*>(blocks.begin(), blocks.end()).size(), blocks.size());
      for (void* b : blocks) free_hot(b);
    }
}

TEST_F(Api, AlignedBlocksOfClassesTakeTheSmallestThatServes) {
  for (size_t bytes : {1, 40, 100, 700, 1500, 3000, 9000, 20000, 40000, 150000, 262144})
    for (size_t alignment = 16; alignment <= kPageSize; alignment *= 2) {
      Slot expected = slot_of(bytes);
      while (class_bytes(expected) % alignment != 0) expected++;
      for (int i = 0; i < 2; i++) {  // from a refill, and from the bin
        void* p = api::memalign(alignment, bytes);
        EXPECT_EQ(tag_slot(tag_of(p)), expected) << bytes << " " << alignment;
        free_hot(p);
      }
    }
}

TEST_F(Api, ErrorsOfAlignments) {
  void* out = &out;
  for (size_t alignment : {size_t{0}, size_t{1}, size_t{2}, size_t{4}, size_t{12}, size_t{24}, SIZE_MAX}) {
    errno = 33;
    EXPECT_EQ(api::posix_memalign(&out, alignment, 100), EINVAL) << alignment;
    EXPECT_EQ(errno, 33);
    EXPECT_EQ(out, &out) << "untouched";
  }
  for (size_t alignment : {size_t{0}, size_t{3}, size_t{24}, SIZE_MAX}) {
    errno = 0;
    EXPECT_EQ(api::aligned_alloc(alignment, 100), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
  for (auto [alignment, error] : {std::pair{(size_t{1} << 63) + 1, EINVAL},
                                  {SIZE_MAX, EINVAL},
                                  {size_t{1} << 63, ENOMEM},  // as the C library
                                  {(size_t{1} << 62) + 1, ENOMEM}}) {
    errno = 0;
    EXPECT_EQ(api::memalign(alignment, 100), nullptr);
    EXPECT_EQ(errno, error) << alignment;
  }
  for (size_t alignment : {size_t{0}, size_t{3}, size_t{17}, size_t{33}, size_t{5000}, size_t{100000}}) {
    void* p = api::memalign(alignment, 100);
    ASSERT_NE(p, nullptr);
    size_t power = 16;
    while (power < alignment) power *= 2;
    EXPECT_TRUE(is_aligned(p, power)) << "rounded up to the next power of two";
    free_hot(p);
  }
}

TEST_F(Api, ImpossibleAlignedSizesFail) {
  void* out = &out;
  for (auto [alignment, bytes] : {std::pair{size_t{16}, SIZE_MAX},
                                  {size_t{4096}, size_t{PTRDIFF_MAX}},
                                  {size_t{1} << 62, size_t{1}},
                                  {size_t{1} << 62, size_t{PTRDIFF_MAX}},
                                  {size_t{1} << 50, size_t{1} << 50}}) {
    errno = 0;
    EXPECT_EQ(api::memalign(alignment, bytes), nullptr) << alignment << " " << bytes;
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(api::aligned_alloc(alignment, bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 44;
    EXPECT_EQ(api::posix_memalign(&out, alignment, bytes), ENOMEM);
    EXPECT_EQ(errno, 44);
    EXPECT_EQ(out, &out);
  }
  for (size_t bytes : {SIZE_MAX, SIZE_MAX - 4095, size_t{PTRDIFF_MAX}}) {
    errno = 0;
    EXPECT_EQ(api::valloc(bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(api::pvalloc(bytes), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
}

TEST_F(Api, SuccessLeavesErrnoAlone) {
  errno = 55;
  void* out = nullptr;
  Blocks blocks;
  for (size_t bytes : {1, 100, 5000, 40000, 3 << 20}) {
    blocks.push_back(malloc_hot(bytes));
    blocks.push_back(api::calloc(1, bytes));
    blocks.push_back(api::memalign(64, bytes));
    EXPECT_EQ(api::posix_memalign(&out, 64, bytes), 0);
    blocks.push_back(api::realloc(out, bytes * 2));
  }
  for (void* b : blocks) free_hot(b);
  api::trim();
  EXPECT_EQ(errno, 55);
}

TEST_F(Api, PagesOfVallocAndPvalloc) {
  const size_t page = os::page_size();
  for (size_t bytes : {size_t{0}, size_t{1}, page - 1, page, page + 1, 3 * page + 5, size_t{100000}}) {
    void* p = api::valloc(bytes);
    void* q = api::pvalloc(bytes);
    EXPECT_TRUE(is_aligned(p, page) && is_aligned(q, page));
    EXPECT_GE(api::usable_size(p), bytes);
    EXPECT_GE(api::usable_size(q), bytes == 0 ? page : round_up(bytes, page));
    free_hot(p);
    free_hot(q);
  }
}

TEST_F(Api, UsableSizesAreTheClassesAndMayBeUsedWhole) {
  for (size_t bytes = 0; bytes <= kMaxBinBytes + 2 * kPageSize; bytes += bytes < 3000 ? 1 : bytes < 40000 ? 97 : 2039) {
    void* p = malloc_hot(bytes);
    const size_t usable = api::usable_size(p);
    EXPECT_EQ(usable, bytes <= kMaxBinBytes ? class_bytes(slot_of(bytes)) : round_up(bytes, kPageSize));
    memset(p, 1, usable);
    free_hot(p);
  }
  EXPECT_EQ(api::usable_size(nullptr), 0u);
}

TEST_F(Api, TrimOfAnyThreadGivesFreePagesBack) {
  Blocks blocks;
  for (int i = 0; i < 100; i++) blocks.push_back(malloc_hot(30000));
  for (void* b : blocks) memset(b, 1, 30000), free_hot(b);
  test::in_thread([] {
    EXPECT_TRUE(is_static_cache(tls_cache));
    EXPECT_EQ(api::trim(), 1);
    tls_cache = &ended_cache;
    api::trim();
  });
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  EXPECT_GT(test::blocks_in_bins(test::my_cache()), 0u) << "but for those in bins of threads that live";
}

}  // namespace
}  // namespace hz3
