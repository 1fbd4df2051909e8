// Run without a preload: opens the library given as its argument with RTLD_LOCAL, as a plugin would be, works with its
// malloc beside libc's, from threads too, closes it, and lives on: threads that used it end after the close, the process
// forks and exits.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>

#include <atomic>

#include "../support/child.hpp"
#include "../support/pattern.hpp"
#include "../support/threads.hpp"

namespace {

struct Allocator {
  void* (*malloc)(size_t);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void (*free)(void*);
};

template <typename Function>
void look_up(void* library, const char* name, Function& into) {
  into = reinterpret_cast<Function>(dlsym(library, name));
  CHILD_REQUIRE(into != nullptr);
}

void work(const Allocator& library, uint64_t seed) {
  Random random{seed};
  std::vector<std::pair<char*, size_t>> blocks(100);
  for (int i = 0; i < 5000; ++i) {
    auto& [block, size] = blocks[random.below(blocks.size())];
    CHILD_REQUIRE(find_mismatch(block, size, seed) == kNoMismatch);
    library.free(block);
    size = mixed_size(random);
    block = static_cast<char*>(random.below(4) == 0 ? library.calloc(1, size) : library.malloc(size));
    block = static_cast<char*>(library.realloc(block, size + 40));
    CHILD_REQUIRE(block != nullptr);
    fill_pattern(block, size, seed);
  }
  for (auto& [block, size] : blocks) library.free(block);
}

void open_use_close(const char* path, int flags) {
  void* handle = dlopen(path, flags);
  if (handle == nullptr) dprintf(2, "%s\n", dlerror());
  CHILD_REQUIRE(handle != nullptr);
  Allocator library{};
  look_up(handle, "malloc", library.malloc);
  look_up(handle, "calloc", library.calloc);
  look_up(handle, "realloc", library.realloc);
  look_up(handle, "free", library.free);
  CHILD_REQUIRE(reinterpret_cast<void*>(library.malloc) != reinterpret_cast<void*>(&malloc));
  std::atomic<int> done{0};
  std::atomic<bool> end{false};
  std::vector<Thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      work(library, i);
      done.fetch_add(1);
      while (!end.load()) sched_yield();
    });
  }
  work(library, 99);
  while (done.load() < 4) sched_yield();
  CHILD_REQUIRE(dlclose(handle) == 0);
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = -1;
  CHILD_REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
  end = true;  // the threads' destructors run now
  for (Thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  CHILD_REQUIRE(argc == 2);
  for (int flags : {RTLD_NOW | RTLD_LOCAL, RTLD_LAZY | RTLD_LOCAL, RTLD_NOW | RTLD_GLOBAL}) open_use_close(argv[1], flags);
  return 0;
}
