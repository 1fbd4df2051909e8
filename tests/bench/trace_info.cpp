// trace_info FILE
//
// What a recorded trace holds; for scripts/hz3-trace. Ends with an error of one line if the file is not whole.
#include "bench.hpp"
#include "trace_reader.hpp"

namespace {

// How many blocks there are of the sizes up to each of these, and what they add up to.
void print_sizes(const bench::trace::Trace& trace) {
  static constexpr uint64_t kUpTo[] = {16, 64, 256, 1024, 4096, 32768, 262144, UINT64_MAX};
  uint64_t blocks[8] = {}, bytes[8] = {};
  for (size_t i = 0; i < trace.count; ++i) {
    const bench::trace::Step& step = trace.steps[i];
    if (step.block == bench::trace::kNone || step.operation == bench::trace::kFree) continue;
    unsigned at = 0;
    while (step.bytes > kUpTo[at]) at++;
    blocks[at]++;
    bytes[at] += step.bytes;
  }
  for (unsigned i = 0; i < 8; ++i) {
    if (blocks[i] == 0) continue;
    if (i < 7)
      printf("  up to %6lu bytes: %lu blocks, %.2f MiB in all\n", kUpTo[i], blocks[i],
             static_cast<double>(bytes[i]) / (1 << 20));
    else
      printf("  more            : %lu blocks, %.2f MiB in all\n", blocks[i], static_cast<double>(bytes[i]) / (1 << 20));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) bench::die(bench::kUsage, "expected the name of a trace");
  const bench::trace::Trace trace = bench::trace::read(argv[1]);
  printf("%s: recorded under %s%s%s\n", argv[1], trace.header.allocator,
         (trace.flags & bench::trace::kCutOff) != 0 ? "; cut off at the most events that were to be recorded" : "",
         (trace.flags & bench::trace::kKilled) != 0 ? "; the program was killed, its last events are missing" : "");
  printf("events %lu in %lu bytes (%.1f each)\n", trace.events, trace.file_bytes,
         static_cast<double>(trace.file_bytes) / static_cast<double>(trace.events));
  printf("threads %u, at most %u at a time in a replay\n", trace.recorded_threads, trace.threads);
  printf("mallocs %lu, reallocs %lu, frees %lu, of which %lu by another thread than the one that allocated (%.1f %%)\n",
         trace.mallocs, trace.reallocs, trace.frees, trace.remote_frees,
         trace.frees == 0 ? 0.0 : 100 * static_cast<double>(trace.remote_frees) / static_cast<double>(trace.frees));
  printf("live bytes: %lu at most, %lu at the end\n", trace.peak_bytes, trace.live_bytes);
  printf("resident anonymous memory, above that of the start: %.1f MiB at most, of %lu samples\n",
         static_cast<double>(trace.peak_kib) / 1024, trace.samples);
  print_sizes(trace);
}
