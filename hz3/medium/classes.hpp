// Size classes of the medium tier: every 512 bytes, and every 128 for pages of 4096 bytes with a header of the program's, of
// which databases have very many. This tier holds three quarters of the bytes of the app distribution, so its spacing decides
// the waste; finer steps cost nothing measurable in speed (docs/experiments/medium-classes.md).
#pragma once

#include "hz3/class_list.hpp"
#include "hz3/medium/config.hpp"

namespace hz3::medium {

inline constexpr unsigned kStep = 512;
inline constexpr unsigned kFineStep = 128;
inline constexpr unsigned kFineClasses = kStep / kFineStep - 1;
inline constexpr unsigned kClasses = (kMaxBytes - 4096) / kStep + 1 + kFineClasses;

constexpr ClassList<kClasses> make_classes() {
  ClassList<kClasses> list{};
  for (unsigned i = 0; i <= kFineClasses; i++) list.size[i] = 4096 + kFineStep * i;
  for (unsigned i = kFineClasses + 1; i < kClasses; i++) list.size[i] = 4096 + kStep * (i - kFineClasses);
  return list;
}
inline constexpr ClassList<kClasses> kList = make_classes();

constexpr unsigned run_pages(size_t size) { return run_pages_for(size, kRunBytes, 128); }
// A program that needs few blocks of a size is not to hold a long run for them.
constexpr unsigned first_run_pages(size_t size) { return run_pages_for(size, kFirstRunBytes, 8); }

static_assert(kList.size[kClasses - 1] == kMaxBytes);

}  // namespace hz3::medium
