// What the children of busy processes do: everything that needs the allocator in working order, checked.
#pragma once

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.hpp"
#include "threads.hpp"

// Allocates, reallocates and frees checked blocks of all sizes, some of them freed by other threads of this process.
inline void checked_work(uint64_t seed, int steps) {
  Random random{seed};
  std::vector<std::pair<char*, size_t>> blocks(64);
  for (int i = 0; i < steps; ++i) {
    auto& [block, size] = blocks[random.below(blocks.size())];
    CHILD_REQUIRE(find_mismatch(block, size / 8 * 8, seed) == kNoMismatch);
    const size_t old_size = size;
    size = mixed_size(random) + 1;
    if (random.below(4) == 0) {
      block = static_cast<char*>(realloc(block, size));
      CHILD_REQUIRE(block != nullptr);
      CHILD_REQUIRE(find_mismatch(block, std::min(size, old_size) / 8 * 8, seed) == kNoMismatch);
    } else {
      free(block);
      block = static_cast<char*>(random.below(4) == 0 ? calloc(1, size) : malloc(size));
      CHILD_REQUIRE(block != nullptr);
    }
    fill_pattern(block, size, seed);
  }
  for (auto& [block, size] : blocks) free(block);
}

// A child gets this long before it counts as hanging; many run side by side on few cores.
constexpr unsigned kForkChildSeconds = 60;

// Blocks of other threads that the forking thread took over before the fork: both parent and child own them.
class TakenBlocks {
 public:
  TakenBlocks(ExchangeSlots& slots, uint64_t seed) {
    for (size_t i = 0; i < kCount; ++i) blocks_[i] = slots.swap(seed * kCount + i, nullptr);
  }
  void free_all() {
    for (void* block : blocks_) free(block);
  }

 private:
  static constexpr size_t kCount = 100;
  void* blocks_[kCount];
};

// In a child of fork(): works, starts threads, and forks a child of its own. Ends the process with 0.
[[noreturn]] inline void work_in_forked_child(uint64_t seed, TakenBlocks& parents_blocks, int generations) {
  signal(SIGALRM, SIG_DFL);
  alarm(kForkChildSeconds);
  checked_work(seed, 200);
  parents_blocks.free_all();
  CHILD_REQUIRE(run_threads(2, [seed](size_t i) { checked_work(seed + i, 200); }) == 2);
  if (generations > 0) {
    BusyThreads busy(1);
    TakenBlocks taken(busy.slots(), seed);
    const pid_t child = fork();
    CHILD_REQUIRE(child >= 0);
    if (child == 0) work_in_forked_child(seed + 1, taken, generations - 1);
    taken.free_all();
    int status = -1;
    CHILD_REQUIRE(waitpid(child, &status, 0) == child);
    CHILD_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    busy.stop();
  }
  checked_work(seed + 2, 200);
  _exit(0);
}

// Forks once and waits for the child to do its work; true if it ended well.
inline bool fork_and_work(uint64_t seed, ExchangeSlots& slots, int generations = 1) {
  TakenBlocks taken(slots, seed);
  const pid_t child = fork();
  if (child == 0) work_in_forked_child(seed, taken, generations);
  taken.free_all();
  if (child < 0) return false;
  int status = -1;
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) return false;
  }
  if (WIFSIGNALED(status)) dprintf(2, "child %d ended by signal %d\n", child, WTERMSIG(status));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
