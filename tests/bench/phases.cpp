// phases live_mib rounds idle_ms
//
// Fills `live_mib` with blocks of an application's sizes, works on them, frees 90 % at random, is idle for `idle_ms` but for a
// few calls a second, and begins again. What scripts/bench/ looks at is the resident memory over the time of the run: how much
// more than the live blocks it is, and how soon freed memory is given back. An operation is a malloc or a free, without the
// idle time.
#include "bench.hpp"

int main(int argc, char** argv) {
  const bench::Arguments arguments(argc, argv, "a service with a daily rhythm: the load comes, goes and comes again",
                                   {{"live_mib", 128, 1, 1 << 20}, {"rounds", 2, 1, 1000}, {"idle_ms", 1000, 0, 3'600'000}});
  const uint64_t wanted = arguments[0] << 20;
  bench::require_preload();
  struct Block {
    void* data;
    uint32_t bytes;
  };
  Block* blocks = bench::table<Block>(wanted / 16 + 1);
  bench::Random random(1);
  uint64_t live = 0, ops = 0;
  uint32_t count = 0;
  const auto take = [&](Block& block) {
    block.bytes = bench::app_size(random);
    block.data = bench::take(block.bytes);
    bench::touch_pages(block.data, block.bytes);
    live += block.bytes;
    ops++;
  };
  const auto give = [&](Block& block) {
    if (block.data == nullptr) return;
    free(block.data);
    live -= block.bytes;
    block.data = nullptr;
    ops++;
  };
  auto* lap = bench::table<bench::Lap>(1);
  double idle = 0;
  lap->begin = bench::now();
  for (uint64_t round = 0; round < arguments[1]; ++round) {
    uint32_t next = 0;
    while (live < wanted) {
      if (next == count) count++;
      Block& block = blocks[next++];
      if (block.data == nullptr) take(block);
    }
    for (uint32_t i = 0; i < count; ++i) {
      Block& block = blocks[random.below(count)];
      give(block);
      if (live < wanted) take(block);
    }
    for (uint32_t i = 0; i < count; ++i)
      if (random.below(10) != 0) give(blocks[i]);
    const double begin = bench::now();
    while ((bench::now() - begin) * 1000 < static_cast<double>(arguments[2])) {
      for (size_t bytes = 40; bytes < 140; ++bytes) free(bench::take(bytes));
      usleep(5000);
    }
    idle += bench::now() - begin;
  }
  lap->end = bench::now() - idle;
  lap->ops = ops;
  bench::report(lap, 1);
}
