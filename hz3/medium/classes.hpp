// Size classes of the medium tier: 4096, then 8 to a doubling up to 16384 and 16 to a doubling up to 32768. This tier holds
// three quarters of the bytes of the app distribution, most of them above 16384, so that is where the spacing decides the
// waste; below, fewer classes are worth more: their blocks are reused sooner.
#pragma once

#include "hz3/class_list.hpp"
#include "hz3/medium/config.hpp"

namespace hz3::medium {

inline constexpr unsigned kFineMin = 16384;
inline constexpr unsigned kPerDoubling = 8;
inline constexpr unsigned kFinePerDoubling = 16;
inline constexpr unsigned kClasses = 1 + 2 * kPerDoubling + kFinePerDoubling;

constexpr ClassList<kClasses> make_classes() {
  ClassList<kClasses> list{};
  list.size[0] = 4096;
  const unsigned at = append_geometric(list, 1, 4096, kFineMin, kPerDoubling);
  append_geometric(list, at, kFineMin, kMaxBytes, kFinePerDoubling);
  return list;
}
inline constexpr ClassList<kClasses> kList = make_classes();

constexpr unsigned run_pages(size_t size) { return run_pages_for(size, kRunBytes, 128); }
// A program that needs few blocks of a size is not to hold a long run for them.
constexpr unsigned first_run_pages(size_t size) { return run_pages_for(size, kFirstRunBytes, 64); }

static_assert(kList.size[kClasses - 1] == kMaxBytes);

}  // namespace hz3::medium
