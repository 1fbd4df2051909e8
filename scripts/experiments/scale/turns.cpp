// See turns.hpp. A shared library to be preloaded in front of the allocator: it takes the place of those functions by which the
// benchmark programs wait, of malloc and free, where turns end, and of the clock.
//
// A turn is of 1 to 2 * HZ3_TURN - 1 calls (default 2), at random. The clock goes on by HZ3_CALL_NS (default 40) for each call,
// on all processors at once: what the allocator does by time comes as often, by calls, as on the machine that is simulated.
//
// An allocator's lock is never waited for: no turn ends inside a call of malloc or free.
#include "turns.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace turns {

thread_local unsigned my_core = kNone;

namespace {

enum State : uint32_t { kWaits, kRuns };

struct alignas(64) Core {
  std::atomic<uint32_t> state{kWaits};
  bool ready = false;  // may have a turn
  bool ended = false;
  pthread_t thread{};
  void* (*work)(void*) = nullptr;
  void* argument = nullptr;
};

// All of this is touched by the thread alone whose turn it is.
Core cores[kMostCores];
unsigned core_count = 0, ready_count = 0;
uint64_t clock_ns = 1'000'000'000, clock_parts = 0, call_ns = 40;  // parts: of a nanosecond, as many as are ready
unsigned calls_left = 1, longest_turn = 3;
uint64_t dice = 1;
thread_local bool inside = false;  // a call of malloc that the allocator itself makes

struct Barrier {
  pthread_barrier_t* key;
  unsigned wanted, arrived;
  bool waits[kMostCores];
} barriers[8];

[[noreturn]] void die(const char* what) {
  fprintf(stderr, "turns: %s\n", what);
  _exit(1);
}

template <class Function>
Function* next(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) die(name);
  return reinterpret_cast<Function*>(found);
}

void futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

void await_turn(Core& core) {
  // acquire: pairs with the release in hand_over(): what the thread before wrote is seen
  while (core.state.load(std::memory_order_acquire) != kRuns) futex(core.state, FUTEX_WAIT_PRIVATE, kWaits);
}

void hand_over(Core& core) {
  core.state.store(kRuns, std::memory_order_release);
  futex(core.state, FUTEX_WAKE_PRIVATE, 1);
}

unsigned ready_after(unsigned core) {
  for (unsigned i = 1; i <= core_count; i++)
    if (const unsigned each = (core + i) % core_count; cores[each].ready) return each;
  return kNone;
}

void set_ready(Core& core, bool ready) {
  if (core.ready != ready) ready_count += ready ? 1 : -1;
  core.ready = ready;
}

// Ends the turn; comes back with the next one, which a thread that is not ready gets after somebody made it so.
void end_turn() {
  dice = dice * 6364136223846793005u + 1442695040888963407u;
  calls_left = 1 + static_cast<unsigned>((dice >> 33) % longest_turn);
  const unsigned me = my_core, to = ready_after(me);
  if (to == me) return;
  if (to == kNone) die("all threads wait for each other");
  cores[me].state.store(kWaits, std::memory_order_relaxed);
  hand_over(cores[to]);
  await_turn(cores[me]);
}

void call() {
  if (my_core == kNone || inside) return;
  clock_parts += call_ns;
  clock_ns += clock_parts / ready_count;
  clock_parts %= ready_count;
  if (--calls_left == 0) end_turn();
}

unsigned setting(const char* name, unsigned otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : static_cast<unsigned>(strtoul(text, nullptr, 10));
}

unsigned add_core() {
  if (core_count == kMostCores) die("too many threads");
  set_ready(cores[core_count], true);
  return core_count++;
}

[[gnu::constructor]] void start() {
  call_ns = setting("HZ3_CALL_NS", 40);
  longest_turn = 2 * setting("HZ3_TURN", 2) - 1;
  // One processor: a turn passes from thread to thread without waking another one.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  my_core = add_core();
  cores[my_core].state = kRuns;
}

void* thread_of(void* self) {
  Core& core = *static_cast<Core*>(self);
  await_turn(core);
  my_core = static_cast<unsigned>(&core - cores);
  void* result = core.work(core.argument);
  core.ended = true;
  set_ready(core, false);
  const unsigned to = ready_after(my_core);
  my_core = kNone;
  if (to == kNone) die("the last thread ended before main");
  hand_over(cores[to]);
  return result;
}

Barrier& barrier_of(pthread_barrier_t* key) {
  for (Barrier& each : barriers)
    if (each.key == key || each.key == nullptr) return each.key = key, each;
  die("too many barriers");
}

}  // namespace
}  // namespace turns

using namespace turns;

extern "C" {

void* malloc(size_t bytes) {
  static auto* const real = next<void*(size_t)>("malloc");
  call();
  inside = true;
  void* block = real(bytes);
  inside = false;
  return block;
}

void free(void* block) {
  static auto* const real = next<void(void*)>("free");
  call();
  inside = true;
  real(block);
  inside = false;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*work)(void*), void* argument) {
  static auto* const real = next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  Core& core = cores[add_core()];
  core.work = work;
  core.argument = argument;
  const int error = real(thread, attributes, thread_of, &core);
  if (error != 0) die("a thread cannot be created");
  core.thread = *thread;
  return 0;
}

int pthread_join(pthread_t thread, void** result) {
  static auto* const real = next<int(pthread_t, void**)>("pthread_join");
  for (unsigned i = 0; i < core_count; i++)
    while (cores[i].thread == thread && !cores[i].ended) end_turn();
  return real(thread, result);
}

int pthread_barrier_init(pthread_barrier_t* key, const pthread_barrierattr_t*, unsigned count) {
  barrier_of(key).wanted = count;
  return 0;
}

int pthread_barrier_wait(pthread_barrier_t* key) {
  Barrier& barrier = barrier_of(key);
  if (++barrier.arrived < barrier.wanted) {
    barrier.waits[my_core] = true;
    set_ready(cores[my_core], false);
    end_turn();
    return 0;
  }
  barrier.arrived = 0;
  for (unsigned i = 0; i < core_count; i++) {
    if (barrier.waits[i]) set_ready(cores[i], true);
    barrier.waits[i] = false;
  }
  end_turn();
  return PTHREAD_BARRIER_SERIAL_THREAD;
}

// Whoever waits lets the others have their turns, and looks again.
int sched_yield() {
  end_turn();
  return 0;
}
int nanosleep(const timespec*, timespec*) { return sched_yield(); }
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  while (pthread_mutex_trylock(mutex) != 0) end_turn();
  return 0;
}
int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t* mutex) {
  pthread_mutex_unlock(mutex);
  end_turn();
  return pthread_mutex_lock(mutex);
}

int clock_gettime(clockid_t, timespec* time) {
  time->tv_sec = static_cast<time_t>(clock_ns / 1'000'000'000);
  time->tv_nsec = static_cast<long>(clock_ns % 1'000'000'000);
  return 0;
}
}
