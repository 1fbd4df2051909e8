// Configuration of the tier between small blocks and whole pages, 2049..4095 bytes.
#pragma once

#include <cstddef>

#include "autoconf.h"

namespace hz3::sub4k {

inline constexpr size_t kMaxBytes = 4095;
inline constexpr size_t kRunBytes = size_t{CONFIG_HZ3_SUB4K_RUN_KIB} << 10;

}  // namespace hz3::sub4k
