// Pointers that the allocator never gave out: passed over by free, never written to, and harmless to what follows.
#include <sys/mman.h>

#include "support.hpp"
#include "support/fork_work.hpp"

namespace {

alignas(4096) char static_buffer[64 * 1024];

struct Plugin {
  void* handle;
  void* (*allocate)(size_t);
  const char* (*heap)();
  size_t (*heap_bytes)();
  void* (*libc_allocate)(size_t);
  void (*libc_free)(void*);

  Plugin() {
    handle = dlopen(beside_test("own_heap_plugin.so").c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (handle == nullptr) dprintf(2, "%s\n", dlerror());
    CHILD_REQUIRE(handle != nullptr);
    find(allocate, "plugin_allocate");
    find(heap, "plugin_heap");
    find(heap_bytes, "plugin_heap_bytes");
    find(libc_allocate, "plugin_libc_allocate");
    find(libc_free, "plugin_libc_free");
  }

 private:
  template <typename Function>
  void find(Function& into, const char* name) {
    into = reinterpret_cast<Function>(dlsym(handle, name));
    CHILD_REQUIRE(into != nullptr);
  }
};

bool all_bytes_are(const char* start, size_t bytes, char value) {
  for (size_t i = 0; i < bytes; ++i) {
    if (start[i] != value) return false;
  }
  return true;
}

// Frees pointers into a foreign stretch of memory at all kinds of offsets; it must stay as it was.
void free_pointers_into(char* start, size_t bytes) {
  memset(start, 0x42, bytes);
  for (size_t at = 0; at < bytes; at += at < 4096 ? 1 : 2048) {
    errno = 5151;
    free(hide(start + at));
    CHILD_REQUIRE(errno == 5151);
  }
  CHILD_REQUIRE(all_bytes_are(start, bytes, 0x42));
  checked_work(1, 3000);
  CHILD_REQUIRE(all_bytes_are(start, bytes, 0x42));
}

}  // namespace

TEST(ForeignPointer, into_static_memory) {
  SKIP_WITHOUT_LIBRARY("aborts");
  EXPECT_CLEAN(run_in_child([] {
    free_pointers_into(static_buffer, sizeof static_buffer);
    return 0;
  }));
}

TEST(ForeignPointer, into_the_stack) {
  SKIP_WITHOUT_LIBRARY("aborts");
  EXPECT_CLEAN(run_in_child([] {
    char local[16 * 1024];
    free_pointers_into(local, sizeof local);
    run_threads(2, [](size_t) {
      char of_thread[16 * 1024];
      free_pointers_into(of_thread, sizeof of_thread);
    });
    return 0;
  }));
}

TEST(ForeignPointer, into_a_mapping_of_the_program) {
  SKIP_WITHOUT_LIBRARY("aborts");
  EXPECT_CLEAN(run_in_child([] {
    constexpr size_t kBytes = 4 * kMiB;
    auto* mapping = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHILD_REQUIRE(mapping != MAP_FAILED);
    free_pointers_into(mapping, kBytes);
    CHILD_REQUIRE(munmap(mapping, kBytes) == 0);
    return 0;
  }));
}

TEST(ForeignPointer, into_the_program_break) {
  SKIP_WITHOUT_LIBRARY("its own heap is there");
  EXPECT_CLEAN(run_in_child([] {
    auto* start = static_cast<char*>(sbrk(kMiB));
    CHILD_REQUIRE(start != reinterpret_cast<char*>(-1));
    free_pointers_into(start, kMiB);
    return 0;
  }));
}

TEST(ForeignPointer, that_is_no_address_at_all) {
  SKIP_WITHOUT_LIBRARY("dies by SIGSEGV");
  EXPECT_CLEAN(run_in_child([] {
    for (uintptr_t address :
         {uintptr_t{1}, uintptr_t{8}, uintptr_t{16}, uintptr_t{4096}, uintptr_t{1} << 30, uintptr_t{1} << 46,
          (uintptr_t{1} << 47) - 4096, uintptr_t{1} << 47, uintptr_t{1} << 63, ~uintptr_t{0}, ~uintptr_t{15}}) {
      free(hide(reinterpret_cast<void*>(address)));
    }
    checked_work(2, 1000);
    return 0;
  }));
}

TEST(ForeignPointer, usable_size_is_zero) {
  SKIP_WITHOUT_LIBRARY("reads a header that is not there");
  EXPECT_CLEAN(run_in_child([] {
    char local[64];
    CHILD_REQUIRE(malloc_usable_size(hide(static_buffer + 16)) == 0);
    CHILD_REQUIRE(malloc_usable_size(hide(static_cast<char*>(local))) == 0);
    return 0;
  }));
}

TEST(ForeignPointer, realloc_gives_no_block_or_says_why) {
  SKIP_WITHOUT_LIBRARY("aborts without naming the pointer");
  // How much to copy cannot be known: either NULL, or an abort with one line. Never a write to foreign memory.
  const ChildResult result = run_in_child([] {
    memset(static_buffer, 0x24, sizeof static_buffer);
    void* block = realloc(hide(static_buffer + 64), 200);
    CHILD_REQUIRE(block == nullptr);
    CHILD_REQUIRE(all_bytes_are(static_buffer, sizeof static_buffer, 0x24));
    checked_work(3, 1000);
    return 0;
  });
  if (result.signal == SIGABRT) {
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find("realloc(0x"), std::string::npos) << result.err;
  } else {
    EXPECT_TRUE(result.clean()) << result.describe();
  }
}

TEST(ForeignPointer, of_a_deepbind_plugin_with_a_static_heap) {
  SKIP_WITHOUT_LIBRARY("aborts");
  EXPECT_CLEAN(run_in_child([] {
    const Plugin plugin;
    for (int i = 0; i < 20000; ++i) {
      char* block = static_cast<char*>(plugin.allocate(static_cast<size_t>(i) % 500 + 1));
      free(block);
      CHILD_REQUIRE(*block == 0x6B);
    }
    CHILD_REQUIRE(all_bytes_are(plugin.heap(), plugin.heap_bytes() / 2, 0x6B));
    checked_work(4, 1000);
    return 0;
  }));
}

TEST(ForeignPointer, of_a_deepbind_plugin_on_libcs_heap) {
  SKIP_WITHOUT_LIBRARY("is its own heap");
  EXPECT_CLEAN(run_in_child([] {
    const Plugin plugin;
    std::vector<char*> blocks;
    Random random{6};
    for (int i = 0; i < 5000; ++i) {
      const size_t size = i % 100 == 0 ? 200000 : random.between(1, 3000);
      blocks.push_back(static_cast<char*>(plugin.libc_allocate(size)));
      free(blocks.back());  // passed over: the block stays the plugin's
      CHILD_REQUIRE(all_bytes_are(blocks.back(), size, 0x6C));
    }
    for (char* block : blocks) plugin.libc_free(block);  // libc would abort here, had anything been written
    checked_work(5, 1000);
    return 0;
  }));
}

TEST(ForeignPointer, from_several_threads) {
  SKIP_WITHOUT_LIBRARY("aborts");
  EXPECT_CLEAN(run_in_child([] {
    memset(static_buffer, 0x11, sizeof static_buffer);
    run_threads(6, [](size_t seed) {
      Random random{seed};
      for (int i = 0; i < 50000; ++i) {
        free(hide(static_buffer + random.below(sizeof static_buffer)));
        free(malloc(mixed_size(random)));
      }
    });
    CHILD_REQUIRE(all_bytes_are(static_buffer, sizeof static_buffer, 0x11));
    return 0;
  }));
}
