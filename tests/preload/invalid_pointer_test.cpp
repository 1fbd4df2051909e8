// Calls with pointers that point into the allocator's memory but name no live block. Each must either be passed over, after
// which everything goes on unharmed, or end the process with one line that names the call, the pointer and the fault.
// Small blocks that are freed twice are not here: the default lanes do not promise to see that.
#include <algorithm>
#include <regex>

#include "support.hpp"
#include "support/fork_work.hpp"

namespace {

// Neighbours of the block under attack, which must keep their content.
std::vector<std::pair<char*, size_t>> neighbours;

// Runs a faulty action, then work that would trip over any damage it did.
void expect_detected_or_harmless(const char* call, const std::function<void()>& fault) {
  const ChildResult result = run_in_child([&fault] {
    neighbours.clear();
    for (size_t size : {40000, 70000, 300000, 1200000, 3000000, 9000000}) {
      for (int i = 0; i < 3; ++i) {
        neighbours.emplace_back(static_cast<char*>(malloc(size)), size);
        fill_pattern(neighbours.back().first, size, size);
      }
    }
    fault();
    std::vector<std::pair<char*, size_t>> later;
    for (auto [neighbour, size] : neighbours) {
      later.emplace_back(static_cast<char*>(malloc(size)), size);
      fill_pattern(later.back().first, size, size + 1);
    }
    checked_work(8, 3000);
    run_threads(2, [](size_t i) { checked_work(i, 1000); });
    for (auto [block, size] : neighbours) CHILD_REQUIRE(find_mismatch(block, size, size) == kNoMismatch);
    for (auto [block, size] : later) CHILD_REQUIRE(find_mismatch(block, size, size + 1) == kNoMismatch);
    for (auto [block, size] : neighbours) free(block);
    for (auto [block, size] : later) free(block);
    return 0;
  });
  if (result.exit_code == 0) {
    EXPECT_EQ(result.err, "");
    return;
  }
  EXPECT_EQ(result.signal, SIGABRT) << result.describe();
  const std::regex one_line(std::string("[^\n]*") + call + "\\(0x[0-9a-f]+[^\n]*\\)[^\n]*: [^\n]+\n");
  EXPECT_TRUE(std::regex_match(result.err, one_line)) << "not one line that names " << call << ", pointer and fault:\n"
                                                      << result.err;
}

const size_t kLargeSizes[] = {40000, 100000, 262144, 300000, 1000000, 3000000, 20000000, 100000000};
// Up to here a freed block may wait in its thread for the next request. Until it leaves it is not known to be free, and a
// pointer into its first page is taken for it.
const size_t kWaitsUpTo = 262144;

}  // namespace

class InvalidPointer : public testing::Test {
  void SetUp() override { SKIP_WITHOUT_LIBRARY("its messages do not name the pointer"); }
};

TEST_F(InvalidPointer, large_block_freed_twice) {
  for (size_t size : kLargeSizes) {
    SCOPED_TRACE(size);
    expect_detected_or_harmless("free", [size] {
      void* block = malloc(size);
      memset(block, 1, size);
      free(hide(block));
      free(hide(block));
    });
  }
}

TEST_F(InvalidPointer, large_block_freed_twice_by_two_threads) {
  for (size_t size : kLargeSizes) {
    SCOPED_TRACE(size);
    expect_detected_or_harmless("free", [size] {
      void* block = malloc(size);
      run_threads(1, [block](size_t) { free(hide(block)); });
      run_threads(1, [block](size_t) { free(hide(block)); });
    });
  }
}

TEST_F(InvalidPointer, large_block_freed_after_realloc_moved_it) {
  expect_detected_or_harmless("free", [] {
    void* block = malloc(1000000);
    void* in_the_way = malloc(1000000);
    void* moved = realloc(hide(block), 50000000);
    if (moved != hide(block)) free(hide(block));
    free(moved);
    free(in_the_way);
  });
}

TEST_F(InvalidPointer, interior_of_a_large_block) {
  for (size_t size : kLargeSizes) {
    for (size_t offset :
         {size_t{1}, size_t{8}, size_t{16}, size_t{4096}, size / 2, size / 2 / 4096 * 4096, size - 1, 2 * kMiB}) {
      if (offset >= size || (size <= kWaitsUpTo && offset < 4096)) continue;
      SCOPED_TRACE(testing::Message() << size << " + " << offset);
      expect_detected_or_harmless("free", [=] {
        char* block = static_cast<char*>(malloc(size));
        fill_pattern(block, size, 3);
        free(hide(block + offset));
        CHILD_REQUIRE(find_mismatch(block, size, 3) == kNoMismatch);
        free(block);
      });
    }
  }
}

TEST_F(InvalidPointer, address_that_was_never_allocated) {
  for (size_t distance : {64 * kKiB, 500 * kKiB, 2 * kMiB, 30 * kMiB, kGiB, 8 * kGiB, 32 * kGiB}) {
    SCOPED_TRACE(distance);
    for (bool below : {false, true}) {
      expect_detected_or_harmless("free", [=] {
        char* block = static_cast<char*>(malloc(40000));
        char* other = below ? block - distance : block + distance;
        const bool allocated = std::any_of(neighbours.begin(), neighbours.end(), [=](const auto& neighbour) {
          return other >= neighbour.first && other < neighbour.first + neighbour.second;
        });
        if (!allocated) free(hide(other));
        free(block);
      });
    }
  }
}

TEST_F(InvalidPointer, realloc_of_a_freed_large_block) {
  for (size_t size : kLargeSizes) {
    if (size <= kWaitsUpTo) continue;
    for (size_t to : {size / 2, size * 2}) {
      SCOPED_TRACE(testing::Message() << size << " to " << to);
      expect_detected_or_harmless("realloc", [=] {
        void* block = malloc(size);
        free(hide(block));
        if (realloc(hide(block), to) != nullptr) CHILD_REQUIRE(!"a freed block was reallocated");
      });
    }
  }
}

TEST_F(InvalidPointer, realloc_of_the_interior_of_a_large_block) {
  for (size_t size : kLargeSizes) {
    SCOPED_TRACE(size);
    expect_detected_or_harmless("realloc", [=] {
      char* block = static_cast<char*>(malloc(size));
      if (realloc(hide(block + 4096), size * 2) != nullptr) CHILD_REQUIRE(!"an interior pointer was reallocated");
      free(block);
    });
  }
}

TEST_F(InvalidPointer, usable_size_of_a_freed_large_block) {
  for (size_t size : kLargeSizes) {
    if (size <= kWaitsUpTo) continue;
    SCOPED_TRACE(size);
    expect_detected_or_harmless("malloc_usable_size", [=] {
      void* block = malloc(size);
      free(hide(block));
      CHILD_REQUIRE(malloc_usable_size(hide(block)) == 0);
    });
  }
}

TEST_F(InvalidPointer, delete_of_a_freed_large_block) {
  // operator delete may say "free" or its own name; what counts is the one line.
  expect_detected_or_harmless("(free|operator delete|delete)", [] {
    void* block = ::operator new(500000);
    ::operator delete(hide(block));
    ::operator delete(hide(block));
  });
}

TEST_F(InvalidPointer, many_double_frees_beside_busy_threads) {
  expect_detected_or_harmless("free", [] {
    BusyThreads busy(3);
    // Blocks that nobody else asks for: 70 MiB at once are more than the busy threads use.
    for (int i = 0; i < 3; ++i) {
      void* block = malloc(70 * kMiB);
      free(hide(block));
      free(hide(block));
    }
    busy.stop();
  });
}
