// trace_replay FILE [repeats] [order=free|recorded]
//
// Does again what another program did with its memory, recorded by scripts/hz3-trace: the same sizes, from as many threads (up
// to 64 at a time), in the same order within each of them; a thread ends where it ended. Of every block as many pages are
// written to as the program had written to, all of them if that is not known. What is left at the end is freed before the next
// repeat, not timed. An operation is a malloc, realloc or free.
//
// order=free: a thread waits for another one only to free what that one allocates; this is for measuring speed.
// order=recorded: all steps are done one after the other in the order of the recording; memory is what it was then.
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>

#include <atomic>

#include "bench.hpp"
#include "trace_reader.hpp"

namespace {

using bench::trace::Step;
using bench::trace::Trace;

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Anonymous memory that is resident, as the recorder samples it.
uint64_t anonymous_kib() {
  static const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t length = pread(fd, text, sizeof text - 1, 0);
  if (length <= 0) bench::die(bench::kFailed, "/proc/self/statm cannot be read");
  text[length] = '\0';
  char* end = text;
  strtoull(end, &end, 10);
  const uint64_t resident = strtoull(end, &end, 10), shared = strtoull(end, &end, 10);
  return (resident - shared) * 4;
}

// The steps of one thread, so that it need not look at those of the others; `at` is the next one.
struct alignas(128) Part {
  const Step** steps;
  size_t count, at;
  std::atomic<uint32_t> turn;  // order=recorded: whether it may go on
  bool goes_on;                // order=recorded: the step before was of this part, too
};

// Reading the trace took memory that is given back: VmHWM begins anew.
void forget_peak() {
  const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "5", 1) != 1) bench::die(bench::kFailed, "/proc/self/clear_refs cannot be written");
  close(fd);
}

// What order=recorded counts. One thread at a time.
struct Memory {
  uint64_t* sizes;  // of the blocks that live
  uint64_t live, peak, base_kib, peak_kib;
};

class Replay {
 public:
  Replay(const Trace& trace, bool in_order) : trace_(trace), in_order_(in_order) {
    for (size_t i = 0; i < trace.count; ++i) {
      parts_[trace.steps[i].thread].count++;
      operations += trace.steps[i].operation < bench::trace::kSampleStep;
    }
    for (Part& part : parts_) {
      if (part.count == 0) continue;
      part.steps = bench::table<const Step*>(part.count);
      part.count = 0;
    }
    for (size_t i = 0; i < trace.count; ++i) {
      Part& part = parts_[trace.steps[i].thread];
      part.steps[part.count++] = &trace.steps[i];
    }
    blocks_ = resident<std::atomic<void*>>(trace.blocks);
    memory.sizes = resident<uint64_t>(in_order ? trace.blocks : 1);
    memory.base_kib = anonymous_kib();
  }

  void begin_repeat() {
    for (Part& part : parts_) {
      part.at = 0;
      part.goes_on = false;
    }
    memory.live = 0;
    parts_[trace_.steps[0].thread].turn.store(1);
  }

  // The steps of a part to the end of its thread, or of the trace. Whether there are more.
  bool play(unsigned id) {
    Part& part = parts_[id];
    while (part.at < part.count) {
      const Step& step = *part.steps[part.at++];
      const size_t number = static_cast<size_t>(&step - trace_.steps);
      if (in_order_ && !part.goes_on) wait_for_turn(part);
      part.goes_on = true;
      act(step);
      if (in_order_ && number + 1 < trace_.count && trace_.steps[number + 1].thread != id) {
        part.goes_on = false;
        Part& next = parts_[trace_.steps[number + 1].thread];
        next.turn.store(1, std::memory_order_release);  // pairs with the acquire in wait_for_turn()
        next.turn.notify_one();
      }
      if (step.operation == bench::trace::kEndStep) return part.at < part.count;
    }
    return false;
  }

  void free_rest() {
    for (uint32_t i = 0; i < trace_.blocks; ++i) free(blocks_[i].exchange(nullptr, std::memory_order_relaxed));
  }

  Memory memory{};
  uint64_t operations = 0;

 private:
  // Memory that is there before anything is measured.
  template <class T>
  static T* resident(size_t count) {
    T* const made = bench::table<T>(count);
    madvise(made, count * sizeof(T), MADV_POPULATE_WRITE);
    return made;
  }

  static void wait_for_turn(Part& part) {
    for (unsigned i = 0; i < 500 && part.turn.load(std::memory_order_relaxed) == 0; ++i) {
    }
    part.turn.wait(0, std::memory_order_acquire);
    part.turn.store(0, std::memory_order_relaxed);
  }

  // Waits until its block is there, and takes it out.
  void* take_out(uint32_t block) {
    for (;;) {
      void* const found = blocks_[block].load(std::memory_order_acquire);  // pairs with the release in act()
      if (found != nullptr) {
        blocks_[block].store(nullptr, std::memory_order_relaxed);
        if (in_order_) memory.live -= memory.sizes[block];
        return found;
      }
      sched_yield();
    }
  }

  void act(const Step& step) {
    void* made;
    switch (step.operation) {
      case bench::trace::kFree:
        return free(take_out(step.block));
      case bench::trace::kSampleStep:
        if (in_order_) sample();
        return;
      case bench::trace::kEndStep:
        return;
      case bench::trace::kReallocEnd:
        made = realloc(take_out(step.other), step.bytes);
        break;
      case bench::trace::kCalloc:
        made = calloc(1, step.bytes);
        break;
      case bench::trace::kAligned:
        made = memalign(size_t{1} << step.alignment, step.bytes);
        break;
      default:
        made = malloc(step.bytes);
    }
    bench::must(made, step.bytes);
    const uint64_t known = step.touched == 0 ? step.bytes : (step.touched - 1) * uint64_t{4096};
    bench::touch_pages(made, known < step.bytes ? known : step.bytes);
    if (in_order_) {
      memory.sizes[step.block] = step.bytes;
      memory.live += step.bytes;
      if (memory.live > memory.peak) memory.peak = memory.live;
    }
    blocks_[step.block].store(made, std::memory_order_release);  // pairs with the acquire in take_out()
  }

  void sample() {
    const uint64_t now = anonymous_kib();
    if (now > memory.base_kib + memory.peak_kib) memory.peak_kib = now - memory.base_kib;
  }

  const Trace& trace_;
  const bool in_order_;
  Part parts_[bench::trace::kMostThreads]{};
  std::atomic<void*>* blocks_;
};

// A place's threads, one after the other. The first is this one, if it is the only thread that there is.
void play_all(Replay& replay, unsigned id, bool alone) {
  if (alone) {
    while (replay.play(id)) {
    }
    return;
  }
  bool more = true;
  auto one = [&](unsigned place) { more = replay.play(place); };
  while (more) {
    bench::Thread<decltype(one)> thread{&one, id, {}};
    thread.start();
    thread.join();
  }
}

void report(const Replay& replay, const Trace& trace, bool in_order, double seconds, double cpu, double before_mib,
            uint64_t repeats) {
  const auto ops = static_cast<double>(replay.operations * repeats);
  printf("ops/s=%.0f ops=%.0f seconds=%.6f cpu_seconds=%.6f\n", ops / seconds, ops, seconds, cpu);
  // Without the tables of this program.
  printf("[RSS] peak_mib=%.2f now_mib=%.2f\n", bench::status_mib("VmHWM:") - before_mib,
         bench::status_mib("VmRSS:") - before_mib);
  if (!in_order) return;
  printf("[LIVE] peak_live_bytes=%lu recorded_peak_live_bytes=%lu\n", replay.memory.peak, trace.peak_bytes);
  printf("[ANON] peak_anon_kib=%lu recorded_peak_anon_kib=%lu\n", replay.memory.peak_kib, trace.peak_kib);
}

}  // namespace

int main(int argc, char** argv) {
  // The file's name is no number: it is taken out of the arguments.
  const bool named = argc > 1 && strncmp(argv[1], "--", 2) != 0;
  const char* const path = named ? argv[1] : nullptr;
  if (named) argv[1] = argv[0];
  const bench::Arguments arguments(named ? argc - 1 : argc, named ? argv + 1 : argv,
                                   "any program at all: what it did with its memory was recorded before",
                                   {{"repeats", 1, 1, 1'000'000}}, {{"order", {"free", "recorded"}}});
  if (path == nullptr) bench::die(bench::kUsage, "expected the name of a trace, made by scripts/hz3-trace");
  bench::require_preload();
  const Trace trace = bench::trace::read(path);
  const bool in_order = arguments.chosen(0) == 1;
  static Replay replay(trace, in_order);
  bench::Barrier barrier(trace.threads);
  double seconds = 0, cpu = 0;
  forget_peak();
  const double before_mib = bench::status_mib("VmRSS:");

  bench::in_threads(trace.threads, [&](unsigned id) {
    for (uint64_t repeat = 0; repeat < arguments[0]; ++repeat) {
      if (id == 0) replay.begin_repeat();
      barrier.wait();
      const double begin = bench::now(), cpu_begin = cpu_seconds();
      play_all(replay, id, trace.threads == 1);
      barrier.wait();
      if (id != 0) continue;
      seconds += bench::now() - begin;
      cpu += cpu_seconds() - cpu_begin;
      if (repeat + 1 < arguments[0]) replay.free_rest();
    }
  });
  report(replay, trace, in_order, seconds, cpu, before_mib, arguments[0]);
}
