// A randomized stress test of malloc that checks every byte it wrote.
//
//   stress [--seed N] [--seconds N] [--threads N] [--max-mib N] [--no-fork]
//
// Threads come and go; each allocates through all entry points, writes the whole usable size of each block with a pattern of
// the block's own, checks it before realloc and free and at random, and hands blocks to others, who free them. Some threads
// leave their blocks to a destructor of thread-specific data. Now and then the process forks and the child does the same kind
// of work; a timer interrupts everything with signals; every few seconds all stand still while the blocks are checked for
// overlaps. The first thing wrong ends the run with one line and exit code 1. A run is as repeatable as its scheduling: the
// seed decides what each thread does.
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include <shared_mutex>
#include <string>

#include "worker.hpp"

namespace stress {
namespace {

struct Options {
  uint64_t seed = 0;
  size_t seconds = 20;
  size_t threads = 8;
  size_t max_mib = 512;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  // ThreadSanitizer does not support threads in a child of a process of several threads; AddressSanitizer's own allocator does
  // not take its locks before a fork, so that the child may wait for them for ever.
  bool fork = false;
#else
  bool fork = true;
#endif
};

Options options;
std::vector<std::unique_ptr<Exchange>> exchanges;
// Shared by who changes blocks, exclusive for who looks at all of them; who wants it for itself comes first.
class World {
 public:
  World() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&lock_, &attributes);
  }
  void lock() { pthread_rwlock_wrlock(&lock_); }
  void unlock() { pthread_rwlock_unlock(&lock_); }
  void lock_shared() { pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};
World world;
pthread_key_t leftovers;  // a Worker whose blocks a destructor frees
std::atomic<uint64_t> signals_seen{0};
size_t threads_started = 0;
size_t children = 0;

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A place that a thread works in; when its thread ends, another is started.
struct Slot {
  pthread_t thread{};
  std::atomic<bool> ended{true};
  bool is_joinable = false;
  uint64_t seed = 0;
  std::unique_ptr<Worker> worker;
};
std::vector<std::unique_ptr<Slot>> slots;
std::atomic<bool> stop{false};

size_t budget() { return (options.max_mib << 20) / (options.threads * 2 + 2); }

void free_leftovers(void* value) {
  const std::unique_ptr<Worker> worker(static_cast<Worker*>(value));
  std::shared_lock lock(world);
  worker->finish(true);
}

void* run_slot(void* argument) {
  Slot& slot = *static_cast<Slot*>(argument);
  Random random{slot.seed};
  const size_t rounds = random.between(1, random.one_in(3) ? 10 : 300);
  for (size_t round = 0; round < rounds && !stop.load(); ++round) {
    std::shared_lock lock(world);
    slot.worker->steps(3000);
  }
  {
    std::unique_lock lock(world);  // the worker leaves the slot: nobody may be looking
    if (random.one_in(3)) pthread_setspecific(leftovers, slot.worker.release());
  }
  if (slot.worker != nullptr) {
    std::shared_lock lock(world);
    slot.worker->finish(true);
  }
  slot.ended = true;
  return nullptr;
}

void start(Slot& slot, Random& random) {
  if (slot.is_joinable) pthread_join(slot.thread, nullptr);
  slot.seed = random.next();
  {
    std::unique_lock lock(world);
    slot.worker = std::make_unique<Worker>(random.next(), budget(), &exchanges);
  }
  slot.ended = false;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  if (random.one_in(2)) pthread_attr_setstacksize(&attributes, 64 * 1024);
#endif
  const int error = pthread_create(&slot.thread, &attributes, run_slot, &slot);
  pthread_attr_destroy(&attributes);
  if (error != 0) fail("pthread_create: error %d", error);
  slot.is_joinable = true;
  ++threads_started;
}

// All blocks of all workers and exchanges, sorted by address: none may reach into the next.
void check_overlaps() {
  std::unique_lock lock(world);
  struct Interval {
    const char* start;
    size_t bytes;
    bool operator<(const Interval& other) const { return start < other.start; }
  };
  std::vector<Interval> intervals;
  const auto collect = [&](const Block& block) { intervals.push_back({block.start(), block.usable()}); };
  for (const auto& slot : slots) {
    if (slot->worker != nullptr) slot->worker->for_each(collect);
  }
  for (const auto& exchange : exchanges) exchange->for_each(collect);
  std::sort(intervals.begin(), intervals.end());
  for (size_t i = 1; i < intervals.size(); ++i) {
    if (intervals[i - 1].start + intervals[i - 1].bytes > intervals[i].start) {
      fail("blocks overlap: %p with %zu bytes and %p", static_cast<const void*>(intervals[i - 1].start), intervals[i - 1].bytes,
           static_cast<const void*>(intervals[i].start));
    }
  }
}

void* run_alone(void* worker) {
  static_cast<Worker*>(worker)->steps(2000);
  static_cast<Worker*>(worker)->finish(false);
  return nullptr;
}

// In a child: the forking thread's own blocks are all it may rely on; other threads' locks may be held for ever.
[[noreturn]] void work_in_child(uint64_t seed, Worker& mine) {
  signal(SIGALRM, SIG_DFL);
  alarm(240);
  mine.verify_all("in a child");
  mine.steps(1000);
  Worker others[] = {{seed + 1, budget(), nullptr}, {seed + 2, budget(), nullptr}};
  pthread_t threads[2];
  for (size_t i = 0; i < 2; ++i) {
    if (pthread_create(&threads[i], nullptr, run_alone, &others[i]) != 0) fail("pthread_create in a child: %d", errno);
  }
  mine.steps(1000);
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  mine.finish(false);
  _exit(0);
}

void fork_child(uint64_t seed, Worker& mine) {
  mine.steps(200);
  const pid_t child = fork();
  if (child < 0) fail("fork: errno %d", errno);
  if (child == 0) work_in_child(seed, mine);
  int status = 0;
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) fail("waitpid: errno %d", errno);
  }
  if (WIFSIGNALED(status))
    fail("a child was ended by signal %d%s", WTERMSIG(status), WTERMSIG(status) == SIGALRM ? ": it hung" : "");
  if (WEXITSTATUS(status) != 0) fail("a child failed");
  ++children;
}

// Damage often shows as a crash first: that gets its line, too, and then its core.
[[maybe_unused]] void on_crash(int number) {
  char text[128];
  const int length = snprintf(text, sizeof text, "stress: seed %llu: process %d: signal %d\n",
                              static_cast<unsigned long long>(the_seed), getpid(), number);
  if (write(2, text, static_cast<size_t>(length)) < 0) _exit(2);
  signal(number, SIG_DFL);
  raise(number);
}

void on_signal(int) { signals_seen.fetch_add(1, std::memory_order_relaxed); }

void start_signals() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(number, on_crash);
#endif
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval every{{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &every, nullptr);
}

void parse(int argc, char** argv) {
  options.seed = static_cast<uint64_t>(time(nullptr)) * 1000003 + static_cast<uint64_t>(getpid());
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--no-fork") {
      options.fork = false;
      continue;
    }
    const char* text = i + 1 < argc ? argv[++i] : "";
    char* end = nullptr;
    const uint64_t value = strtoull(text, &end, 10);
    const bool is_number = *text != '\0' && *end == '\0';
    if (name == "--seed" && is_number) {
      options.seed = value;
    } else if (name == "--seconds" && is_number) {
      options.seconds = value;
    } else if (name == "--threads" && is_number && value > 0) {
      options.threads = value;
    } else if (name == "--max-mib" && is_number && value > 0) {
      options.max_mib = value;
    } else {
      fprintf(stderr, "usage: stress [--seed N] [--seconds N] [--threads N] [--max-mib N] [--no-fork]\n");
      exit(2);
    }
  }
  the_seed = options.seed;
}

void report(const char* what, double seconds) {
  printf("stress: %s after %.0f s: %llu operations, %zu threads, %zu children, %llu signals, %zu MiB live\n", what, seconds,
         static_cast<unsigned long long>(operations.load()), threads_started, children,
         static_cast<unsigned long long>(signals_seen.load()), live_bytes.load() >> 20);
  fflush(stdout);
}

void run() {
  Random random{options.seed};
  pthread_key_create(&leftovers, free_leftovers);
  for (size_t i = 0; i < options.threads; ++i) {
    exchanges.push_back(std::make_unique<Exchange>());
    slots.push_back(std::make_unique<Slot>());
  }
  Worker mine(random.next(), budget(), nullptr);
  start_signals();
  const double began = now();
  double next_report = began + 10;
  double next_check = began + 1;
  double next_fork = began;
  double last_progress = began;
  uint64_t seen_operations = 0;
  while (now() - began < static_cast<double>(options.seconds)) {
    for (auto& slot : slots) {
      if (slot->ended.load()) start(*slot, random);
    }
    mine.steps(1000);
    if (options.fork && now() >= next_fork) {
      fork_child(random.next(), mine);
      next_fork = now() + 0.2;
    }
    if (now() >= next_check) {
      check_overlaps();
      next_check = now() + 3;
    }
    if (operations.load() > seen_operations + 20) last_progress = now();
    if (now() > last_progress + 120) fail("no thread has made progress for 120 s");
    seen_operations = operations.load();
    if (now() >= next_report) {
      report("going on", now() - began);
      next_report += 10;
    }
    const timespec little{0, 1000000};
    nanosleep(&little, nullptr);
  }
  stop = true;
  for (auto& slot : slots) {
    if (slot->is_joinable) pthread_join(slot->thread, nullptr);
  }
  check_overlaps();
  for (auto& exchange : exchanges) {
    while (Block block = exchange->take()) block.free();
  }
  mine.finish(false);
  report("ok", now() - began);
}

}  // namespace
}  // namespace stress

int main(int argc, char** argv) {
  stress::parse(argc, argv);
  printf("stress: seed=%llu seconds=%zu threads=%zu max-mib=%zu\n", static_cast<unsigned long long>(stress::options.seed),
         stress::options.seconds, stress::options.threads, stress::options.max_mib);
  fflush(stdout);
#if !defined(HZ3_WHITEBOX)
  // A preload that silently did not take would make this a test of glibc.
  const char* expected = getenv("HZ3_EXPECT_LIBRARY");
  Dl_info info{};
  if (expected != nullptr && *expected != '\0') {
    char* wanted = realpath(expected, nullptr);
    dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info);
    char* found = realpath(info.dli_fname, nullptr);
    if (wanted == nullptr || found == nullptr || strcmp(wanted, found) != 0) stress::fail("%s does not serve malloc", expected);
    free(wanted);
    free(found);
  }
#endif
  stress::run();
  return 0;
}
