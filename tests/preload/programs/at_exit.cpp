// Ends in the way that its argument says, while detached threads go on allocating, and allocates in everything that runs
// at the end of a process: atexit and at_quick_exit functions, static destructors, destructors of the main thread's TLS and
// a function of .fini_array.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "../support/child.hpp"
#include "../support/library.hpp"
#include "../support/pattern.hpp"

namespace {

std::vector<void*>& kept() {
  static auto* blocks = new std::vector<void*>;  // never destroyed: used to the very end
  return *blocks;
}

void use_the_allocator() {
  for (void* block : kept()) free(block);
  kept().clear();
  for (size_t size : {1, 100, 3000, 30000, 300000, 3000000}) {
    kept().push_back(calloc(1, size));
    CHILD_REQUIRE(kept().back() != nullptr);
    CHILD_REQUIRE(find_nonzero(kept().back(), size) == kNoMismatch);
    memset(kept().back(), 1, size);
  }
}

void say_last() {
  use_the_allocator();
  const char text[] = "last destructor\n";
  CHILD_REQUIRE(write(1, text, sizeof text - 1) == sizeof text - 1);
}

struct Static {
  std::string text = std::string(1000, 's');
  ~Static() { use_the_allocator(); }
} static_object;

struct ThreadLocal {
  std::string text = std::string(1000, 't');
  ~ThreadLocal() { use_the_allocator(); }
};

[[gnu::section(".fini_array"), gnu::used]] void (*const finish)() = say_last;

void start_threads_that_do_not_end() {
  for (uint64_t i = 0; i < 3; ++i) {
    std::thread([i] {
      Random random{i};
      for (;;) free(malloc(mixed_size(random)));
    }).detach();
  }
}

}  // namespace

int main(int argc, char** argv) {
  require_expected_library();
  CHILD_REQUIRE(argc == 2);
  const std::string how = argv[1];
  thread_local ThreadLocal at_thread_end;
  CHILD_REQUIRE(at_thread_end.text.size() == 1000 && static_object.text.size() == 1000);
  use_the_allocator();
  atexit(use_the_allocator);
  at_quick_exit(say_last);
  if (how == "pthread_exit_of_main") {
    // The process ends with its last thread, which is not the one that started it.
    std::thread([] {
      sleep(1);
      use_the_allocator();
    }).detach();
    pthread_exit(nullptr);
  }
  start_threads_that_do_not_end();
  if (how == "exit") exit(0);
  if (how == "quick_exit") quick_exit(0);
  if (how == "_exit") _exit(0);
  if (how == "exit_in_thread") std::thread([] { exit(0); }).join();
  return 0;
}
