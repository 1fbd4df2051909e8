// Building blocks for the tiers' size classes: a constexpr list of sizes and the rule for the length of a run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hz3/config.hpp"

namespace hz3 {

// The smallest number of pages, at least `target` bytes long, of which blocks of `size` bytes leave at most one part in
// `parts` unused at the end.
constexpr unsigned run_pages_for(size_t size, size_t target, size_t parts) {
  size_t pages = target / kPageSize;
  while (pages * kPageSize < size || pages * kPageSize % size * parts > pages * kPageSize) pages++;
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
