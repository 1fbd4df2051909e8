// server connections generations requests [min] [max]
//
// After larson (Larson and Krishnan, "Memory allocation for long-running server applications", 1998): each connection keeps
// 1000 blocks and replaces random ones of them, and after `requests` replacements its thread hands the connection over to a new
// thread and ends. So most blocks are freed by another thread than the one that allocated them, which is often gone.
// An operation is a malloc or a free.
#include "bench.hpp"

namespace {

constexpr uint32_t kBlocks = 1000;

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv,
      "a server whose connections outlive the threads that serve them: blocks are freed by another thread, often a later one",
      {{"connections", 8, 1, 4096},
       {"generations", 8, 1, 1'000'000},
       {"requests", 100'000, 1, 1'000'000'000},
       {"min", 16, 1, 1 << 30},
       {"max", 1024, 1, 1 << 30}});
  const auto connections = static_cast<unsigned>(arguments[0]);
  const uint64_t generations = arguments[1], requests = arguments[2];
  const auto least = static_cast<uint32_t>(arguments[3]), most = static_cast<uint32_t>(arguments[4]);
  if (least > most) bench::die(bench::kUsage, "min %u is more than max %u", least, most);
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(connections);
  bench::Barrier barrier(connections);

  bench::in_threads(connections, [&](unsigned id) {
    void** blocks = bench::table<void*>(kBlocks);
    bench::Random random(id + 1);
    auto serve = [&](unsigned) {
      for (uint64_t i = 0; i < requests; ++i) {
        void*& block = blocks[random.below(kBlocks)];
        free(block);
        const size_t bytes = random.within(least, most);
        block = bench::take(bytes);
        *static_cast<volatile char*>(block) = 1;
      }
    };
    for (uint32_t i = 0; i < kBlocks; ++i) blocks[i] = bench::take(random.within(least, most));
    barrier.wait();
    laps[id].begin = bench::now();
    // This thread only waits: a successor is started by hand, so that it is always another thread than before.
    for (uint64_t g = 0; g < generations; ++g) {
      bench::Thread<decltype(serve)> thread{&serve, id, {}};
      thread.start();
      thread.join();
    }
    laps[id].end = bench::now();
    laps[id].ops = 2 * generations * requests;
  });
  bench::report(laps, connections);
}
