// Size classes between small blocks and whole pages: every 128 bytes from 2176 to 3968. Requests of 3969..4095 bytes are
// served by the first medium class.
#pragma once

#include "hz3/class_list.hpp"
#include "hz3/sub4k/config.hpp"

namespace hz3::sub4k {

inline constexpr unsigned kStep = 128;
inline constexpr unsigned kClasses = 2048 / kStep - 1;

constexpr ClassList<kClasses> make_classes() {
  ClassList<kClasses> list{};
  for (unsigned i = 0; i < kClasses; i++) list.size[i] = 2048 + kStep * (i + 1);
  return list;
}
inline constexpr ClassList<kClasses> kList = make_classes();

// Few programs hold many blocks of these sizes for long, so what counts is that the last of them do not hold many pages.
constexpr unsigned run_pages(size_t size) { return run_pages_for(size, kRunBytes, 32); }

static_assert(kList.size[kClasses - 1] <= kMaxBytes);

}  // namespace hz3::sub4k
