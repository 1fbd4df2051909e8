// Configuration of the medium tier, 4096..32768 bytes.
#pragma once

#include <cstddef>

#include "autoconf.h"

namespace hz3::medium {

inline constexpr size_t kMaxBytes = 32768;
inline constexpr size_t kFirstRunBytes = 4 << 10;
inline constexpr size_t kRunBytes = size_t{CONFIG_HZ3_MEDIUM_RUN_KIB} << 10;

}  // namespace hz3::medium
