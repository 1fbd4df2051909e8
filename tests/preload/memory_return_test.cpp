// Memory that is free goes back to the kernel, whoever freed it and whatever the others do. Nothing is timed: each test
// gives the allocator up to ten seconds, in which the program does a little now and then.
#include "support.hpp"

namespace {

constexpr size_t kBulk = 200 * kMiB;
constexpr size_t kKept = kBulk / 10;  // at least nine tenths must go back

std::vector<void*> hold(size_t bytes, size_t size) {
  std::vector<void*> blocks(bytes / size);
  for (void*& block : blocks) block = memset(malloc(size), 1, size);
  return blocks;
}

void free_all(std::vector<void*>& blocks) {
  for (void* block : blocks) free(block);
  blocks.clear();
  blocks.shrink_to_fit();
}

const size_t kSizes[] = {64, 1000, 3000, 20000, 100000, 2 * kMiB, 64 * kMiB};

// A thread that sleeps until it is told to end.
class SleepingThread {
 public:
  explicit SleepingThread(const std::function<void()>& before_sleep)
      : thread_([this, before_sleep] {
          before_sleep();
          asleep_ = true;
          while (!end_.load()) sleep_milliseconds(5);
        }) {
    while (!asleep_.load()) sleep_milliseconds(1);
  }
  ~SleepingThread() {
    end_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> asleep_{false};
  std::atomic<bool> end_{false};
  Thread thread_;
};

// One thread allocates only, the other frees only; `live` blocks are on their way between them.
void pipe_blocks(size_t traffic, size_t size, size_t live, const std::function<void()>& every_so_often) {
  std::vector<std::atomic<void*>> ring(live);
  const size_t count = traffic / size;
  Thread consumer([&] {
    for (size_t i = 0; i < count; ++i) {
      void* block = nullptr;
      while ((block = ring[i % live].exchange(nullptr, std::memory_order_acquire)) == nullptr) sched_yield();
      free(block);
    }
  });
  for (size_t i = 0; i < count; ++i) {
    void* block = memset(malloc(size), 1, std::min<size_t>(size, 256));
    while (ring[i % live].load(std::memory_order_relaxed) != nullptr) sched_yield();
    ring[i % live].store(block, std::memory_order_release);
    if (i % (count / 16 + 1) == 0) every_so_often();
  }
  consumer.join();
}

}  // namespace

TEST(MemoryReturn, of_one_thread) {
  SKIP_WITHOUT_LIBRARY("does not merge blocks of fast bins before a large request");
  for (size_t size : kSizes) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<void*> blocks = hold(kBulk, size);
    ASSERT_GT(resident_bytes(), before + kBulk * 8 / 10) << "the test does not hold what it thinks it holds";
    free_all(blocks);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

TEST(MemoryReturn, with_a_few_blocks_left_alive) {
  SKIP_WITHOUT_LIBRARY("a block at the top of its heap keeps all below it");
  for (size_t size : {64, 1000, 3000, 20000, 100000}) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<void*> blocks = hold(kBulk, size);
    void* last = blocks.back();
    void* first = blocks.front();
    blocks.pop_back();
    blocks.front() = nullptr;
    free_all(blocks);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
    free(first);
    free(last);
  }
}

// Here and there a block stays, so that hardly a run is free as a whole: the pages between them go back all the same.
TEST(MemoryReturn, among_blocks_in_use) {
  SKIP_WITHOUT_LIBRARY("gives back what is free at the top of its heap");
  constexpr size_t kEvery = 32;
  for (size_t size : {4500, 8192, 30000}) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<void*> blocks = hold(kBulk, size);
    for (size_t i = 0; i < blocks.size(); ++i)
      if (i % kEvery != 0) free(std::exchange(blocks[i], nullptr));
    EXPECT_LT(tick_until_resident_below(before + kKept), before + kKept);
    for (size_t round = 0; round < 2; ++round)
      for (size_t i = 0; i < blocks.size(); ++i) {
        const char* bytes = static_cast<const char*>(blocks[i]);
        if (bytes != nullptr) {
          ASSERT_TRUE(bytes[0] == 1 && memcmp(bytes, bytes + 1, size - 1) == 0) << "a page of a block in use went back";
        } else {
          blocks[i] = memset(malloc(size), 1, size);
        }
      }
    free_all(blocks);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

TEST(MemoryReturn, freed_in_random_order) {
  SKIP_WITHOUT_LIBRARY("depends on what lies at the top of its heap");
  const size_t before = resident_bytes();
  Random random{4};
  std::vector<void*> blocks;
  for (size_t held = 0; held < kBulk;) {
    const size_t size = mixed_size(random) + 1;
    blocks.push_back(memset(malloc(size), 1, size));
    held += size;
  }
  for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random.below(i)]);
  free_all(blocks);
  EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
}

TEST(MemoryReturn, of_a_thread_that_sleeps_after_freeing) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  for (size_t size : kSizes) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    SleepingThread sleeper([size] {
      std::vector<void*> blocks = hold(kBulk, size);
      free_all(blocks);
    });
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

// Threads that turned their working sets over and over, so that their bins grew and the blocks in them are of pages all over
// the heap. What their bins hold is reached while they sleep.
TEST(MemoryReturn, of_threads_that_sleep_after_much_work) {
  SKIP_WITHOUT_LIBRARY("keeps what is free in its arenas");
  constexpr size_t kThreads = 8;
  const size_t before = resident_bytes();
  std::vector<std::unique_ptr<SleepingThread>> sleepers;
  std::atomic<size_t> peak{0};
  for (size_t t = 0; t < kThreads; ++t)
    sleepers.push_back(std::make_unique<SleepingThread>([&, t] {
      Random random{t};
      std::vector<char*> blocks;
      const auto block = [&] {
        const size_t size = 16 + random.below(2032);
        return static_cast<char*>(memset(malloc(size), 1, size));
      };
      while (blocks.size() < kBulk / kThreads / 1040) blocks.push_back(block());
      for (size_t i = 0; i < blocks.size() * 4; ++i) {
        char*& slot = blocks[random.below(blocks.size())];
        free(slot);
        slot = block();
      }
      peak = std::max(peak.load(), resident_bytes());
      for (char* each : blocks) free(each);
    }));
  ASSERT_GT(peak.load(), before + kBulk / kThreads);
  EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
}

TEST(MemoryReturn, freed_by_others_while_the_owner_sleeps) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  for (size_t size : kSizes) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<void*> blocks;
    SleepingThread owner([&] { blocks = hold(kBulk, size); });
    free_all(blocks);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

TEST(MemoryReturn, freed_by_a_thread_that_sleeps_for_an_owner_that_sleeps) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  for (size_t size : kSizes) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<void*> blocks;
    SleepingThread owner([&] { blocks = hold(kBulk, size); });
    SleepingThread releaser([&] { free_all(blocks); });
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

TEST(MemoryReturn, of_threads_that_ended) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  for (size_t size : kSizes) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    std::vector<std::vector<void*>> blocks(4);
    run_threads(4, [&](size_t i) { blocks[i] = hold(kBulk / 4, size); });
    run_threads(4, [&](size_t i) { free_all(blocks[(i + 1) % 4]); });
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
}

TEST(MemoryReturn, of_one_size_serves_another) {
  // What was 3000-byte blocks must be usable as 200-byte blocks, and so on: the peak is one bulk, not seven.
  const size_t before = resident_bytes();
  size_t peak = 0;
  for (size_t size : {64, 3000, 200, 20000, 1000, 100000, 16}) {
    std::vector<void*> blocks = hold(kBulk / 2, size);
    peak = std::max(peak, resident_bytes());
    free_all(blocks);
  }
  // 16-byte blocks need 32 bytes each in some allocators, and the vector half as much again.
  EXPECT_LT(peak, before + kBulk * 2);
}

TEST(Bounded, allocating_thread_and_freeing_thread) {
  for (size_t size : {64, 500, 2000, 3000, 10000, 100000}) {
    SCOPED_TRACE(size);
    const size_t before = resident_bytes();
    size_t peak = 0;
    const size_t live = std::max<size_t>(16, 4 * kMiB / size);
    pipe_blocks(std::max<size_t>(128 * kMiB, size * 40000), size, live, [&] { peak = std::max(peak, resident_bytes()); });
    EXPECT_LT(peak, before + 48 * kMiB) << "4 MiB are live at a time";
  }
}

TEST(Bounded, many_frees_for_owners_that_allocate_small_blocks_only) {
  // Four threads allocate small blocks, four others free them; nobody ever asks for a medium or large one.
  const size_t before = resident_bytes();
  std::atomic<size_t> peak{0};
  run_threads(4, [&](size_t) {
    pipe_blocks(32 * kMiB, 48, 1000, [&] {
      const size_t now = resident_bytes();
      if (now > peak.load()) peak = now;
    });
  });
  EXPECT_LT(peak.load(), before + 48 * kMiB);
}

TEST(Bounded, thread_that_only_frees_does_not_hoard) {
  // 160 MiB are freed by one thread that then sleeps without a further call; the main thread must be able to use them.
  const size_t before = resident_bytes();
  size_t peak = 0;
  for (int round = 0; round < 6; ++round) {
    std::vector<void*> blocks = hold(160 * kMiB, 400);
    peak = std::max(peak, resident_bytes());
    SleepingThread releaser([&] { free_all(blocks); });
  }
  EXPECT_LT(peak, before + 260 * kMiB) << "a hoard of every round would be 960 MiB";
}

TEST(Bounded, sleeping_thread_to_which_others_send) {
  // Its shard's inbox fills while it sleeps: others that share the work must be able to use what lies there.
  const size_t before = resident_bytes();
  std::vector<void*> of_sleeper;
  SleepingThread sleeper([&] { of_sleeper = hold(64 * kMiB, 100); });
  std::vector<void*> mine;
  for (void* block : of_sleeper) {
    free(block);
    mine.push_back(memset(malloc(100), 1, 100));
  }
  EXPECT_LT(resident_bytes(), before + 160 * kMiB) << "128 MiB if nothing of the sleeper's is used again";
  free_all(mine);
}

TEST(Bounded, churn_of_changing_sizes_does_not_grow) {
  Random random{9};
  std::vector<void*> blocks(20000);
  size_t after_warm_up = 0;
  for (int round = 0; round < 30; ++round) {
    const size_t scale = random.between(1, 60);
    for (int i = 0; i < 40000; ++i) {
      void*& block = blocks[random.below(blocks.size())];
      free(block);
      const size_t size = random.between(1, 100) * scale;
      block = memset(malloc(size), 1, size);
    }
    if (round == 9) after_warm_up = resident_bytes();
  }
  EXPECT_LT(resident_bytes(), after_warm_up + 96 * kMiB) << "58 MiB is the mean of what is live";
  free_all(blocks);
}

// Whom a block belongs to does not come for it any more: its thread ended, or sleeps for hours. Sizes that are no multiple of
// 64 go home to their owner whoever frees them.

TEST(Stranded, producers_end_while_consumers_go_on_freeing) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  constexpr size_t kProducers = 4, kConsumers = 3, kSteps = 200;
  malloc_trim(0);  // what the test before freed would go back meanwhile
  const size_t before = resident_bytes();
  for (size_t size : {100, 3000}) {
    SCOPED_TRACE(size);
    std::vector<std::vector<void*>> blocks(kProducers);
    std::atomic<size_t> ready{0}, done{0};
    std::atomic<bool> go{false}, end{false};
    std::vector<Thread> consumers;
    for (size_t i = 0; i < kConsumers; ++i) {
      consumers.emplace_back([&, i] {
        free(malloc(16));  // these are here before the producers, so they are nobody's successors
        ++ready;
        while (!go.load()) sleep_milliseconds(1);
        for (size_t step = 0; step < kSteps; ++step) {
          for (std::vector<void*>& of_one : blocks) {
            const size_t from = of_one.size() * step / kSteps, to = of_one.size() * (step + 1) / kSteps;
            for (size_t at = from; at < to; ++at) {
              if (at % kConsumers == i) free(of_one[at]);
            }
          }
          sleep_milliseconds(static_cast<long>(test_seconds() * 1000 / 2 / kSteps));
        }
        ++done;
        while (!end.load()) sleep_milliseconds(1);
      });
    }
    while (ready.load() < kConsumers) sleep_milliseconds(1);
    run_threads(kProducers, [&](size_t i) { blocks[i] = hold(kBulk / kProducers, size); });
    EXPECT_GT(resident_bytes(), before + kBulk * 8 / 10) << "the test does not hold what it thinks it holds";
    go = true;
    while (done.load() < kConsumers) sleep_milliseconds(1);
    for (std::vector<void*>& of_one : blocks) std::vector<void*>().swap(of_one);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
    end = true;
    for (Thread& consumer : consumers) consumer.join();
  }
}

TEST(Stranded, one_sleeps_while_31_send) {
  SKIP_WITHOUT_LIBRARY("trims the main arena only");
  constexpr size_t kSenders = 31, kSize = 100, kHeld = 128 * kMiB;
  const size_t before = resident_bytes();
  std::atomic<size_t> peak{0};
  {
    std::vector<void*> blocks;
    SleepingThread sleeper([&] { blocks = hold(kHeld, kSize); });
    const double until = seconds_now() + test_seconds();
    // Each replaces its part of the blocks, the next one's in the next round, and so on.
    for (size_t round = 0; round < 2 || seconds_now() < until; ++round) {
      run_threads(kSenders, [&](size_t i) {
        const size_t part = (i + round) % kSenders;
        const size_t from = blocks.size() * part / kSenders, to = blocks.size() * (part + 1) / kSenders;
        for (size_t at = from; at < to; ++at) {
          free(blocks[at]);
          blocks[at] = memset(malloc(kSize), 1, kSize);
        }
        const size_t now = resident_bytes();
        if (now > peak.load()) peak = now;
      });
    }
    free_all(blocks);
    EXPECT_LT(tick_until_resident_below(before + kKept / 2), before + kKept);
  }
  EXPECT_LT(peak.load(), before + kHeld * 3 / 2) << "it is twice as much if nothing of the sleeper's is used again";
}
