// See hz3/background.hpp.
#include "hz3/background.hpp"

#include <pthread.h>
#include <cerrno>
#include <csignal>

#include "hz3/cold.hpp"
#include "hz3/thread_cache.hpp"

namespace hz3::background {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // it may be the last thread, which glibc lets run the handlers of exit()
constexpr uint64_t kRetryMs = 1000;        // after the system refused a thread

enum State : uint32_t { kAbsent, kAwake, kAsleep };
constexpr uint32_t kGeneration = 4;  // the word counts them above the state

// seq_cst: going to sleep stores the word and looks at what waits; attend() has made something wait and looks at the word. One
// of the two sees the other. All else is behind the locks of what a tick visits.
constinit std::atomic<uint32_t> word{kAbsent};
constinit std::atomic<uint64_t> retry_ms{0};  // relaxed, no pairs: when a start may be tried again
constinit std::atomic<int> home{0};           // relaxed, no pairs: the process that may start a thread

uint32_t* futex() { return reinterpret_cast<uint32_t*>(&word); }
State state_of(uint32_t w) { return static_cast<State>(w % kGeneration); }
uint32_t with(uint32_t w, State state) { return w - state_of(w) + state; }

// Ends the thread that there is, without waiting for it.
void end() {
  uint32_t w = word.load();
  while (state_of(w) != kAbsent && !word.compare_exchange_weak(w, with(w, kAbsent) + kGeneration)) {
  }
  if (state_of(w) != kAbsent) os::futex_wake(futex(), 1);
}

// Sleeps until there is something to do. False when the thread is to end.
bool sleep(uint32_t awake) {
  const uint32_t asleep = with(awake, kAsleep);
  uint32_t w = awake;
  if (!word.compare_exchange_strong(w, asleep)) return false;
  w = asleep;
  if (anything_waits()) return word.compare_exchange_strong(w, awake) || w == awake;
  // Nobody would wake it: whoever has no cache does not come here.
  if (thread_registry.threads() == 0) {
    end();
    return false;
  }
  while (word.load() == asleep) os::futex_wait(futex(), asleep);
  return word.load() == awake;
}

void* run(void* argument) {
  const uint32_t awake = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument));
  os::name_thread("hz3-purge");
  for (;;) {
    os::futex_wait_for(futex(), awake, cooling::pause_ms());
    if (word.load() != awake) return nullptr;
    tick(os::now_ms());
    statistics::add_up();
    if (!anything_waits() && !sleep(awake)) return nullptr;
  }
}

bool create(uint32_t awake) {
  const int saved = errno;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // What starting a thread allocates is not taken from, and not put into, a cache whose thread is in the midst of something.
  // relaxed: an exchange, so that who parks the cache at this moment (sleepers::park) is not undone
  ThreadCache* mine = __atomic_exchange_n(&tls_cache, &ended_cache, __ATOMIC_RELAXED);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  void* argument = reinterpret_cast<void*>(uintptr_t{awake});
  const bool done = pthread_create(&thread, &attributes, run, argument) == 0;
  pthread_attr_destroy(&attributes);
  __atomic_store_n(&tls_cache, mine, __ATOMIC_RELAXED);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = saved;
  return done;
}

void start(uint32_t absent) {
  if (!worth_a_tick()) return;
  // A child of vfork() or of a bare clone() shares this word with its parent, and may not start threads.
  const uint64_t now = os::now_ms();
  if (now < retry_ms.load(std::memory_order_relaxed) || os::process_id() != home) return;
  const uint32_t awake = with(absent, kAwake);
  if (!word.compare_exchange_strong(absent, awake) || create(awake)) return;
  retry_ms.store(now + kRetryMs, std::memory_order_relaxed);
  end();
}

}  // namespace

void attend_slow() {
  uint32_t w = word.load();
  switch (state_of(w)) {
    case kAbsent:
      start(w);
      break;
    case kAsleep:
      if (word.compare_exchange_strong(w, with(w, kAwake))) os::futex_wake(futex(), 1);
      break;
    case kAwake:
      break;
  }
}

void thread_ended() {
  if (state_of(word.load()) != kAbsent && thread_registry.threads() == 0) {
    end();
  } else {
    attend();
  }
}

void settings_changed() {
  if (settings::background_thread()) {
    home = os::process_id();
  } else {
    end();
  }
}

void in_child() {
  word = with(word, kAbsent) + kGeneration;
  if (settings::background_thread()) home = os::process_id();
}

namespace {
// After the environment was read.
[[gnu::constructor(102)]] void at_start() { settings_changed(); }
}  // namespace

}  // namespace hz3::background
