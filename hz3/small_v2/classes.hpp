// Size classes of the small tier: every 16 bytes up to 256, then 8 to a doubling up to 2048.
// On the app distribution 4.4 % of the bytes of this tier's blocks are not asked for, 2.1 % of all tiers'
// (scripts/print_figures.sh).
#pragma once

#include "hz3/class_list.hpp"
#include "hz3/small_v2/config.hpp"

namespace hz3::small_v2 {

inline constexpr unsigned kLinearMax = 256;
inline constexpr unsigned kLinearStep = 16;
inline constexpr unsigned kPerDoubling = 8;
inline constexpr unsigned kClasses = kLinearMax / kLinearStep + 3 * kPerDoubling;

constexpr ClassList<kClasses> make_classes() {
  ClassList<kClasses> list{};
  unsigned at = 0;
  for (unsigned s = kLinearStep; s <= kLinearMax; s += kLinearStep) list.size[at++] = s;
  append_geometric(list, at, kLinearMax, kMaxBytes, kPerDoubling);
  return list;
}
inline constexpr ClassList<kClasses> kList = make_classes();

constexpr unsigned run_pages(size_t size) { return run_pages_for(size, kRunBytes, 64); }

static_assert(kList.size[kClasses - 1] == kMaxBytes);

}  // namespace hz3::small_v2
