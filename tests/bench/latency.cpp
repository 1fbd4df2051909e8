// latency threads steps remote_pct
//
// How long single calls take, not how many fit into a second. For one tier of sizes after the other, every thread keeps 256
// blocks and replaces random ones; `remote_pct` percent of what it frees were allocated by another thread. Each malloc and each
// free is timed, between fences; an empty pair of time stamps is timed with them, which shows what the clock itself takes (p50)
// and what the machine takes away from any program (its worst: interrupts, other programs, the hypervisor).
//
// Prints a line of percentiles for each tier and call, and the histograms. No time is subtracted from any other.
#include "histogram.hpp"
#include "ring.hpp"

namespace {

struct Tier {
  const char* name;
  uint32_t least, most, blocks;
};
// By size, as a program asks for it: the first three are hz3's own tiers; other allocators' end elsewhere.
constexpr Tier kTiers[] = {
    {"small", 16, 2048, 256}, {"sub4k", 2049, 4095, 256}, {"medium", 4096, 32768, 256}, {"large", 32769, 1 << 20, 32}};
constexpr unsigned kTierCount = sizeof kTiers / sizeof kTiers[0];
constexpr uint64_t kLargePart = 16;  // of the steps: a large block costs page faults
constexpr uint64_t kRingSlots = 1024;
constexpr const char* kCalls[] = {"malloc", "free", "empty"};
enum Call { kMalloc, kFree, kEmpty, kCallCount };

using Histograms = bench::Histogram[kTierCount][kCallCount];

struct Timed {
  Histograms& histograms;
  unsigned tier;
  void* take(size_t bytes) {
    const uint64_t begin = bench::stamp();
    void* const block = malloc(bytes);
    histograms[tier][kMalloc].add(bench::stamp() - begin);
    bench::touch_pages(bench::must(block, bytes), bytes);
    return block;
  }
  void give(void* block) {
    const uint64_t begin = bench::stamp();
    free(block);
    histograms[tier][kFree].add(bench::stamp() - begin);
  }
  void nothing() {
    const uint64_t begin = bench::stamp();
    histograms[tier][kEmpty].add(bench::stamp() - begin);
  }
};

void print(const Histograms& all, double tick) {
  const auto ns = [tick](uint64_t ticks) { return static_cast<double>(ticks) * tick; };
  for (unsigned t = 0; t < kTierCount; ++t)
    for (unsigned c = 0; c < kCallCount; ++c) {
      const bench::Histogram& h = all[t][c];
      printf("[LATENCY] tier=%s call=%s count=%lu p50=%.1f p90=%.1f p99=%.1f p99.9=%.1f p99.99=%.1f worst=%.1f ns\n",
             kTiers[t].name, kCalls[c], h.count(), ns(h.percentile(0.5)), ns(h.percentile(0.9)), ns(h.percentile(0.99)),
             ns(h.percentile(0.999)), ns(h.percentile(0.9999)), ns(h.most()));
      printf("[HISTOGRAM] tier=%s call=%s", kTiers[t].name, kCalls[c]);
      for (unsigned i = 0; i < bench::Histogram::kBuckets; ++i)
        if (h.in(i) != 0) printf(" %.1f:%lu", ns(bench::Histogram::begin_of(i)), h.in(i));
      puts("");
    }
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "how long a user waits for one answer, when the allocator has its worst moment",
      {{"threads", 2, 1, 1024}, {"steps", 200'000, 100, 1'000'000'000}, {"remote_pct", 50, 0, 100}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  const uint64_t steps = arguments[1];
  const auto remote_percent = static_cast<uint32_t>(threads > 1 ? arguments[2] : 0);
  bench::require_preload();
  bench::Rings rings(threads, 1, kRingSlots);
  bench::Barrier barrier(threads);
  auto* laps = bench::table<bench::Lap>(threads);
  auto* histograms = bench::table<Histograms>(threads);
  const double tick = bench::nanoseconds_per_tick();

  bench::in_threads(threads, [&](unsigned id) {
    bench::Random random(id + 1);
    void** blocks = bench::table<void*>(256);
    uint64_t ops = 0;
    for (unsigned t = 0; t < kTierCount; ++t) {
      const Tier& tier = kTiers[t];
      const uint64_t own_steps = tier.most > 32768 ? steps / kLargePart : steps;
      Timed timed{histograms[id], t};
      barrier.wait();
      if (t == 0) laps[id].begin = bench::now();
      for (uint64_t i = 0; i < own_steps; ++i) {
        rings.in(id, 0).drain([&timed](void* block) { timed.give(block); });
        void*& block = blocks[random.below(tier.blocks)];
        // A ring that is full leaves the block to this thread: what is timed is a free, anyway.
        if (block != nullptr && (random.below(100) >= remote_percent || !rings.out(id, 0).push(block))) timed.give(block);
        timed.nothing();
        block = timed.take(random.within(tier.least, tier.most));
        ops += 2;
      }
      barrier.wait();
      for (unsigned i = 0; i < tier.blocks; ++i) {
        free(blocks[i]);
        blocks[i] = nullptr;
      }
      rings.in(id, 0).drain(free);
    }
    laps[id].end = bench::now();
    laps[id].ops = ops;
  });
  for (unsigned id = 1; id < threads; ++id)
    for (unsigned t = 0; t < kTierCount; ++t)
      for (unsigned c = 0; c < kCallCount; ++c) histograms[0][t][c].add(histograms[id][t][c]);
  bench::report(laps, threads);
  printf("[CLOCK] name=%s tick_ns=%.3f remote_pct=%u threads=%u\n", bench::kClockName, tick, remote_percent, threads);
  print(histograms[0], tick);
}
