// A stress test of the ends of threads: threads start and are killed at random while blocks are on their way between them.
//
//   thread_churn [--seed N] [--seconds N] [--threads N]
//
// So many threads at a time allocate blocks for others and free those of others; each lives for a few to a few thousand
// operations and ends in one of four ways: it returns, it calls pthread_exit, it is cancelled, or it frees its last blocks in a
// destructor of thread-specific data. Sizes and ways are such that a thread's end finds blocks in its bins and its stash, lists
// in the inbox of its shard, and other threads pushing onto that. Now and then a few threads sleep until the end of the round,
// with whatever they hold. Every byte is checked, as in stress.cpp. After each round all threads have ended and all blocks are
// freed, by the main thread: then nothing may be in use. The first thing wrong ends the run with one line and exit code 1.
#include <pthread.h>
#include <time.h>

#include <string>

#include "worker.hpp"

#if defined(HZ3_WHITEBOX)
#include "hz3/arena.hpp"
#endif

namespace stress {
namespace {

struct Options {
  uint64_t seed = 0;
  size_t seconds = 10;
  size_t threads = 6;
};
Options options;

constexpr size_t kExchanges = 4;
Exchange exchanges[kExchanges];
std::atomic<size_t> waiting{0};
std::atomic<bool> stop{false};
pthread_key_t last_words;
size_t threads_started = 0, rounds = 0, cancelled = 0;

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void little_sleep() {
  const timespec little{0, 200000};
  nanosleep(&little, nullptr);
}

void give(Random& random, const Block& block) {
  waiting.fetch_add(1, std::memory_order_relaxed);
  exchanges[random.below(kExchanges)].give(block);
}

bool free_one(Random& random) {
  Block block = exchanges[random.below(kExchanges)].take();
  if (!block) return false;
  waiting.fetch_sub(1, std::memory_order_relaxed);
  block.free();
  return true;
}

enum class End : unsigned { kReturn, kExit, kCancelled, kDestructor, kSleeps, kCount };

struct Life {
  pthread_t thread{};
  uint64_t seed = 0;
  End end = End::kReturn;
  std::atomic<bool> ended{true};
  bool is_joinable = false;
};

// Set at the very end, when the thread has freed its last block; its cache goes later still.
void last_block(void* value) {
  Life& life = *static_cast<Life*>(value);
  Random random{life.seed + 1};
  if (life.end == End::kDestructor) {
    for (int i = 0; i < 40; ++i) free_one(random);
  }
  life.ended = true;
}

// A thread that only allocates, one that only frees, or one that does both: each leaves other things behind.
void* live(void* argument) {
  Life& life = *static_cast<Life*>(argument);
  pthread_setspecific(last_words, &life);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  Random random{life.seed};
  const size_t allocating = random.below(3) * 50;  // percent
  const Appetite appetite = Appetite::choose(random);
  size_t left = size_t{1} << random.below(13);
  if (life.end == End::kCancelled) left = ~size_t{0};
  for (; left != 0 && !stop.load(std::memory_order_relaxed); --left) {
    if (random.below(100) < allocating && waiting.load(std::memory_order_relaxed) < 20000) {
      const size_t size = std::min<size_t>(appetite.size(random), 40000);
      const Block block = Block::make(random.one_in(4) ? static_cast<unsigned>(random.below(kEntryPoints)) : 15, size, 1, true);
      if (!block) fail("no memory for %zu bytes", size);
      give(random, block);
    } else if (!free_one(random) && random.one_in(50)) {
      little_sleep();
    }
    operations.fetch_add(1, std::memory_order_relaxed);
    if (life.end == End::kCancelled && random.one_in(20)) {  // holds nothing here but what is in its cache
      pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
      pthread_testcancel();
      pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    }
  }
  while (life.end == End::kSleeps && !stop.load(std::memory_order_relaxed)) little_sleep();
  if (life.end == End::kExit) pthread_exit(nullptr);
  return nullptr;
}

void start(Life& life, Random& random) {
  if (life.is_joinable) pthread_join(life.thread, nullptr);
  life.seed = random.next();
  life.end = random.one_in(20) ? End::kSleeps : static_cast<End>(random.below(static_cast<size_t>(End::kSleeps)));
  life.ended = false;
  const int error = pthread_create(&life.thread, nullptr, live, &life);
  if (error != 0) fail("pthread_create: error %d", error);
  life.is_joinable = true;
  ++threads_started;
}

[[maybe_unused]] size_t in_use_at_start = 0;

// Where the allocator serves the test itself, too, there is something in use: as much as at the start, and
// what is left of the runs in which the test has blocks of its own.
void check_nothing_is_lost() {
  do_trim();
#if defined(HZ3_WHITEBOX)
  const size_t in_use = hz3::arenas.bytes_in_use();
  if (in_use != 0) fail("%zu bytes are in use after everything was freed", in_use);
#else
  const size_t in_use = mallinfo2().uordblks;
  if (in_use > in_use_at_start + (size_t{4} << 20)) fail("%zu bytes are in use after everything was freed", in_use);
#endif
}

void round(Random& random, double until) {
  std::vector<std::unique_ptr<Life>> lives;
  for (size_t i = 0; i < options.threads; ++i) lives.push_back(std::make_unique<Life>());
  stop = false;
  while (now() < until) {
    for (auto& life : lives) {
      if (life->ended.load()) {
        start(*life, random);
      } else if (life->end == End::kCancelled && random.one_in(10)) {
        ++cancelled;
        pthread_cancel(life->thread);
        pthread_join(life->thread, nullptr);
        life->is_joinable = false;
      }
    }
    free_one(random);
    little_sleep();
  }
  stop = true;
  for (auto& life : lives) {
    if (life->is_joinable) pthread_join(life->thread, nullptr);
  }
  while (waiting.load() != 0) free_one(random);
  check_nothing_is_lost();
  ++rounds;
}

void parse(int argc, char** argv) {
  options.seed = static_cast<uint64_t>(time(nullptr)) * 1000003 + static_cast<uint64_t>(getpid());
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    const char* text = i + 1 < argc ? argv[i + 1] : "";
    char* end = nullptr;
    const uint64_t value = strtoull(text, &end, 10);
    const bool is_number = *text != '\0' && *end == '\0';
    if (name == "--seed" && is_number) {
      options.seed = value;
    } else if (name == "--seconds" && is_number) {
      options.seconds = value;
    } else if (name == "--threads" && is_number && value > 0) {
      options.threads = value;
    } else {
      fprintf(stderr, "usage: thread_churn [--seed N] [--seconds N] [--threads N]\n");
      exit(2);
    }
  }
  the_seed = options.seed;
}

void run() {
  Random random{options.seed};
  pthread_key_create(&last_words, last_block);
#if !defined(HZ3_WHITEBOX)
  in_use_at_start = mallinfo2().uordblks;
#endif
  const double end = now() + static_cast<double>(options.seconds);
  while (now() < end) round(random, std::min(end, now() + 0.05 + 0.01 * static_cast<double>(random.below(100))));
  printf("thread_churn: ok: %llu operations, %zu threads, %zu of them cancelled, %zu rounds\n",
         static_cast<unsigned long long>(operations.load()), threads_started, cancelled, rounds);
}

}  // namespace
}  // namespace stress

int main(int argc, char** argv) {
  stress::parse(argc, argv);
  printf("thread_churn: seed=%llu seconds=%zu threads=%zu\n", static_cast<unsigned long long>(stress::options.seed),
         stress::options.seconds, stress::options.threads);
  fflush(stdout);
  stress::run();
  return 0;
}
