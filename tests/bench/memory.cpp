// memory mib idle_ms scenario=NAME ticks=yes
//
// How much memory an allocator holds for what a program has, over the time of a run. Each scenario is a way in which programs
// use memory that some allocator is known to answer with much more than that; sizes are those of an application unless said
// otherwise:
//   live     blocks up to `mib`, and nothing else
//   age      then each is replaced some 20 times, while sizes drift to twice as large and back
//   drift    the same six times over, while an eighth of the blocks stays for a whole turn: what is left of the sizes in
//   between? holes    blocks up to `mib`, of which 90 % are freed at random; idle empty    blocks up to `mib`, all freed; idle
//   peaks    three times from an eighth of `mib` up to it and back again; idle after each
//   threads  a thread after the other holds 200 blocks, frees half of them and ends; the main thread frees the others
//   crowds   32 threads at a time fill `mib` and end; the next crowd frees what is left of them and fills it anew; idle in the
//   end sleep    32 threads fill `mib`, free it and sleep; idle pipe     one thread allocates, another one frees; an eighth of
//   `mib` is on its way large    blocks of 64 KiB to 4 MiB, each replaced ten times
// When idle, for `idle_ms` each time, the main thread calls malloc a little now and then; with ticks=no, nobody does. An
// operation is a malloc or a free, without the idle time.
#include "holding.hpp"

namespace {

using bench::Held;
using bench::Record;

constexpr unsigned kThreads = 32;
constexpr uint32_t kOfThread = 200;  // blocks of one of many threads

struct Job {
  Record record{};
  uint64_t bytes, idle_ms;
  bool ticks;
  std::atomic<uint64_t> ops{0};

  // Places for blocks of an application's sizes, which are 1151 bytes in the mean.
  size_t places() const { return bytes / 512 + 1000; }
  bool below(uint64_t limit) const { return record.live.load(std::memory_order_relaxed) < static_cast<int64_t>(limit); }
  uint64_t live() const { return static_cast<uint64_t>(record.live.load(std::memory_order_relaxed)); }
  void idle() { record.idle(idle_ms, ticks); }
};

// ---- one thread -------------------------------------------------------------------------------------------------------------

void fill(Job& job, Held& held, uint64_t limit) {
  job.record.begin("fill");
  const uint64_t from = job.live();
  while (job.below(limit)) {
    held.add(bench::app_size(held.random));
    job.record.done(job.live() - from, limit - from);
  }
}

void free_all(Job& job, Held& held, uint32_t kept = 0) {
  job.record.begin("free");
  const uint32_t count = held.count();
  for (uint32_t i = kept; i < count; ++i) {
    held.drop(i);
    job.record.done(i - kept + 1, count - kept);
  }
}

// Replaces random blocks from `first` on, by ones of `from` to `upto` eighths of their size, and back.
void replace(Job& job, Held& held, uint32_t first, uint32_t from, uint32_t upto, uint64_t limit) {
  const uint64_t steps = uint64_t{held.count()} * 20;
  for (uint64_t step = 0; step < steps; ++step) {
    const uint64_t half = steps / 2, distance = step < half ? step : steps - step;
    const uint32_t eighths = from + static_cast<uint32_t>((upto - from + 1) * distance / (half + 1));
    const uint32_t place = first + held.random.below(held.count() - first);
    held.drop(place);
    if (job.below(limit)) held.put(place, bench::app_size(held.random) * eighths / 8);
    job.record.done(step + 1, steps);
  }
}

void live(Job& job) {
  Held held(job.record, job.places(), 1);
  fill(job, held, job.bytes);
  job.ops = held.ops.load();
}

void age(Job& job) {
  Held held(job.record, job.places(), 1);
  fill(job, held, job.bytes);
  job.record.begin("replace");
  replace(job, held, 0, 8, 16, job.bytes);
  job.ops = held.ops.load();
}

void drift(Job& job) {
  constexpr unsigned kTurns = 6;
  Held held(job.record, job.places(), 1);
  fill(job, held, job.bytes);
  const uint32_t part = held.count() / 8;
  for (unsigned turn = 0; turn < kTurns; ++turn) {
    job.record.begin("replace");
    // The part that stays: replaced at the beginning of each turn, between what is short-lived.
    for (uint32_t place = 0; place < part; ++place) {
      held.drop(place);
      held.put(place, bench::app_size(held.random) * (8 + turn) / 8);
    }
    replace(job, held, part, 8, 8 << (turn % 3), job.bytes);
  }
  job.ops = held.ops.load();
}

void holes(Job& job) {
  Held held(job.record, job.places(), 1);
  fill(job, held, job.bytes);
  job.record.begin("free");
  const uint32_t count = held.count();
  for (uint32_t i = 0; i < count; ++i) {
    if (held.random.below(10) != 0) held.drop(i);
    job.record.done(i + 1, count);
  }
  job.idle();
  job.ops = held.ops.load();
}

void empty(Job& job) {
  Held held(job.record, job.places(), 1);
  fill(job, held, job.bytes);
  free_all(job, held);
  job.idle();
  job.ops = held.ops.load();
}

void peaks(Job& job) {
  Held held(job.record, 3 * job.places(), 1);
  for (int peak = 0; peak < 3; ++peak) {
    fill(job, held, job.bytes / 8);
    const uint32_t kept = held.count();
    fill(job, held, job.bytes);
    free_all(job, held, kept);
    job.idle();
  }
  job.ops = held.ops.load();
}

void large(Job& job) {
  constexpr uint32_t kLeast = 64 << 10, kMost = 4 << 20;
  Held held(job.record, job.bytes / kLeast + 1, 1);
  job.record.begin("fill");
  while (job.below(job.bytes)) {
    held.add(held.random.within(kLeast, kMost));
    job.record.done(job.live(), job.bytes);
  }
  job.record.begin("replace");
  const uint32_t steps = held.count() * 10;
  for (uint32_t step = 0; step < steps; ++step) {
    const uint32_t place = held.random.below(held.count());
    held.drop(place);
    held.put(place, held.random.within(kLeast, kMost));
    job.record.done(step + 1, steps);
  }
  job.ops = held.ops.load();
}

// ---- many threads -----------------------------------------------------------------------------------------------------------

void threads(Job& job) {
  const uint64_t count = (job.bytes >> 20) * 16;
  Held held(job.record, kOfThread, 1);
  auto work = [&](unsigned) {
    for (uint32_t i = 0; i < kOfThread; ++i) held.put(i, bench::app_size(held.random));
    for (uint32_t i = 0; i < kOfThread; i += 2) held.drop(i);
  };
  job.record.begin("churn");
  for (uint64_t i = 0; i < count; ++i) {
    bench::Thread<decltype(work)> thread{&work, 0, {}};
    thread.start();
    thread.join();
    for (uint32_t k = 1; k < kOfThread; k += 2) held.drop(k);
    job.record.done(i + 1, count);
  }
  job.ops = held.ops.load();
}

// The places of each of the threads; its part of the bytes.
Held** held_by_threads(Job& job) {
  Held** const all = bench::table<Held*>(kThreads);
  for (unsigned id = 0; id < kThreads; ++id)
    all[id] = new (bench::table<Held>(1)) Held(job.record, job.places() / kThreads + 1000, id + 1);
  return all;
}

void fill_part(const Job& job, Held& held) {
  for (uint64_t bytes = 0; bytes < job.bytes / kThreads;) {
    const uint32_t size = bench::app_size(held.random);
    held.add(size);
    bytes += size;
  }
}

void crowds(Job& job) {
  constexpr unsigned kCrowds = 24;
  Held** const all = held_by_threads(job);
  const auto start = [&](auto& work) {
    auto* const crowd = bench::table<bench::Thread<std::remove_reference_t<decltype(work)>>>(kThreads);
    for (unsigned id = 0; id < kThreads; ++id) {
      crowd[id] = {&work, id, {}};
      crowd[id].start();
    }
    for (unsigned id = 0; id < kThreads; ++id) crowd[id].join();
  };
  auto work = [&](unsigned id) {
    Held& of_another = *all[(id + 1) % kThreads];
    of_another.drop_all();
    fill_part(job, of_another);
  };
  job.record.begin("crowds");
  for (unsigned i = 0; i < kCrowds; ++i) {
    start(work);
    job.record.done(i + 1, kCrowds);
  }
  auto last = [&](unsigned id) { all[id]->drop_all(); };
  job.record.begin("free");
  start(last);
  job.idle();
  for (unsigned id = 0; id < kThreads; ++id) job.ops += all[id]->ops;
}

// Lets the threads go on, and looks at their work until all have done it. `part` is how much of it is done, in bytes.
template <class Part>
void watch(Job& job, const char* phase, bench::Barrier& turn, const std::atomic<unsigned>& threads_done, Part part) {
  job.record.begin(phase);
  turn.wait();
  while (threads_done.load(std::memory_order_acquire) < kThreads) {
    job.record.done(part() < job.bytes ? part() : job.bytes, job.bytes);
    usleep(200);
  }
  job.record.done(job.bytes, job.bytes);
}

void sleepers(Job& job) {
  Held** const all = held_by_threads(job);
  std::atomic<unsigned> full{0}, empty{0};
  bench::Barrier turn(kThreads + 1), end(kThreads + 1);
  auto work = [&](unsigned id) {
    turn.wait();
    fill_part(job, *all[id]);
    full.fetch_add(1, std::memory_order_release);
    turn.wait();
    all[id]->drop_all();
    empty.fetch_add(1, std::memory_order_release);
    end.wait();
  };
  auto* const crowd = bench::table<bench::Thread<decltype(work)>>(kThreads);
  for (unsigned id = 0; id < kThreads; ++id) {
    crowd[id] = {&work, id, {}};
    crowd[id].start();
  }
  watch(job, "fill", turn, full, [&] { return job.live(); });
  const uint64_t most = job.live();
  watch(job, "free", turn, empty, [&] { return most - job.live(); });
  job.idle();
  end.wait();
  for (unsigned id = 0; id < kThreads; ++id) crowd[id].join();
  for (unsigned id = 0; id < kThreads; ++id) job.ops += all[id]->ops;
}

void pipe(Job& job) {
  constexpr uint32_t kPlaces = 1 << 16;
  const uint64_t count = (job.bytes >> 20) * 8192;
  const auto on_its_way = static_cast<int64_t>(job.bytes / 8);
  Held held(job.record, kPlaces, 1);
  std::atomic<uint64_t> written{0}, read{0};
  auto consume = [&](unsigned) {
    for (uint64_t i = 0; i < count; ++i) {
      while (written.load(std::memory_order_acquire) == i) sched_yield();
      held.drop(static_cast<uint32_t>(i % kPlaces));
      read.store(i + 1, std::memory_order_release);
    }
  };
  bench::Thread<decltype(consume)> consumer{&consume, 0, {}};
  job.record.begin("pipe");
  consumer.start();
  for (uint64_t i = 0; i < count; ++i) {
    while (i - read.load(std::memory_order_acquire) >= kPlaces || !job.below(static_cast<uint64_t>(on_its_way))) sched_yield();
    held.put(static_cast<uint32_t>(i % kPlaces), bench::app_size(held.random));
    written.store(i + 1, std::memory_order_release);
    job.record.done(i + 1, count);
  }
  consumer.join();
  job.ops = 2 * count;
}

struct Scenario {
  const char* name;
  void (*run)(Job&);
};
constexpr Scenario kScenarios[] = {{"live", live},      {"age", age},     {"drift", drift},     {"holes", holes},
                                   {"empty", empty},    {"peaks", peaks}, {"threads", threads}, {"crowds", crowds},
                                   {"sleep", sleepers}, {"pipe", pipe},   {"large", large}};

}  // namespace

int main(int argc, char** argv) {
  bench::Choice scenario{"scenario", {}};
  for (unsigned i = 0; i < std::size(kScenarios); ++i) scenario.values[i] = kScenarios[i].name;
  const bench::Arguments arguments(
      argc, argv, "programs whose memory grows, shrinks and fragments: how much do they hold for it?",
      {{"mib", 64, 1, 1 << 16}, {"idle_ms", 2000, 0, 3'600'000}}, {scenario, {"ticks", {"yes", "no"}}});
  bench::require_preload();
  auto* const lap = bench::table<bench::Lap>(1);
  Job job{.bytes = arguments[0] << 20, .idle_ms = arguments[1], .ticks = arguments.chosen(1) == 0};
  lap->begin = bench::now();
  kScenarios[arguments.chosen(0)].run(job);
  lap->end = bench::now() - job.record.idle_seconds();
  lap->ops = job.ops;
  job.record.print(kScenarios[arguments.chosen(0)].name);
  bench::report(lap, 1);
}
