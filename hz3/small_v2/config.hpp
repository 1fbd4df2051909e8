// Configuration of the small tier, 16..2048 bytes.
#pragma once

#include <cstddef>

#include "autoconf.h"

namespace hz3::small_v2 {

inline constexpr size_t kMaxBytes = 2048;
inline constexpr size_t kRunBytes = size_t{CONFIG_HZ3_SMALL_RUN_KIB} << 10;

}  // namespace hz3::small_v2
