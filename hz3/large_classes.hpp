// Size classes of the smaller large blocks: a block of these is a run of its own, so that it wastes no more than the rest of
// its last step and gives whole pages back, but its thread keeps it in a bin as it does smaller blocks. Steps as fine as
// pages up to 64 KiB, an eighth above.
#pragma once

#include "hz3/class_list.hpp"

namespace hz3::large {

inline constexpr size_t kMinBytes = 32768;      // not among them: the last class of the medium tier
inline constexpr size_t kMaxBinBytes = 262144;  // larger ones cost more to touch than to look for
inline constexpr unsigned kPerDoubling = 8;
inline constexpr unsigned kClasses = 3 * kPerDoubling;

constexpr ClassList<kClasses> make_classes() {
  ClassList<kClasses> list{};
  append_geometric(list, 0, kMinBytes, kMaxBinBytes, kPerDoubling);
  return list;
}
inline constexpr ClassList<kClasses> kList = make_classes();

// The class of a block of so many bytes, above kMinBytes, at most kMaxBinBytes.
constexpr unsigned class_of(size_t bytes) {
  const unsigned doubling = log2_floor(bytes - 1);
  return (doubling - log2_floor(kMinBytes)) * kPerDoubling +
         static_cast<unsigned>((bytes - 1) >> (doubling - log2_floor(kPerDoubling)) & (kPerDoubling - 1));
}

static_assert(kList.size[kClasses - 1] == kMaxBinBytes && kList.size[0] % kPageSize == 0);

}  // namespace hz3::large
