// fork_many [--runs N] [--threads T] [--seed S]: forks from a process of busy threads, N times from each of two threads at
// once. Each child works, starts threads, and forks a grandchild. Prints "runs=N failures=F"; exit code 1 if any failed.
#include <stdio.h>

#include <string>

#include "../support/fork_work.hpp"
#include "../support/library.hpp"

int main(int argc, char** argv) {
  require_expected_library();
  size_t runs = 100;
  size_t threads = 8;
  uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const unsigned long value = strtoul(argv[i + 1], nullptr, 10);
    if (option == "--runs") runs = value;
    if (option == "--threads") threads = value;
    if (option == "--seed") seed = value;
  }
  std::atomic<size_t> failures{0};
  BusyThreads busy(threads);
  run_threads(2, [&](size_t forker) {
    for (size_t run = 0; run < (runs + 1) / 2; ++run) {
      if (!fork_and_work(seed + forker * runs + run, busy.slots())) failures.fetch_add(1);
    }
  });
  busy.stop();
  printf("runs=%zu failures=%zu\n", runs, failures.load());
  return failures.load() == 0 ? 0 : 1;
}
