// large_blocks threads live steps
//
// Keeps `live` blocks of 64 KiB to 4 MiB, small ones as frequent as large ones, and replaces random ones; every page of a new
// block is written to. An operation is a malloc or a free: most of its time is the kernel's, if pages come from there.
#include "bench.hpp"

int main(int argc, char** argv) {
  const bench::Arguments arguments(argc, argv, "image and matrix buffers, and the read buffers of files and sockets",
                                   {{"threads", 1, 1, 1024}, {"live", 64, 1, 100'000}, {"steps", 2'000, 1, 1'000'000'000}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  const auto live = static_cast<uint32_t>(arguments[1]);
  const uint64_t steps = arguments[2];
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);

  bench::in_threads(threads, [&](unsigned id) {
    bench::Random random(id + 1);
    void** blocks = bench::table<void*>(live);
    const auto fill = [&](void*& block) {
      const size_t base = size_t{64 << 10} << random.below(6);
      const size_t bytes = base + random.below(static_cast<uint32_t>(base));
      block = bench::take(bytes);
      bench::touch_pages(block, bytes);
    };
    for (uint32_t i = 0; i < live; ++i) fill(blocks[i]);
    barrier.wait();
    laps[id].begin = bench::now();
    for (uint64_t i = 0; i < steps; ++i) {
      void*& block = blocks[random.below(live)];
      free(block);
      fill(block);
    }
    laps[id].end = bench::now();
    laps[id].ops = 2 * steps;
  });
  bench::report(laps, threads);
}
