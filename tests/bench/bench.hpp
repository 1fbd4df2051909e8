// What the benchmark programs share: arguments, random numbers, threads, clocks, and the report that scripts/bench/ reads.
//
// They know nothing of any allocator: plain malloc and free, and LD_PRELOAD says whose. What a program itself needs
// (tables, rings, counters) comes from mmap, so that the allocator serves the workload alone.
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

namespace bench {

// Exit codes, which scripts/bench/running.py knows by these names.
inline constexpr int kFailed = 1, kUsage = 2, kPreloadDidNotTake = 3, kVoid = 4;

[[noreturn, gnu::format(printf, 2, 3)]] inline void die(int code, const char* format, ...) {
  va_list list;
  va_start(list, format);
  fprintf(stderr, "%s: ", program_invocation_short_name);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
  fflush(stdout);
  _exit(code);
}

// ---- arguments -------------------------------------------------------------------------------------------------------------

struct Parameter {
  const char* name;
  uint64_t value;  // where the command line gives none
  uint64_t least, most;
  const char* told = nullptr;  // what --help says of the default where a number says nothing
};

// A choice is written NAME=VALUE, anywhere on the command line; the first value is the default.
struct Choice {
  const char* name;
  static constexpr unsigned kMost = 12;
  const char* values[kMost];
};

class Arguments {
 public:
  // `about` is one line: what the program is like in the real world.
  Arguments(int argc, char** argv, const char* about, std::initializer_list<Parameter> parameters,
            std::initializer_list<Choice> choices = {}) {
    for (const Parameter& p : parameters) parameters_[parameter_count_++] = p;
    for (const Choice& c : choices) choices_[choice_count_++] = c;
    unsigned given = 0;
    for (int i = 1; i < argc; ++i) {
      if (strcmp(argv[i], "--about") == 0 || strcmp(argv[i], "--help") == 0) tell(about, argv[i][2] == 'h');
      if (strchr(argv[i], '=') != nullptr) {
        choose(argv[i]);
        continue;
      }
      if (given == parameter_count_) die(kUsage, "'%s' is one argument too many (see --help)", argv[i]);
      read(parameters_[given++], argv[i]);
    }
  }
  uint64_t operator[](unsigned index) const { return parameters_[index].value; }
  unsigned chosen(unsigned index) const { return chosen_[index]; }

 private:
  static void read(Parameter& parameter, const char* text) {
    char* end = nullptr;
    const bool digit = text[0] >= '0' && text[0] <= '9';  // strtoull would take a sign
    const uint64_t value = digit ? strtoull(text, &end, 10) : 0;
    if (!digit || *end != '\0' || value < parameter.least || value > parameter.most)
      die(kUsage, "%s '%s': expected a number from %lu to %lu", parameter.name, text, parameter.least, parameter.most);
    parameter.value = value;
  }

  void choose(const char* text) {
    const size_t length = static_cast<size_t>(strchr(text, '=') - text);
    for (unsigned c = 0; c < choice_count_; ++c) {
      if (strlen(choices_[c].name) != length || strncmp(choices_[c].name, text, length) != 0) continue;
      for (unsigned v = 0; v < Choice::kMost && choices_[c].values[v] != nullptr; ++v) {
        if (strcmp(choices_[c].values[v], text + length + 1) != 0) continue;
        chosen_[c] = v;
        return;
      }
    }
    die(kUsage, "'%s' is no choice of this program (see --help)", text);
  }

  [[noreturn]] void tell(const char* about, bool usage) const {
    puts(about);
    if (usage) {
      printf("usage: %s", program_invocation_short_name);
      for (unsigned p = 0; p < parameter_count_; ++p) printf(" [%s]", parameters_[p].name);
      puts("");
      for (unsigned p = 0; p < parameter_count_; ++p) {
        const Parameter& each = parameters_[p];
        printf("  %-12s %lu to %lu, default ", each.name, each.least, each.most);
        if (each.told != nullptr)
          puts(each.told);
        else
          printf("%lu\n", each.value);
      }
      for (unsigned c = 0; c < choice_count_; ++c)
        for (unsigned v = 0; v < Choice::kMost && choices_[c].values[v] != nullptr; ++v)
          printf("  %s=%s%s\n", choices_[c].name, choices_[c].values[v], v == 0 ? " (default)" : "");
    }
    fflush(stdout);
    _exit(0);
  }

  Parameter parameters_[8]{};
  Choice choices_[4]{};
  unsigned parameter_count_ = 0, choice_count_ = 0, chosen_[4]{};
};

// ---- whose malloc ----------------------------------------------------------------------------------------------------------

// The dynamic linker goes on without a library that it cannot preload, and then glibc would be measured under another name.
// A preload may define no malloc at all, which is the same mistake. Valgrind preloads a library of its own, without malloc.
inline void require_preload() {
  Dl_info info{};
  char wanted[PATH_MAX], actual[PATH_MAX], list[2 * PATH_MAX];
  const char* preload = getenv("LD_PRELOAD");
  if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0 || info.dli_fname == nullptr ||
      realpath(info.dli_fname, actual) == nullptr)
    die(kPreloadDidNotTake, "malloc is in no library");
  if (preload == nullptr || strlen(preload) >= sizeof list) return;
  strcpy(list, preload);
  unsigned libraries = 0;
  for (char *rest = list, *path; (path = strsep(&rest, ": ")) != nullptr;) {
    if (*path == '\0' || strstr(path, "/vgpreload_") != nullptr) continue;
    if (realpath(path, wanted) != nullptr && strcmp(wanted, actual) == 0) return;
    libraries++;
  }
  if (libraries > 0)
    die(kPreloadDidNotTake, "the preload did not take: malloc is that of %s, not of %s", info.dli_fname, preload);
}

// ---- memory and clocks -----------------------------------------------------------------------------------------------------

// Zeroed memory for the program itself, which is not given back.
template <class T>
T* table(size_t count) {
  void* memory =
      mmap(nullptr, count * sizeof(T) + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) die(kFailed, "no memory for a table of %zu bytes", count * sizeof(T));
  return static_cast<T*>(memory);
}

inline double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A field of /proc/self/status in MiB: VmHWM is the peak RSS of this program alone, where ru_maxrss survives exec and so never
// falls below the parent's.
inline double status_mib(const char* field) {
  char text[4096];
  const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) die(kFailed, "/proc/self/status cannot be read");
  text[length] = '\0';
  const char* found = strstr(text, field);
  if (found == nullptr) die(kFailed, "/proc/self/status has no %s", field);
  return static_cast<double>(strtoull(found + strlen(field) + 1, nullptr, 10)) / 1024;
}

inline void* must(void* block, size_t bytes) {
  if (block == nullptr) die(kFailed, "no memory for %zu bytes", bytes);
  return block;
}

inline void* take(size_t bytes) { return must(malloc(bytes), bytes); }

// Writes to every page of a block, as a program that uses it would.
inline void touch_pages(void* block, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(block)[at] = 1;
}

// ---- random numbers --------------------------------------------------------------------------------------------------------

// A linear congruential generator whose upper half is used: two cycles, so that what is measured is not this.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u) { next(); }
  uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 32);
  }
  // Of 0..n-1, each as likely as the others up to n in 2^32.
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((uint64_t{next()} * n) >> 32); }
  uint32_t within(uint32_t least, uint32_t most) { return least + below(most - least + 1); }

 private:
  uint64_t state_;
};

// What an application asks for: 80 % of 16..256 bytes, 15 % of 257..2048, 5 % of 2049..32768. Without a branch, which would be
// guessed wrong every fifth time.
inline uint32_t app_size(Random& random) {
  static constexpr uint32_t kLeast[] = {16, 257, 2049}, kMost[] = {256, 2048, 32768};
  const uint32_t percent = random.below(100);
  const unsigned part = unsigned{percent >= 80} + unsigned{percent >= 95};
  return random.within(kLeast[part], kMost[part]);
}

// ---- threads ---------------------------------------------------------------------------------------------------------------

class Barrier {
 public:
  explicit Barrier(unsigned count) { pthread_barrier_init(&barrier_, nullptr, count); }
  void wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

template <class Work>
struct Thread {
  Work* work;
  unsigned id;
  pthread_t handle;

  void start() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);  // thousands of threads are to fit
    const auto entry = [](void* self) -> void* {
      (*static_cast<Thread*>(self)->work)(static_cast<Thread*>(self)->id);
      return nullptr;
    };
    if (const int error = pthread_create(&handle, &attributes, entry, this); error != 0)
      die(kFailed, "thread %u cannot be created: %s", id, strerror(error));
    pthread_attr_destroy(&attributes);
  }
  void join() { pthread_join(handle, nullptr); }
};

// Runs work(0) to work(count - 1), each in a thread of its own. A single one runs in the calling thread: then the program
// has one thread, which some allocators (and glibc) treat in another way than the only thread that is left.
template <class Work>
void in_threads(unsigned count, Work work) {
  if (count == 1) return work(0u);
  auto* threads = table<Thread<Work>>(count);
  for (unsigned id = 0; id < count; ++id) {
    threads[id] = Thread<Work>{&work, id, {}};
    threads[id].start();
  }
  for (unsigned id = 0; id < count; ++id) threads[id].join();
}

// ---- the report ------------------------------------------------------------------------------------------------------------

// What one thread did, and when. On a line of its own.
struct alignas(128) Lap {
  double begin, end;
  uint64_t ops;
};

// `ops/s=` counts from when the first thread began to when the last one ended.
inline void report(const Lap* laps, unsigned count) {
  Lap all = laps[0];
  for (unsigned i = 1; i < count; ++i) {
    all.begin = laps[i].begin < all.begin ? laps[i].begin : all.begin;
    all.end = laps[i].end > all.end ? laps[i].end : all.end;
    all.ops += laps[i].ops;
  }
  const double seconds = all.end - all.begin;
  if (all.ops == 0 || seconds <= 0) die(kFailed, "nothing was done");
  printf("ops/s=%.0f ops=%lu seconds=%.6f\n", static_cast<double>(all.ops) / seconds, all.ops, seconds);
  printf("[RSS] peak_mib=%.2f now_mib=%.2f\n", status_mib("VmHWM:"), status_mib("VmRSS:"));
}

}  // namespace bench
