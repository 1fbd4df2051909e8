// Many threads alive at once, more than any lane has shards: correctness and bounded memory.
#include <fstream>

#include "support.hpp"

namespace {

constexpr size_t kStack = 64 * kKiB;

// Lets threads wait for each other without an allocation of their own.
class Barrier {
 public:
  explicit Barrier(size_t count) { pthread_barrier_init(&barrier_, nullptr, static_cast<unsigned>(count)); }
  ~Barrier() { pthread_barrier_destroy(&barrier_); }
  void wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

// How many threads this machine lets one process have.
size_t thread_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NPROC, &limit);
  size_t most = limit.rlim_cur;
  for (const char* path : {"/proc/sys/kernel/threads-max", "/sys/fs/cgroup/pids.max"}) {
    size_t value = 0;
    if (std::ifstream(path) >> value) most = std::min(most, value);
  }
  return most;
}

struct Hold {
  static constexpr size_t kBlocks = 24;
  char* blocks[kBlocks];
  size_t sizes[kBlocks];

  void fill(uint64_t seed) {
    Random random{seed};
    for (size_t i = 0; i < kBlocks; ++i) {
      sizes[i] = i == 0 ? 40000 : mixed_size(random) % 5000;
      blocks[i] = static_cast<char*>(malloc(sizes[i]));
      if (blocks[i] != nullptr) fill_pattern(blocks[i], sizes[i], seed);
    }
  }
  bool release(uint64_t seed) {
    bool right = true;
    for (size_t i = 0; i < kBlocks; ++i) {
      right = right && blocks[i] != nullptr && find_mismatch(blocks[i], sizes[i], seed) == kNoMismatch;
      free(blocks[i]);
    }
    return right;
  }
};

// Threads that are all alive at once; in each round every one allocates and then frees what another one allocated.
void run_alive_at_once(size_t count, int rounds) {
  if (thread_limit() < count + 100) GTEST_SKIP() << "only " << thread_limit() << " threads are allowed here";
  const size_t before = resident_bytes();
  size_t with_threads = 0;
  size_t at_end = 0;
  {
    std::vector<Hold> holds(count);
    Barrier barrier(count);
    std::atomic<size_t> wrong{0};
    const size_t started = run_threads(
        count,
        [&](size_t self) {
          for (int round = 0; round < rounds; ++round) {
            holds[self].fill(self);
            barrier.wait();
            if (self == 0) with_threads = std::max(with_threads, resident_bytes());
            const size_t other = (self + 1 + static_cast<size_t>(round) * 7) % count;
            if (!holds[other].release(other)) wrong.fetch_add(1);
            barrier.wait();
          }
        },
        kStack);
    ASSERT_EQ(started, count);
    EXPECT_EQ(wrong.load(), 0u);
    at_end = resident_bytes();
  }
  // 23 blocks of up to 5000 bytes and one of 40000: about 55 KiB live a thread, with the stack's touched pages 70. What the
  // allocator keeps for each thread comes on top.
  EXPECT_LT(with_threads, before + count * 224 * kKiB);
  EXPECT_LT(tick_until_resident_below(before + 24 * kMiB), before + 32 * kMiB) << "at the end: " << at_end;
}

}  // namespace

TEST(ManyThreads, a_thousand_alive_at_once) { run_alive_at_once(1000, 6); }

TEST(ManyThreads, four_thousand_alive_at_once) { run_alive_at_once(4096, 3); }

TEST(ManyThreads, idle_threads_hold_little) {
  if (thread_limit() < 1100) GTEST_SKIP() << "only " << thread_limit() << " threads are allowed here";
  // A thousand threads allocated and freed 100 KiB each and now sleep; what they keep must not be all of it.
  constexpr size_t kCount = 1000;
  const size_t before = resident_bytes();
  std::atomic<size_t> done{0};
  std::atomic<bool> end{false};
  std::vector<Thread> threads;
  for (size_t i = 0; i < kCount; ++i) {
    threads.emplace_back(
        [&] {
          void* blocks[100];
          for (size_t size : {64, 200, 1000}) {
            for (void*& block : blocks) block = memset(malloc(size), 1, size);
            for (void* block : blocks) free(block);
          }
          done.fetch_add(1);
          while (!end.load()) sleep_milliseconds(20);
        },
        kStack);
    ASSERT_TRUE(threads.back().started());
  }
  while (done.load() < kCount) sleep_milliseconds(1);
  const size_t held = tick_until_resident_below(before + 48 * kMiB, 5);
  end = true;
  for (Thread& thread : threads) thread.join();
  EXPECT_LT(held, before + 80 * kMiB) << "of 123 MiB that went through a thousand threads";
}

TEST(ManyThreads, sixty_four_exchange_blocks_without_end) {
  ExchangeSlots slots;
  std::atomic<size_t> wrong{0};
  run_threads(64, [&](size_t seed) {
    Random random{seed};
    for (int i = 0; i < 20000; ++i) {
      const size_t size = mixed_size(random) + 16;
      auto* block = static_cast<uint64_t*>(malloc(size));
      block[0] = size;
      block[1] = size * 3;
      auto* other = static_cast<uint64_t*>(slots.swap(random.next(), block));
      if (other != nullptr && other[1] != other[0] * 3) wrong.fetch_add(1);
      free(other);
    }
  });
  slots.free_all();
  EXPECT_EQ(wrong.load(), 0u);
}

TEST(ManyThreads, births_and_deaths_beside_work) {
  ExchangeSlots slots;
  std::atomic<size_t> started{0};
  run_threads(8, [&](size_t starter) {
    for (uint64_t i = 0; i < 150; ++i) {
      started += run_threads(4, [&](size_t self) {
        Random random{starter * 1000 + i * 4 + self};
        for (int step = 0; step < 200; ++step) free(slots.swap(random.next(), malloc(mixed_size(random))));
      });
    }
  });
  slots.free_all();
  EXPECT_EQ(started.load(), 8u * 150 * 4);
}
