// exhaust BLOCK_BYTES LIMIT_BYTES [threads]: run under a limit on its memory. Allocates blocks until there is no more, frees
// half and goes on, frees all and starts again. Each failure must be NULL with ENOMEM, what was allocated must keep its
// content, a third of the limit (a sixth of a small one) must be usable, and after everything was freed a block of an eighth of
// the limit must be had.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include <vector>

#include "../support/child.hpp"
#include "../support/library.hpp"
#include "../support/memory.hpp"
#include "../support/pattern.hpp"
#include "../support/threads.hpp"

namespace {

// The head of each block leads to the one before, so that the test itself needs no memory; its tail is written too.
struct Head {
  Head* before;
  size_t number;
};

size_t limit = 0;
Head* last = nullptr;
size_t held = 0;

void mark(Head* block, size_t size) {
  block->before = last;
  block->number = held++;
  fill_pattern(reinterpret_cast<char*>(block) + size - 16, 16, block->number);
  last = block;
}

void release_last(size_t size) {
  Head* block = last;
  CHILD_REQUIRE(block->number == held - 1);
  CHILD_REQUIRE(find_mismatch(reinterpret_cast<char*>(block) + size - 16, 16, block->number) == kNoMismatch);
  last = block->before;
  --held;
  free(block);
}

void* allocate(size_t size) {
  switch (held % 4) {
    case 0:
      return malloc(size);
    case 1:
      return calloc(1, size);
    case 2:
      return realloc(nullptr, size);
    default:
      return memalign(64, size);
  }
}

void allocate_until_exhausted(size_t size) {
  for (;;) {
    errno = 0;
    void* block = allocate(size);
    if (block == nullptr) {
      CHILD_REQUIRE(errno == ENOMEM);
      break;
    }
    mark(static_cast<Head*>(block), size);
  }
  for (int i = 0; i < 1000; ++i) {
    // Exhaustion stays a plain failure, however often and however one asks.
    errno = 0;
    CHILD_REQUIRE(malloc(limit) == nullptr && errno == ENOMEM);
    errno = 0;
    CHILD_REQUIRE(realloc(last, limit) == nullptr && errno == ENOMEM);
    errno = 0;
    CHILD_REQUIRE(calloc(2, limit / 2) == nullptr && errno == ENOMEM);
    errno = 17;
    void* block = &block;
    CHILD_REQUIRE(posix_memalign(&block, 4096, limit) == ENOMEM && block == &block);
  }
}

}  // namespace

int main(int argc, char** argv) {
  require_expected_library();
  CHILD_REQUIRE(argc >= 3);
  const size_t size = strtoul(argv[1], nullptr, 10);
  limit = strtoul(argv[2], nullptr, 10);
  if (argc > 3 && strcmp(argv[3], "0") != 0) {
    // Threads that were there have touched every part of the allocator, and some memory is in their caches.
    CHILD_REQUIRE(run_threads(
                      strtoul(argv[3], nullptr, 10),
                      [](size_t i) {
                        Random random{i};
                        for (int step = 0; step < 2000; ++step) free(malloc(mixed_size(random)));
                      },
                      128 * 1024) > 0);
  }
  size_t first_time = 0;
  for (int round = 0; round < 3; ++round) {
    allocate_until_exhausted(size);
    const size_t most = held;
    if (round == 0) first_time = most;
    dprintf(1, "round %d: %zu bytes\n", round, most * size);
    CHILD_REQUIRE(most * size > limit / (limit < 100 * kMiB ? 6 : 3));
    CHILD_REQUIRE(most + 1 >= first_time - first_time / 8);  // what was freed is usable again
    while (held > most / 2) release_last(size);
    allocate_until_exhausted(size);
    CHILD_REQUIRE(held + 1 >= most - most / 8);
    while (held > 0) release_last(size);
    void* large = malloc(limit / 8);
    CHILD_REQUIRE(large != nullptr);
    free(large);
  }
  return 0;
}
