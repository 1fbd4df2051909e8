// aging threads live_mib steps
//
// Keeps `live_mib` of blocks with the sizes of an application and replaces random ones, while the sizes drift: every eighth of
// the steps asks for a quarter more than the one before, and from the half on for a quarter less. What was freed for one
// size has to serve another one later, or memory grows. An operation is a malloc or a free.
#include "bench.hpp"

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "a cache or a database that has been running for weeks: a constant amount of data, whose sizes drift",
      {{"threads", 1, 1, 4096}, {"live_mib", 64, 1, 1 << 20}, {"steps", 4'000'000, 8, 100'000'000'000}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  const uint64_t live_bytes = (arguments[1] << 20) / threads, steps = arguments[2] / threads + 8;
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);
  struct Block {
    void* data;
    uint32_t bytes;
  };

  bench::in_threads(threads, [&](unsigned id) {
    bench::Random random(id + 1);
    uint64_t live = 0, ops = 0;
    const auto fill = [&](Block& block, uint32_t quarters) {
      const uint32_t bytes = bench::app_size(random);
      block.bytes = bytes + bytes / 4 * quarters;
      block.data = bench::take(block.bytes);
      bench::touch_pages(block.data, block.bytes);
      live += block.bytes;
      ops++;
    };
    // Of 16 bytes at least each, so that the table is never full.
    Block* blocks = bench::table<Block>(live_bytes / 16 + 1);
    uint32_t count = 0;
    while (live < live_bytes) fill(blocks[count++], 0);
    ops = 0;
    barrier.wait();
    laps[id].begin = bench::now();
    for (uint64_t step = 0; step < steps; ++step) {
      const auto part = static_cast<uint32_t>(step * 8 / steps);
      Block& block = blocks[random.below(count)];
      if (block.data != nullptr) {
        free(block.data);
        live -= block.bytes;
        block.data = nullptr;
        ops++;
      }
      if (live < live_bytes) fill(block, part < 4 ? part : 7 - part);
    }
    laps[id].end = bench::now();
    laps[id].ops = ops;
  });
  bench::report(laps, threads);
}
