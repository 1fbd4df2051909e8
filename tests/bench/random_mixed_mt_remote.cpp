// Random sizes in a set of slots, in any number of threads, with frees by other threads.
//
//   random_mixed_mt_remote threads iters ws min max remote_pct [ring_slots] [dist=app] [op=empty]
//
// Every thread has `ws` slots. All threads together take `threads` times `iters` steps, in pieces that each thread fetches for
// itself, so that all of them end at once: with a fixed part for each, the last ones would run on half-empty processors, for
// as long as the scheduler made them late. (Before the clock starts, each thread takes an eighth of `iters` to warm up.) A
// step picks a slot: an empty one receives a block of min..max bytes, a full one loses its block. Of those, `remote_pct`
// percent travel over a bounded ring to another thread, any of the next 31, which frees them; the others are freed at once.
// With one thread the ring leads back to it: its frees are late, not remote. An operation is a malloc or a free.
//
// Steps are taken 32 at a time: slots are picked, then all that these lose is freed, then all that these receive is allocated.
// One by one, the processor would guess wrong every other time whether a step frees or allocates, and that alone would take as
// long as a good malloc.
//
// A ring that is full means that its reader has no processor (32 threads on two): the writer waits to it, then sleeps a
// little, and does not spin. Only if the ring is still full after some 10 ms, it frees the block itself: the fallback, which
// is not the workload that was asked for. Where 0.1 % or more of the remote frees fall back, the run is void: said so, and
// exit code 4.
//
// dist=app takes the sizes of an application instead of min..max. op=empty takes blocks from a static array: what is
// measured then is the benchmark itself.
#include <sched.h>

#include <algorithm>

#include "ring.hpp"

namespace {

using bench::Random;

constexpr unsigned kMostFanOut = 31;
constexpr unsigned kBatch = 32;        // steps
constexpr uint64_t kMostPiece = 1024;  // steps that a thread fetches at once: some 10 us
constexpr unsigned kYields = 16;       // and then
constexpr unsigned kSleeps = 100;
constexpr long kSleepNanoseconds = 100'000;  // before a full ring is a fallback
constexpr uint64_t kPatience = 20;           // fallbacks of a thread, after which it does not wait any more
constexpr double kVoidRate = 0.001;
constexpr uint64_t kInFlight = 4096;  // blocks that one thread may have on its way, where ring_slots is not given

struct Options {
  unsigned threads, slots, least, most, remote_percent;
  uint64_t iters;
  bool app;
};

struct RealHeap {
  static void* take(size_t bytes) { return malloc(bytes); }
  static void give(void* block) { free(block); }
};

struct EmptyHeap {
  static char pool[4096];
  static void* take(size_t bytes) { return &pool[bytes % sizeof pool]; }
  static void give(void*) {}
};
char EmptyHeap::pool[4096];

// The steps that are left to take, for whichever thread comes first.
class Budget {
 public:
  Budget(uint64_t steps, unsigned threads)
      : steps_(steps), piece_(std::clamp<uint64_t>(steps / threads / 16, kBatch, kMostPiece) / kBatch * kBatch) {}

  // How many to take next; 0: none are left. Relaxed: nothing else goes by the counter.
  uint64_t fetch() {
    const uint64_t before = fetched_.fetch_add(piece_, std::memory_order_relaxed);
    return before >= steps_ ? 0 : std::min(piece_, steps_ - before);
  }

 private:
  const uint64_t steps_, piece_;
  alignas(128) std::atomic<uint64_t> fetched_{0};
};

// A block that leaves a slot is freed by the thread itself or sent; whoever receives it counts it once more.
struct alignas(128) Count {
  uint64_t mallocs, freed, received, sent, fallbacks, waits, warm_up;
  uint64_t ops() const { return mallocs + freed + received; }
};

template <class Heap>
class Worker {
  static constexpr uintptr_t kAwaited = 1;  // in a slot whose block comes at the end of the batch; an empty one holds 0

 public:
  Worker(const Options& options, bench::Rings& rings, unsigned id)
      : options_(options), rings_(rings), id_(id), random_(id + 1), slots_(bench::table<void*>(options.slots)) {
    remote_below_ = (uint64_t{options.remote_percent} << 32) / 100;
  }

  void steps(uint64_t count) {
    for (uint64_t done = 0; done < count; done += kBatch) {
      Batch batch;
      const unsigned steps = count - done < kBatch ? static_cast<unsigned>(count - done) : kBatch;
      if (options_.remote_percent == 0) {
        pick<false>(batch, steps);
      } else {
        receive_from_next();
        pick<true>(batch, steps);
        for (unsigned i = 0; i < batch.remote_count; ++i) send(batch.remote[i]);
      }
      for (unsigned i = 0; i < batch.local_count; ++i) Heap::give(batch.local[i]);
      fill(batch);
      count_.freed += batch.local_count;
      count_.mallocs += batch.empty_count;
    }
  }

  const Count& count() const { return count_; }
  void begin_count() { count_ = Count{0, 0, 0, 0, 0, 0, count_.ops()}; }

  // Nothing is to be sent to this thread any more.
  void close() {
    for (unsigned i = 0; i < rings_.fan_out(); ++i) rings_.in(id_, i).close();
  }

  // Frees all that is left; when no other thread works any more.
  void clear() {
    receive_all();
    for (unsigned i = 0; i < options_.slots; ++i) Heap::give(slots_[i]);
  }

 private:
  struct Batch {
    void* local[kBatch];
    void* remote[kBatch];
    void** empty[kBatch];
    unsigned local_count, remote_count, empty_count;
  };

  // Without a branch that depends on the slots: each list is written every time, and one of them grows. What is used is copied
  // out of this object first, which a store into a slot could change as far as the compiler knows.
  template <bool kRemote>
  void pick(Batch& batch, unsigned steps) {
    Random random = random_;
    void** const slots = slots_;
    const uint64_t slot_count = options_.slots, remote_below = remote_below_;
    unsigned local = 0, remote = 0, empty = 0;
    for (; steps > 0; --steps) {
      const uint64_t product = random.next() * slot_count;
      void** const slot = slots + (product >> 32);
      void* const block = *slot;
      const bool full = reinterpret_cast<uintptr_t>(block) > kAwaited;
      *slot = reinterpret_cast<void*>(uintptr_t{!full});  // awaited: a slot that is picked twice receives one block
      batch.empty[empty] = slot;
      empty += block == nullptr;
      batch.local[local] = block;
      if constexpr (kRemote) {
        // The lower half of the product is as random as the number itself.
        const bool to_other = static_cast<uint32_t>(product) < remote_below;
        batch.remote[remote] = block;
        local += full && !to_other;
        remote += full && to_other;
      } else {
        local += full;
      }
    }
    random_ = random;
    batch.local_count = local;
    batch.remote_count = remote;
    batch.empty_count = empty;
  }

  void fill(const Batch& batch) {
    Random random = random_;
    const uint32_t least = options_.least, most = options_.most;
    const bool app = options_.app;
    for (unsigned i = 0; i < batch.empty_count; ++i) {
      const size_t bytes = app ? bench::app_size(random) : random.within(least, most);
      void* const block = bench::must(Heap::take(bytes), bytes);
      *static_cast<volatile char*>(block) = 1;
      *batch.empty[i] = block;
    }
    random_ = random;
  }

  void receive_from_next() {
    next_in_ = next_in_ + 1 < rings_.fan_out() ? next_in_ + 1 : 0;
    count_.received += rings_.in(id_, next_in_).drain(Heap::give);
  }
  void receive_all() {
    for (unsigned i = 0; i < rings_.fan_out(); ++i) receive_from_next();
  }

  void send(void* block) {
    bench::Ring& ring = rings_.out(id_, random_.below(rings_.fan_out()));
    if (!ring.closed()) {
      if (ring.push(block) || send_patiently(ring, block)) {
        count_.sent++;
        return;
      }
      count_.fallbacks += !ring.closed();
    }
    Heap::give(block);
    count_.freed++;
  }

  [[gnu::noinline]] bool send_patiently(bench::Ring& ring, void* block) {
    // A run with so many fallbacks is void, most likely; it is not to last for hours as well.
    if (ring.never_has_room() || count_.fallbacks >= kPatience) return false;
    for (unsigned i = 0; i < kYields + kSleeps && !ring.closed(); ++i) {
      receive_all();  // otherwise two threads could wait for each other
      count_.waits++;
      const timespec pause{0, kSleepNanoseconds};
      if (i < kYields)
        sched_yield();
      else
        nanosleep(&pause, nullptr);
      if (ring.push(block)) return true;
    }
    return false;
  }

  const Options options_;
  bench::Rings& rings_;
  const unsigned id_;
  unsigned next_in_ = 0;
  uint64_t remote_below_;
  Random random_;
  void** const slots_;
  Count count_{};
};

template <class Heap>
int run(const Options& options, uint64_t ring_slots) {
  const unsigned fan_out = options.threads == 1 ? 1 : options.threads - 1 < kMostFanOut ? options.threads - 1 : kMostFanOut;
  if (ring_slots == UINT64_MAX)
    for (ring_slots = kInFlight; ring_slots * fan_out > kInFlight && ring_slots > 64;) ring_slots /= 2;
  if ((ring_slots & (ring_slots - 1)) != 0) bench::die(bench::kUsage, "ring_slots '%lu': expected a power of two", ring_slots);
  bench::Rings rings(options.threads, fan_out, options.remote_percent == 0 ? 0 : ring_slots);
  bench::Barrier barrier(options.threads);
  Budget budget(options.iters * options.threads, options.threads);
  auto* laps = bench::table<bench::Lap>(options.threads);
  auto* counts = bench::table<Count>(options.threads);

  bench::in_threads(options.threads, [&](unsigned id) {
    Worker<Heap> worker(options, rings, id);
    worker.steps(options.iters / 8);
    worker.begin_count();
    // Who waits here receives nothing, and the others are not to wait for that.
    worker.close();
    barrier.wait();
    if (id == 0) rings.open_all();
    barrier.wait();
    laps[id].begin = bench::now();
    while (const uint64_t steps = budget.fetch()) worker.steps(steps);
    laps[id].end = bench::now();
    worker.close();
    counts[id] = worker.count();
    laps[id].ops = counts[id].ops();
    barrier.wait();  // asleep until all are done: the processors belong to those that still work
    worker.clear();
  });

  Count all{};
  for (unsigned i = 0; i < options.threads; ++i) {
    all.freed += counts[i].freed;
    all.sent += counts[i].sent;
    all.fallbacks += counts[i].fallbacks;
    all.waits += counts[i].waits;
    all.warm_up += counts[i].warm_up;
  }
  bench::report(laps, options.threads);
  printf("[WARM_UP] warm_ops=%lu\n", all.warm_up);  // for who counts what the whole process does
  const auto share = [](uint64_t part, uint64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  // Of what left a slot. Not of what was freed: much that is sent is received after the laps, in a short run most of it.
  const double rate = share(all.fallbacks, all.sent + all.fallbacks);
  printf("[EFFECTIVE_REMOTE] target=%.2f actual=%.2f fallback_rate=%.6f waits=%lu ring_slots=%lu\n",
         static_cast<double>(options.remote_percent), 100 * share(all.sent, all.freed + all.sent), rate, all.waits,
         options.remote_percent == 0 ? 0 : ring_slots);
  if (rate < kVoidRate) return 0;
  printf("VOID: %.3f %% of the remote frees fell back to local ones; 0.1 %% or more is another workload\n", 100 * rate);
  return bench::kVoid;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "a busy server in the small: short-lived blocks of random sizes, some of them freed by another thread",
      {{"threads", 1, 1, 4096},
       {"iters", 4'000'000, 8, 1'000'000'000'000},
       {"ws", 400, 1, 100'000'000},
       {"min", 16, 1, 1 << 30},
       {"max", 2048, 1, 1 << 30},
       {"remote_pct", 0, 0, 100},
       {"ring_slots", UINT64_MAX, 0, 1 << 24, "4096 in all rings of a thread together, but 64 in each at least"}},
      {{"dist", {"uniform", "app"}}, {"op", {"malloc", "empty"}}});
  if (arguments[3] > arguments[4]) bench::die(bench::kUsage, "min %lu is more than max %lu", arguments[3], arguments[4]);
  const Options options{static_cast<unsigned>(arguments[0]),
                        static_cast<unsigned>(arguments[2]),
                        static_cast<unsigned>(arguments[3]),
                        static_cast<unsigned>(arguments[4]),
                        static_cast<unsigned>(arguments[5]),
                        arguments[1],
                        arguments.chosen(0) == 1};
  bench::require_preload();
  return arguments.chosen(1) == 1 ? run<EmptyHeap>(options, arguments[6]) : run<RealHeap>(options, arguments[6]);
}
