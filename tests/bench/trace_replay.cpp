// trace_replay FILE [repeats]
//
// Does again what another program did with its memory, recorded by scripts/bench/trace.py: the same sizes, from as many threads
// (up to 64), in the same order within each of them; a thread that frees what another one allocates waits for it. Every page of
// a block is written to, once. What is left at the end is freed before the next repeat, not timed. An operation is a malloc,
// realloc or free.
#include <sched.h>
#include <sys/stat.h>

#include <atomic>

#include "bench.hpp"
#include "trace.hpp"

namespace {

using bench::trace::Step;

struct Trace {
  const Step* steps;
  size_t count;
  unsigned threads;
  uint32_t blocks;
};

Trace read_trace(const char* path) {
  struct stat about {};
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &about) != 0) bench::die(bench::kUsage, "'%s': %s", path, strerror(errno));
  const auto bytes = static_cast<size_t>(about.st_size);
  if (bytes == 0 || bytes % sizeof(Step) != 0) bench::die(bench::kUsage, "'%s': that is no trace", path);
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) bench::die(bench::kUsage, "'%s': %s", path, strerror(errno));
  close(fd);
  Trace trace{static_cast<const Step*>(memory), bytes / sizeof(Step), 1, 0};
  for (size_t i = 0; i < trace.count; ++i) {
    const Step& step = trace.steps[i];
    const bool known = step.operation == bench::trace::kMalloc || step.operation == bench::trace::kFree ||
                       step.operation == bench::trace::kReallocEnd;
    if (!known || step.thread >= bench::trace::kMostThreads || step.block > trace.count || step.other > trace.count)
      bench::die(bench::kUsage, "'%s': step %zu is no step of a trace", path, i);
    if (step.thread >= trace.threads) trace.threads = step.thread + 1u;
    if (step.block >= trace.blocks) trace.blocks = step.block + 1;
  }
  return trace;
}

// The steps of one thread, so that it need not look at those of the others.
struct Part {
  const Step** steps;
  size_t count;
};

using Blocks = std::atomic<void*>*;

// Waits until its block is there, and takes it out.
void* take_out(std::atomic<void*>& block) {
  for (;;) {
    void* const found = block.load(std::memory_order_acquire);  // pairs with the release in play()
    if (found != nullptr) {
      block.store(nullptr, std::memory_order_relaxed);
      return found;
    }
    sched_yield();
  }
}

void play(const Part& part, Blocks blocks) {
  for (size_t i = 0; i < part.count; ++i) {
    const Step& step = *part.steps[i];
    void* made;
    switch (step.operation) {
      case bench::trace::kFree:
        free(take_out(blocks[step.block]));
        continue;
      case bench::trace::kReallocEnd:
        made = bench::must(realloc(take_out(blocks[step.other]), step.bytes), step.bytes);
        break;
      default:
        made = step.alignment > 4 ? aligned_alloc(size_t{1} << step.alignment, step.bytes) : malloc(step.bytes);
        bench::touch_pages(bench::must(made, step.bytes), step.bytes);
    }
    blocks[step.block].store(made, std::memory_order_release);  // pairs with the acquire in take_out()
  }
}

}  // namespace

int main(int argc, char** argv) {
  // The file's name is no number: it is taken out of the arguments.
  const bool named = argc > 1 && strncmp(argv[1], "--", 2) != 0;
  const char* const path = named ? argv[1] : nullptr;
  if (named) argv[1] = argv[0];
  const bench::Arguments arguments(named ? argc - 1 : argc, named ? argv + 1 : argv,
                                   "any program at all: what it did with its memory was recorded before",
                                   {{"repeats", 1, 1, 1'000'000}});
  if (path == nullptr) bench::die(bench::kUsage, "expected the name of a trace, made by scripts/bench/trace.py");
  bench::require_preload();
  const Trace trace = read_trace(path);
  Part parts[bench::trace::kMostThreads] = {};
  for (size_t i = 0; i < trace.count; ++i) parts[trace.steps[i].thread].count++;
  for (unsigned t = 0; t < trace.threads; ++t) {
    parts[t].steps = bench::table<const Step*>(parts[t].count);
    parts[t].count = 0;
  }
  for (size_t i = 0; i < trace.count; ++i) {
    Part& part = parts[trace.steps[i].thread];
    part.steps[part.count++] = &trace.steps[i];
  }
  auto* blocks = bench::table<std::atomic<void*>>(trace.blocks);
  auto* laps = bench::table<bench::Lap>(1);
  bench::Barrier barrier(trace.threads);

  bench::in_threads(trace.threads, [&](unsigned id) {
    for (uint64_t repeat = 0; repeat < arguments[0]; ++repeat) {
      barrier.wait();
      const double begin = bench::now();
      play(parts[id], blocks);
      barrier.wait();
      if (id != 0) continue;
      laps->end += bench::now() - begin;
      laps->ops += trace.count;
      for (uint32_t i = 0; i < trace.blocks; ++i) free(blocks[i].exchange(nullptr, std::memory_order_relaxed));
    }
  });
  bench::report(laps, 1);
}
