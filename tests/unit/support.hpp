// What the white-box tests share: refusals by the kernel on demand, threads that have a shard of their own, and the question
// whether everything that was taken has come back. GoogleTest runs on the C library's malloc, so hz3's heap holds nothing but
// what a test took from it.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "hz3/api.hpp"
#include "hz3/fork.hpp"
#include "hz3/large.hpp"
#include "hz3/remote/inbox.hpp"

namespace hz3::test {

enum class Call : unsigned { Reserve, Commit, Decommit, Release, Advise, Move, Count };

// Stands between hz3 and the kernel while it lives: counts the calls and refuses those that it is told to. One at a time. To
// claim memory is to commit it.
class Kernel {
 public:
  Kernel() : real_(os::calls) {
    EXPECT_EQ(current, nullptr);
    current = this;
    os::calls = {reserve, claim, commit, decommit, release, advise, move};
  }
  ~Kernel() {
    os::calls = real_;
    current = nullptr;
  }
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Refuses calls of this kind from the nth from now on (0: the next), `times` of them.
  void refuse(Call call, unsigned nth = 0, unsigned times = ~0u) {
    State& s = state(call);
    s.first = s.seen + nth;
    s.times = times;
  }
  void allow() {
    for (State& s : states_) s.times = 0;
  }
  unsigned calls(Call call) { return state(call).seen; }
  unsigned refused(Call call) { return state(call).refused; }
  // Called once, when the next advice is given, before the kernel has it.
  std::function<void()> at_advice;
  // A refused move loses its target: the kernel unmapped it, and another thread took the addresses.
  bool refused_move_loses = false;

 private:
  struct State {
    std::atomic<unsigned> seen{0}, first{0}, times{0}, refused{0};
  };
  State& state(Call call) { return states_[static_cast<unsigned>(call)]; }
  bool refuses(Call call) {
    State& s = state(call);
    const unsigned n = s.seen++;
    if (s.times == 0 || n < s.first) return false;
    if (s.times != ~0u) s.times--;
    s.refused++;
    return true;
  }
  static void* reserve(size_t bytes) { return current->refuses(Call::Reserve) ? nullptr : current->real_.reserve(bytes); }
  static bool claim(void* p, size_t bytes) { return !current->refuses(Call::Commit) && current->real_.claim(p, bytes); }
  static bool commit(void* p, size_t bytes) { return !current->refuses(Call::Commit) && current->real_.commit(p, bytes); }
  static bool decommit(void* p, size_t bytes) { return !current->refuses(Call::Decommit) && current->real_.decommit(p, bytes); }
  static void release(void* p, size_t bytes) {
    if (!current->refuses(Call::Release)) current->real_.release(p, bytes);
  }
  static bool advise(void* p, size_t bytes, os::Advice advice) {
    if (const auto look = std::exchange(current->at_advice, nullptr)) look();
    return !current->refuses(Call::Advise) && current->real_.advise(p, bytes, advice);
  }
  static os::Moved move(void* from, void* to, size_t bytes) {
    if (!current->refuses(Call::Move)) return current->real_.move(from, to, bytes);
    if (!current->refused_move_loses) return os::Moved::No;
    current->real_.release(to, bytes);
    return os::Moved::Lost;
  }

  inline static Kernel* current = nullptr;
  os::Calls real_;
  std::array<State, static_cast<size_t>(Call::Count)> states_;
};

// Runs `f` in a thread of its own to its end, destructors of thread-specific data included.
template <typename F>
void in_thread(F f) {
  std::thread thread(f);
  thread.join();
}

// Runs `f` in a child process and tells whether all that it expected was so.
inline bool in_child(const std::function<void()>& f) {
  [[maybe_unused]] void (*const volatile handler)() = fork::prepare;  // whoever names one has all of them linked, and run
  fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    alarm(60);  // a child that hangs on a lock is to fail, not to wait
    f();
    fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) ADD_FAILURE() << "the child ended by signal " << WTERMSIG(status);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The calling thread's cache. Its bins are those of a busy thread, however long the test has waited for a processor. Several
// calls where another thread is just making the key that all need.
inline ThreadCache* my_cache() {
  do free_hot(malloc_hot(16));
  while (tls_own == nullptr);
  tls_own->calm = 0;
  return tls_own;
}

inline unsigned list_length(const void* list, const void* end = nullptr) {
  unsigned n = 0;
  for (; list != nullptr && list != end; list = link_of(list)) n++;
  return n;
}

// Blocks in both lists of a bin; of a thread that was emptied those before the place where the first is to be cut.
inline unsigned bin_length(const ThreadCache* tc, Slot slot) {
  if (tc->emptied) return list_length(tc->head[slot], tc->second[slot]);
  return list_length(tc->head[slot]) + list_length(tc->second[slot]);
}

// Blocks as a refill takes them: from the runs that the shard has, else from a new one.
inline Batch take_or_make(Central& central, Slot slot, unsigned want) {
  const Batch batch = central.take(slot, want);
  return batch.head != nullptr ? batch : central.make(slot, want);
}

// A time that is later than any that was asked for before, by far more than the decay time: for ticks without waiting.
inline uint64_t later() {
  static std::atomic<uint64_t> step{0};
  return os::now_ms() + (step += 10) * 1000000;
}

inline void check_all() {
  for (unsigned i = 0; i < kShards; i++) Central::of(i).check();
}

// After everything was freed and all other threads have ended, nothing is in use once the heap is trimmed: a block that was
// lost anywhere would hold its run, the run its segment.
#define EXPECT_NOTHING_LOST()                       \
  do {                                              \
    hz3::test::check_all();                         \
    hz3::api::trim();                               \
    hz3::test::check_all();                         \
    EXPECT_EQ(hz3::PageHeap::dirty_pages(), 0u);    \
    EXPECT_EQ(hz3::large::cached_span_bytes(), 0u); \
    EXPECT_EQ(hz3::PageHeap::held_pages(), 0u);     \
    EXPECT_EQ(hz3::arenas.bytes_in_use(), 0u);      \
  } while (0)

// xorshift64*
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435761u + 88172645463325252u) {}
  uint64_t operator()() {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return state_ * 2685821657736338717u;
  }
  uint64_t below(uint64_t n) { return (*this)() % n; }

 private:
  uint64_t state_;
};

inline bool all_bytes(const void* p, size_t n, unsigned char value) {
  const unsigned char* c = static_cast<const unsigned char*>(p);
  for (size_t i = 0; i < n; i++)
    if (c[i] != value) return false;
  return true;
}

}  // namespace hz3::test
