#!/bin/bash
# Prints the figures of docs/architecture.md that follow from the configuration: the size classes and what they waste, the
# shapes of runs, the sizes of their descriptors. What each thread and shard has: `make info`.
#
#   scripts/print_figures.sh [CONFIGURATION...]      files of configs/, by default fast_defconfig
#
# Compiles a small program against the headers, in a folder that is removed again. Changes nothing in the tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C.UTF-8
unset MAKEFLAGS MFLAGS LD_PRELOAD

case ${1-} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' scripts/print_figures.sh
    exit 0
    ;;
esac
[ $# -gt 0 ] || set -- fast_defconfig

out=$(mktemp -d -t hz3-figures-XXXXXX)
trap 'rm -rf "$out"' EXIT
make -s O="$out" "$@" >/dev/null
make -s O="$out" hz3/size_class.o >/dev/null # and with it the generated header

cat >"$out/figures.cpp" <<'END'
#include <cstdio>

#include "hz3/remote/inbox.hpp"
#include "hz3/thread_cache.hpp"

using namespace hz3;

namespace {

double class_size(size_t n) { return static_cast<double>(class_bytes(slot_of(n))); }
// The class, and its part of what a run leaves over at its end and of the 8 bytes of tag and run id that each page has.
double with_run(size_t n) {
  const ClassInfo& c = class_info(slot_of(n));
  return static_cast<double>(c.run.pages * (kPageSize + sizeof(uint64_t))) / c.run.blocks;
}

// Requests of `from` to `to` bytes, each as frequent as the others, are `share` of all.
struct Part {
  size_t from, to;
  double share;
};
struct Sum {
  double asked = 0, given = 0;
  void add(double (*cost)(size_t), size_t from, size_t to, const Part& part) {
    for (size_t n = from; n <= to; n++) {
      const double weight = part.share / static_cast<double>(part.to - part.from + 1);
      asked += weight * static_cast<double>(n);
      given += weight * cost(n);
    }
  }
  double waste() const { return 100 * (given - asked) / given; }
};
constexpr Part kMix[] = {{16, 256, 0.80}, {257, 2048, 0.15}, {2049, 32768, 0.05}};

Sum of_mix(double (*cost)(size_t), size_t low, size_t high) {
  Sum sum;
  for (const Part& p : kMix) sum.add(cost, p.from < low ? low : p.from, p.to > high ? high : p.to, p);
  return sum;
}

void tier(const char* name, Slot first, Slot last, size_t low, size_t high) {
  const Sum sum = of_mix(class_size, low, high);
  printf("%-9s %5zu..%-5zu  %2u classes, %4.1f %% of the bytes of the mix, waste %.1f %%\n", name, low, high, last - first + 1,
         100 * sum.asked / of_mix(class_size, 16, kMaxTierBytes).asked, sum.waste());
}

}  // namespace

int main() {
  printf("bytes  run: KiB blocks tail   first run: KiB blocks   refill carve   bin: first most\n");
  double worst = 0;
  for (Slot s = 1; s < kSlots; s++) {
    const ClassInfo& c = class_info(s);
    const double tail = 100.0 - 100.0 * c.run.blocks * c.size / (c.run.pages * double{kPageSize});
    if (tail > worst) worst = tail;
    printf("%5u  %8u %6u %4.1f%% %16zu %6u %8u %5u %12u %4u\n", c.size, unsigned{c.run.pages} * 4, c.run.blocks, tail,
           c.first_run.pages * kPageSize >> 10, c.first_run.blocks, c.refill, c.carve, c.limit_first, c.limit_most);
  }
  printf("\n80 %% of 16..256, 15 %% of 257..2048, 5 %% of 2049..32768 bytes, each size of a part as frequent as the others:\n");
  tier("small_v2", 1, kFirstSub4k, 16, small_v2::kMaxBytes);
  tier("sub4k", kFirstSub4k + 1, kFirstMedium, small_v2::kMaxBytes + 1, class_bytes(kFirstMedium));
  tier("medium", kFirstMedium + 1, kTierBins, class_bytes(kFirstMedium) + 1, kMaxTierBytes);
  printf("all       waste %.1f %%; with the ends of runs and 8 bytes a page for tag and run id %.1f %%; longest end %.1f %%\n",
         of_mix(class_size, 16, kMaxTierBytes).waste(), of_mix(with_run, 16, kMaxTierBytes).waste(), worst);

  printf("\n%u classes, %u shards, %u page heaps; bytes:\n", kBins, kShards, kPageHeaps);
  size_t at_first = 0;
  for (Slot s = 1; s < kSlots; s++) at_first += size_t{class_info(s).limit_first} * class_bytes(s);
  printf("bins hold at most, in KiB: %zu at first, all classes together; %zu more when grown; all threads %zu more\n",
         at_first >> 10, kThreadBudgetBytes >> 10, kProcessBudgetBytes >> 10);
  printf("a run      descriptor %zu\n", sizeof(Run));
  printf("a segment  descriptor %zu; tags %zu, run ids %zu\n", sizeof(Segment), kSegmentPages * sizeof(Tag),
         kSegmentPages * sizeof(uint32_t));
  return 0;
}
END
${CXX:-g++} -std=c++20 -O1 -I"$out/include/generated" -I. -o "$out/figures" "$out/figures.cpp" "$out/hz3/size_class.o"
"$out/figures"
