// What the steps cost that the model counts, in ns each, on this machine: medians over rounds.
//
//   atomic   a read-modify-write of a line that this processor has, beyond a read
//   reads    of a line that another processor wrote last: each has the address of the next
//   writes   to such a line: one after another, none waits for the one before
//   modifies of such a line, atomically; each has the address of the next
//
// Lines travel between two threads on two processors, in random order, and what the same takes when the lines are here already
// is left out. With any argument only what needs one processor. Prints "atomic=... reads=... writes=... modifies=...".
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>
#include <vector>

namespace {

constexpr unsigned kLines = 128, kRounds = 2000, kFewestRounds = 50, kPage = 4096;
constexpr double kPatienceNs = 1e9;  // for each kind

// A page each, but at another place of it, so that they do not share a set of the cache.
struct Line {
  alignas(64) std::atomic<uint64_t> value;
  Line* next;
};

Line* lines[kLines];
std::atomic<unsigned> turn{0};  // even: the measuring thread's, odd: the other one's
enum class Step { Read, Write, Modify };

double now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e9 * static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec);
}

cpu_set_t all;

void stay_on(unsigned which) {
  cpu_set_t one;
  CPU_ZERO(&one);
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &all) && which-- == 0) CPU_SET(cpu, &one);
  if (pthread_setaffinity_np(pthread_self(), sizeof one, &one) != 0) {
    fputs("line_cost: two processors are needed\n", stderr);
    _exit(1);
  }
}

// ns for each line.
double walk(Step step) {
  const double begin = now_ns();
  Line* line = lines[0];
  for (unsigned i = 0; i < kLines; i++) {
    if (step == Step::Write) {
      lines[i]->value.store(i, std::memory_order_relaxed);
      continue;
    }
    if (step == Step::Modify) line->value.fetch_add(1, std::memory_order_relaxed);
    line = line->next;
    asm volatile("" : "+r"(line));  // none is read before the one before it
  }
  return (now_ns() - begin) / kLines;
}

double median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// The lines away, less the lines here.
double cost(Step step) {
  std::vector<double> away, here;
  const double begin = now_ns();
  for (unsigned round = 0; round < kRounds && now_ns() - begin < kPatienceNs; round++) {
    const unsigned mine = turn.load(std::memory_order_relaxed) + 2;
    turn.store(mine - 1, std::memory_order_release);  // pairs with the acquire in other()
    while (turn.load(std::memory_order_acquire) != mine) sched_yield();
    away.push_back(walk(step));
    here.push_back(walk(step));
  }
  if (away.size() < kFewestRounds) {
    fputs("line_cost: the processors are busy\n", stderr);
    _exit(1);
  }
  return median(away) - median(here);
}

void* other(void*) {
  stay_on(1);
  for (unsigned mine = 1;; mine += 2) {
    unsigned seen;
    while ((seen = turn.load(std::memory_order_acquire)) != mine) {
      if (seen == ~0u) return nullptr;
      sched_yield();
    }
    for (Line* line : lines) line->value.store(mine, std::memory_order_relaxed);
    turn.store(mine + 1, std::memory_order_release);  // pairs with the acquire in cost()
  }
}

double atomic_cost() {
  std::vector<double> atomic, plain;
  for (unsigned round = 0; round < kRounds; round++) {
    walk(Step::Modify);
    atomic.push_back(walk(Step::Modify));
    plain.push_back(walk(Step::Read));
  }
  return median(atomic) - median(plain);
}

}  // namespace

int main(int argc, char**) {
  sched_getaffinity(0, sizeof all, &all);
  char* memory = new char[(kLines + 1) * kPage]();
  memory += kPage - reinterpret_cast<uintptr_t>(memory) % kPage;
  std::mt19937 random(1);
  for (unsigned i = 0; i < kLines; i++) lines[i] = reinterpret_cast<Line*>(memory + size_t{i} * (kPage - 64));
  std::shuffle(lines, lines + kLines, random);
  for (unsigned i = 0; i < kLines; i++) lines[i]->next = lines[(i + 1) % kLines];
  stay_on(0);
  const double atomic = atomic_cost();
  if (argc > 1) return printf("atomic=%.2f\n", atomic) < 0;
  pthread_t thread;
  if (pthread_create(&thread, nullptr, other, nullptr) != 0) return 1;
  const double read = cost(Step::Read), write = cost(Step::Write), modify = cost(Step::Modify);
  turn.store(~0u);
  pthread_join(thread, nullptr);
  printf("atomic=%.2f reads=%.2f writes=%.2f modifies=%.2f\n", atomic, read, write, modify);
}
