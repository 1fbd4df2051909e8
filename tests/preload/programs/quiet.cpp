// Holds 200 MiB, frees all of it and never calls the allocator again. Argument: who does it.
//   main      the main thread
//   sleeping  four threads, which then sleep
//   ended     four threads, which then end
//   fork      the main thread, and a child that it forks after that
//   exit      the main thread, which then calls pthread_exit() and so ends the process with its last thread
//   nothing   nobody: the program allocates a little, as any does
// Prints how much of the peak is resident in the end, in percent, as soon as it is less than 2, or when so many seconds are
// over as the second argument says (10: long enough for a busy machine); and the number of threads before and after.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "../support/child.hpp"
#include "../support/library.hpp"
#include "../support/memory.hpp"
#include "../support/threads.hpp"

namespace {

constexpr size_t kSizes[] = {64, 1000, 3000, 20000, 100000, 600000, 3 * kMiB};
size_t before = 0, peak = 0;
int guard_seconds = 10;

// opendir() allocates a little.
int count_threads() {
  int n = 0;
  DIR* folder = opendir("/proc/self/task");
  CHILD_REQUIRE(folder != nullptr);
  while (const dirent* entry = readdir(folder)) n += entry->d_name[0] != '.' ? 1 : 0;
  closedir(folder);
  return n;
}

void hold_and_free(size_t bytes) {
  std::vector<void*> blocks;
  blocks.reserve(bytes / 64);
  for (size_t size : kSizes) {
    for (size_t held = 0; held < bytes / std::size(kSizes); held += size) blocks.push_back(memset(malloc(size), 1, size));
  }
  const size_t now = resident_bytes();
  if (now > peak) peak = now;
  for (void* block : blocks) free(block);
}

// Nothing here allocates.
void wait_until_lean(const char* who) {
  for (int i = 0; i < guard_seconds * 100 && resident_bytes() > before + (peak - before) / 50; ++i) sleep_milliseconds(10);
  dprintf(1, "%s: %zu %%\n", who, (resident_bytes() - before) * 100 / (peak - before));
}

void hold_in_threads(bool end) {
  std::atomic<int> done{0};
  static std::atomic<bool> stop{false};
  static std::vector<Thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&done, end] {
      hold_and_free(50 * kMiB);
      done.fetch_add(1);
      while (!end && !stop.load()) sleep_milliseconds(5);
    });
  if (end) {
    for (Thread& thread : threads) thread.join();
  } else {
    while (done.load() < 4) sleep_milliseconds(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CHILD_REQUIRE(argc == 2 || argc == 3);
  if (argc == 3) guard_seconds = atoi(argv[2]);
  require_expected_library();
  const std::string who = argv[1];
  dprintf(1, "threads at first: %d\n", count_threads());
  before = resident_bytes();
  if (who == "nothing") {
    for (int i = 0; i < 100; ++i) free(malloc(static_cast<size_t>(i)));
  } else if (who == "sleeping" || who == "ended") {
    hold_in_threads(who == "ended");
    wait_until_lean("threads");
  } else {
    hold_and_free(200 * kMiB);
    if (who == "exit") pthread_exit(nullptr);
    wait_until_lean("main");
  }
  if (who == "fork") {
    const pid_t child = fork();
    CHILD_REQUIRE(child >= 0);
    hold_and_free(200 * kMiB);
    wait_until_lean(child == 0 ? "child" : "parent");
    if (child == 0) _exit(0);
    int status = 0;
    CHILD_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
  }
  dprintf(1, "threads at last: %d\n", who == "sleeping" ? count_threads() - 4 : count_threads());
  _exit(0);
}
