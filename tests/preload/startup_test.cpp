// Loading and starting: hooks that come back into the allocator, the first call of a process or thread, static TLS and
// small stacks, dlopen of the library, C programs, silence.
#include "support.hpp"
#include "support/elf_file.hpp"

namespace {

ChildResult run_mixed_work(const ChildOptions& options) {
  ChildResult result = run_program({beside_test("mixed_work")}, options);
  if (result.out != "work done\n") result.err += "[did not print that its work is done]";
  return result;
}

}  // namespace

TEST(Startup, ordinary_program_is_silent_on_stderr) { EXPECT_CLEAN(run_mixed_work({})); }

TEST(Startup, program_with_an_almost_empty_environment) {
  ChildOptions options;
  for (const char* name : {"HOME", "PATH", "LANG", "LC_ALL", "TZ", "TERM", "PWD", "USER"}) options.environment.push_back(name);
  EXPECT_CLEAN(run_mixed_work(options));
}

TEST(Startup, hooked_mmap_and_open_and_dlsym) {
  const std::string plugin = beside_test("hooks_libc_plugin.so");
  for (bool in_front : {true, false}) {
    EXPECT_CLEAN(run_program({beside_test("first_call")}, {.environment = {preload_with(plugin, in_front)}}));
    EXPECT_CLEAN(run_mixed_work({.environment = {preload_with(plugin, in_front)}}));
  }
}

TEST(Startup, malloc_wrapper_that_calls_dlsym) {
  const std::string plugin = beside_test("early_dlsym_plugin.so");
  // The wrapper serves malloc here, and the library behind it.
  EXPECT_CLEAN(run_program({beside_test("first_call")}, {.environment = {preload_with(plugin, true)}}));
  EXPECT_CLEAN(run_mixed_work({.environment = {preload_with(plugin, true), "HZ3_EXPECT_LIBRARY"}}));
}

TEST(Startup, free_of_null_is_the_first_call_of_a_constructor) {
  const std::string plugin = beside_test("free_first_plugin.so");
  for (bool in_front : {true, false}) EXPECT_CLEAN(run_mixed_work({.environment = {preload_with(plugin, in_front)}}));
}

TEST(Startup, any_entry_point_may_be_the_first_before_constructors) {
  for (const char* call : {"free_null", "usable_null", "trim", "mallinfo", "mallopt", "malloc", "calloc", "realloc", "memalign",
                           "large", "overflow", "thread"}) {
    SCOPED_TRACE(call);
    EXPECT_CLEAN(run_program({beside_test("first_call")}, {.environment = {std::string("FIRST_CALL=") + call}}));
  }
}

TEST(Startup, free_of_a_foreign_pointer_may_be_the_first_call) {
  SKIP_WITHOUT_LIBRARY("aborts on foreign pointers");
  EXPECT_CLEAN(run_program({beside_test("first_call")}, {.environment = {"FIRST_CALL=free_foreign"}}));
}

TEST(Startup, c_program_does_not_get_libstdcxx) {
  EXPECT_CLEAN(run_program({beside_test("first_call")}));  // looks into its maps
}

TEST(Startup, lazy_and_immediate_binding) {
  EXPECT_CLEAN(run_mixed_work({.environment = {"LD_BIND_NOW=1"}}));
  EXPECT_CLEAN(run_mixed_work({.environment = {"LD_BIND_NOW"}}));
}

TEST(Startup, preloaded_twice) {
  const char* preload = getenv("LD_PRELOAD");
  if (preload == nullptr) GTEST_SKIP() << "nothing is preloaded";
  EXPECT_CLEAN(run_mixed_work({.environment = {preload_with(preload, true)}}));
}

TEST(Startup, any_entry_point_may_be_the_first_of_a_thread) {
  void* block = malloc(100);
  void* large = malloc(5000000);
  const std::function<void()> first_calls[] = {
      [] { free(nullptr); },
      [&] { free(block); },
      [&] { free(large); },
      [] { free(malloc(0)); },
      [] { free(calloc(3, 3000)); },
      [] { free(memalign(64, 100)); },
      [] { free(realloc(nullptr, 70000)); },
      [] { malloc_trim(0); },
      [] { (void)mallinfo2(); },
      [] { free(malloc(3000000)); },
      [] { EXPECT_EQ(malloc(hide(SIZE_MAX)), nullptr); },
  };
  for (const auto& call : first_calls) EXPECT_EQ(run_threads(1, [&](size_t) { call(); }), 1u);
  void* grown = malloc(100);
  run_threads(1, [&](size_t) { grown = realloc(grown, 100000); });
  ASSERT_NE(grown, nullptr);
  free(grown);
}

TEST(SmallStacks, threads_with_the_smallest_stack_can_allocate) {
  const size_t smallest = static_cast<size_t>(PTHREAD_STACK_MIN);
  ExchangeSlots slots;
  for (int round = 0; round < 3; ++round) {
    const size_t started = run_threads(
        200,
        [&](size_t seed) {
          Random random{seed};
          for (int i = 0; i < 300; ++i) {
            const size_t size = mixed_size(random);
            char* block = static_cast<char*>(random.below(3) == 0 ? calloc(1, size) : malloc(size));
            block = static_cast<char*>(realloc(block, size + 1));
            block[size] = 1;
            free(slots.swap(random.next(), block));
          }
          free(memalign(8192, 100));
          free(malloc(4000000));
          malloc_trim(0);
          free(malloc(hide(SIZE_MAX)));
        },
        smallest);
    ASSERT_EQ(started, 200u);
  }
  slots.free_all();
}

TEST(StaticTls, of_the_library_is_small) {
  SKIP_WITHOUT_LIBRARY("is libc itself");
  const ElfFile library{expected_library()};
  ASSERT_TRUE(library.is_valid);
  EXPECT_LT(library.static_tls_bytes, 64u);
}

TEST(Dependencies, are_libc_alone) {
  SKIP_WITHOUT_LIBRARY("is libc itself");
  const ElfFile library{expected_library()};
  ASSERT_TRUE(library.is_valid);
  EXPECT_EQ(library.needed, std::vector<std::string>{"libc.so.6"});
}

TEST(Dlopen, works_and_can_be_closed_in_a_process_without_preload) {
  SKIP_WITHOUT_LIBRARY("cannot be opened a second time");
  EXPECT_CLEAN(run_program({beside_test("dlopen_library"), expected_library()}, {.environment = {"LD_PRELOAD"}}));
}

TEST(Dlopen, works_beside_the_preloaded_library) {
  SKIP_WITHOUT_LIBRARY("cannot be opened a second time");
  EXPECT_EQ(run_in_child([] {
              void* handle = dlopen(expected_library(), RTLD_NOW | RTLD_LOCAL);
              CHILD_REQUIRE(handle != nullptr);
              void* block = malloc(1000);
              CHILD_REQUIRE(dlclose(handle) == 0);
              free(block);
              return 0;
            }).exit_code,
            0);
}

TEST(Dlopen, plugins_with_much_tls_in_running_threads) {
  // The loader allocates each thread's block for this TLS when the thread first uses it, and frees it at thread exit.
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> wrong{0};
    std::atomic<int (*)(int)> touch{nullptr};
    std::vector<Thread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&] {
        while (touch.load() == nullptr) sched_yield();
        for (int turn = 1; turn < 100; ++turn) {
          if (touch.load()(turn) != turn) wrong.fetch_add(1);
          free(malloc(static_cast<size_t>(turn) * 10));
        }
      });
    }
    void* handle = dlopen(beside_test("large_tls_plugin.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle, nullptr) << dlerror();
    touch = reinterpret_cast<int (*)(int)>(dlsym(handle, "touch_large_tls"));
    ASSERT_NE(touch.load(), nullptr);
    for (Thread& thread : threads) thread.join();
    EXPECT_EQ(dlclose(handle), 0);
    EXPECT_EQ(wrong.load(), 0);
  }
}
