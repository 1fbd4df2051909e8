// The end of threads and of the process: allocation and frees in destructors of every kind, in every order, and nothing
// kept by threads that are gone.
#include <thread>

#include "support.hpp"

namespace {

constexpr size_t kKeys = 200;  // beyond 32 keys glibc callocs a second-level table per thread and frees it at the very end
pthread_key_t keys[kKeys];
std::atomic<size_t> destructor_calls{0};

struct Payload {
  size_t turns_left;
  size_t key;
  char* text;
};

Payload* make_payload(size_t turns, size_t key) {
  auto* payload = static_cast<Payload*>(malloc(sizeof(Payload)));
  *payload = Payload{turns, key, static_cast<char*>(malloc(100 + key * 30))};
  fill_pattern(payload->text, 100, key);
  return payload;
}

// Frees its payload, allocates and frees other things, and sets the key again until its turns are used up.
void destroy_payload(void* value) {
  auto* payload = static_cast<Payload*>(value);
  destructor_calls.fetch_add(1);
  CHILD_REQUIRE(find_mismatch(payload->text, 100, payload->key) == kNoMismatch);
  for (size_t size : {10, 1000, 3000, 10000, 100000}) free(calloc(1, size));
  if (payload->turns_left > 1) {
    Payload* again = make_payload(payload->turns_left - 1, payload->key);
    CHILD_REQUIRE(pthread_setspecific(keys[payload->key], again) == 0);
  }
  free(payload->text);
  free(payload);
}

void create_keys() {
  for (pthread_key_t& key : keys) CHILD_REQUIRE(pthread_key_create(&key, destroy_payload) == 0);
}

struct FreesAtThreadEnd {
  std::vector<void*> blocks;
  ~FreesAtThreadEnd() {
    for (void* block : blocks) free(block);
    free(malloc(5000));
    blocks.resize(200);
    destructor_calls.fetch_add(1);
  }
};

// Runs short threads one after another and returns by how many bytes the process grew after the first ten.
size_t growth_over_threads(size_t count, const std::function<void()>& body) {
  size_t after_ten = 0;
  for (size_t i = 0; i < count; ++i) {
    run_threads(1, [&](size_t) { body(); });
    if (i == 9) after_ten = resident_bytes();
  }
  const size_t after_all = resident_bytes();
  return after_all > after_ten ? after_all - after_ten : 0;
}

}  // namespace

TEST(ThreadEnd, tsd_destructors_free_and_allocate_in_every_iteration) {
  EXPECT_CLEAN(run_in_child([] {
    create_keys();
    constexpr size_t kTurns = PTHREAD_DESTRUCTOR_ITERATIONS;
    for (int round = 0; round < 20; ++round) {
      destructor_calls = 0;
      CHILD_REQUIRE(run_threads(8, [](size_t i) {
                      for (size_t key = i % 2; key < kKeys; key += 3) {
                        CHILD_REQUIRE(pthread_setspecific(keys[key], make_payload(kTurns, key)) == 0);
                      }
                    }) == 8);
      CHILD_REQUIRE(destructor_calls.load() == 4 * (67 + 67) * kTurns);
    }
    return 0;
  }));
}

TEST(ThreadEnd, tsd_destructors_of_threads_that_never_allocated) {
  // The value comes from another thread: the destructor's free is the thread's first call to the allocator.
  EXPECT_CLEAN(run_in_child([] {
    create_keys();
    for (int round = 0; round < 200; ++round) {
      Payload* payload = make_payload(3, 0);
      run_threads(1, [payload](size_t) { pthread_setspecific(keys[0], payload); });
    }
    CHILD_REQUIRE(destructor_calls.load() == 600);
    return 0;
  }));
}

TEST(ThreadEnd, work_in_the_last_tsd_iteration_leaves_nothing_behind) {
  EXPECT_CLEAN(run_in_child([] {
    create_keys();
    const size_t growth = growth_over_threads(
        8000, [] { pthread_setspecific(keys[kKeys - 1], make_payload(PTHREAD_DESTRUCTOR_ITERATIONS, kKeys - 1)); });
    // Each thread strands 6 KiB if the last iteration's blocks, or a cache made for them, are lost: 48 MiB.
    CHILD_REQUIRE(growth < 8 * kMiB);
    return 0;
  }));
}

TEST(ThreadEnd, second_level_tables_of_glibc_are_freed) {
  // 512 bytes a thread, freed by glibc after all destructors have run: 10 MiB if they are lost.
  EXPECT_CLEAN(run_in_child([] {
    pthread_key_t last{};
    for (int i = 0; i < 100; ++i) CHILD_REQUIRE(pthread_key_create(&last, nullptr) == 0);
    const size_t growth = growth_over_threads(20000, [last] { pthread_setspecific(last, &destructor_calls); });
    CHILD_REQUIRE(growth < 4 * kMiB);
    return 0;
  }));
}

TEST(ThreadEnd, thread_local_destructors_free_and_allocate) {
  EXPECT_CLEAN(run_in_child([] {
    for (int round = 0; round < 50; ++round) {
      run_threads(6, [](size_t) {
        thread_local FreesAtThreadEnd at_end;
        for (size_t size = 8; size < 200000; size = size * 5 / 3) at_end.blocks.push_back(malloc(size));
      });
    }
    CHILD_REQUIRE(destructor_calls.load() == 300);
    return 0;
  }));
}

TEST(ThreadEnd, detached_threads_and_pthread_exit_and_cancel) {
  EXPECT_CLEAN(run_in_child([] {
    create_keys();
    auto body = [](void* how) -> void* {
      pthread_setspecific(keys[5], make_payload(2, 5));
      void* block = malloc(1000);
      pthread_cleanup_push(free, block);
      if (how == nullptr) pthread_exit(nullptr);
      for (;;) sleep_milliseconds(1);  // until cancelled
      pthread_cleanup_pop(1);
      return nullptr;
    };
    for (int i = 0; i < 200; ++i) {
      pthread_t exits{};
      pthread_t cancelled{};
      CHILD_REQUIRE(pthread_create(&exits, nullptr, body, nullptr) == 0);
      CHILD_REQUIRE(pthread_create(&cancelled, nullptr, body, &exits) == 0);
      pthread_detach(exits);
      pthread_cancel(cancelled);
      CHILD_REQUIRE(pthread_join(cancelled, nullptr) == 0);
    }
    return 0;
  }));
}

TEST(ThreadEnd, ten_thousand_short_threads_use_no_more_memory_than_ten) {
  std::vector<void*> left;  // what each thread leaves for the main thread to free
  const size_t growth = growth_over_threads(10000, [&left] {
    for (void* block : left) free(block);
    left.clear();
    for (size_t size : {16, 40, 100, 500, 2000, 3000, 10000, 30000, 60000}) {
      std::vector<void*> blocks;
      for (int i = 0; i < 10; ++i) blocks.push_back(malloc(size));
      left.push_back(blocks.back());
      blocks.pop_back();
      for (void* block : blocks) free(block);
    }
  });
  for (void* block : left) free(block);
  EXPECT_LT(growth, 4 * kMiB);
}

TEST(ThreadEnd, cached_memory_goes_back) {
  const size_t before = resident_bytes();
  for (int round = 0; round < 6; ++round) {
    run_threads(4, [](size_t) {
      for (size_t size : {64, 1000, 3000, 20000, 100000}) {
        std::vector<void*> blocks(8 * kMiB / size);
        for (void*& block : blocks) block = memset(malloc(size), 1, size);
        for (void* block : blocks) free(block);
      }
    });
  }
  EXPECT_LT(tick_until_resident_below(before + 20 * kMiB), before + 24 * kMiB);
}

TEST(ThreadEnd, blocks_of_ended_threads_can_be_freed_and_used_again) {
  // Everything is allocated by threads that end and freed by others: what their shards hold must find new users.
  const size_t before = resident_bytes();
  std::vector<void*> blocks;
  size_t peak = 0;
  for (int round = 0; round < 40; ++round) {
    run_threads(1, [&](size_t) {
      for (size_t i = 0; i < 16 * kMiB / 200; ++i) blocks.push_back(memset(malloc(200), 1, 200));
    });
    run_threads(1, [&](size_t) {
      for (void* block : blocks) free(block);
      blocks.clear();
    });
    peak = std::max(peak, resident_bytes());
  }
  EXPECT_LT(peak, before + 96 * kMiB) << "640 MiB came and went, 16 at a time";
}

TEST(ThreadEnd, frees_from_threads_that_end_reach_their_owners) {
  // The main thread allocates only; short threads free, each too few blocks to fill any batch.
  const size_t before = resident_bytes();
  for (int round = 0; round < 5000; ++round) {
    void* blocks[64];
    for (void*& block : blocks) block = memset(malloc(2000), 1, 2000);
    run_threads(1, [&](size_t) {
      for (void* block : blocks) free(block);
    });
  }
  EXPECT_LT(resident_bytes(), before + 32 * kMiB) << "610 MiB came and went, 125 KiB at a time";
}

TEST(ProcessEnd, allocation_in_atexit_static_destructors_and_running_threads) {
  for (const char* how : {"return", "exit", "quick_exit", "exit_in_thread", "_exit", "pthread_exit_of_main"}) {
    SCOPED_TRACE(how);
    const ChildResult result = run_program({beside_test("at_exit"), how});
    EXPECT_TRUE(result.clean()) << result.describe();
    if (std::string(how) != "_exit") {
      EXPECT_NE(result.out.find("last destructor\n"), std::string::npos) << result.out;
    }
  }
}
