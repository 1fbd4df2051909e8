// Building blocks for the tiers' size classes: a constexpr list of sizes and the rule for the length of a run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hz3/config.hpp"

namespace hz3 {

// The smallest number of pages, at least `target` bytes long, that blocks of `size` bytes fill without a tail. Class sizes
// are multiples of a power of two, so such a number exists: size / gcd(size, page) pages hold page / gcd blocks.
constexpr unsigned exact_run_pages(size_t size, size_t target) {
  size_t gcd = kPageSize;
  while (size % gcd != 0) gcd /= 2;
  const size_t unit = size / gcd;  // pages of the shortest exact run
  size_t pages = unit;
  while (pages * kPageSize < target) pages += unit;
  return static_cast<unsigned>(pages);
}

// The smallest number of pages, at least `target` bytes long, of which blocks of `size` bytes leave at most a 64th unused.
constexpr unsigned tight_run_pages(size_t size, size_t target) {
  size_t pages = target / kPageSize;
  while (pages * kPageSize % size * 64 > pages * kPageSize) pages++;
  return static_cast<unsigned>(pages);
}

template <unsigned N>
struct ClassList {
  uint32_t size[N];
};

// `per_doubling` classes evenly spaced between each power of two from `low` to `high`, `low` itself left out.
template <unsigned N>
constexpr unsigned append_geometric(ClassList<N>& list, unsigned at, size_t low, size_t high, unsigned per_doubling) {
  for (size_t base = low; base < high; base *= 2)
    for (unsigned i = 1; i <= per_doubling; i++) list.size[at++] = static_cast<uint32_t>(base + base / per_doubling * i);
  return at;
}

}  // namespace hz3
