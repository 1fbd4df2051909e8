// What can be set while a program runs: by the environment when the library is initialised, and by mallopt(3) at any time. The
// defaults are Kconfig's. docs/settings.md lists all of it, hz3/hz3.h the numbers for mallopt.
//
// The environment is read by a constructor, from the block that the loader hands to it: nothing is allocated, and no function
// of the C library is asked. A wrong value is told in one line on stderr and leaves the default. A set-uid program (AT_SECURE)
// ignores it all.
//
// Owner: the process. relaxed, no pairs: each is a number by which somebody decides; nothing else is read by virtue of it.
#pragma once

#include <atomic>

#include "hz3/config.hpp"
#include "hz3/hz3.h"

namespace hz3::settings {

enum Setting : unsigned { kDecayMs, kBackgroundThread, kSoftLimitMib, kHardLimitMib, kHugePages, kSettings };

HZ3_HIDDEN extern std::atomic<int> values[kSettings];
HZ3_HIDDEN extern std::atomic<size_t> reserve;
inline int value(Setting s) { return values[s].load(std::memory_order_relaxed); }

inline constexpr uint64_t kNever =
    UINT64_MAX / 4;  // ms: later than any clock will show, and a sum of two of them does not wrap
inline constexpr size_t kAllPages = SIZE_MAX >> 16;  // more than there are; a few times as many do not wrap either
inline constexpr size_t kLeastReservePages = (1 << 20) >> kPageShift;  // of M_TRIM_THRESHOLD: below it each free would purge

// Free pages that stay resident at most: HZ3_PURGE_RESERVE_MIB, or what M_TRIM_THRESHOLD says.
inline size_t reserve_pages() { return reserve.load(std::memory_order_relaxed); }
// The time for which free pages stay, in ms; kNever when they are not to go back by themselves.
inline uint64_t decay_ms() {
  const int ms = value(kDecayMs);
  return ms < 0 || reserve_pages() == kAllPages ? kNever : static_cast<uint64_t>(ms);
}
// The time between two ticks, in ms: a quarter of that within bounds.
inline uint64_t tick_ms() {
  const uint64_t ms = decay_ms() / 4;
  return ms < 10 ? 10 : ms > 1000 ? 1000 : ms;
}
inline bool background_thread() { return value(kBackgroundThread) != 0; }

inline HugePages huge_pages() { return static_cast<HugePages>(value(kHugePages)); }
// Pages that the heap may hold: above the first it gives back what is free at once, above the second it fails. kAllPages when
// there is no such limit.
inline size_t limit_pages(Setting limit) {
  const int mib = value(limit);
  return mib == 0 ? kAllPages : static_cast<size_t>(mib) << (20 - kPageShift);
}

// Makes the soft limit seven eighths of what the control group of the process may have: hz3/control_group.hpp. Once, before
// what the environment says.
void take_control_group(const char* membership, const char* root);
// Takes what the environment says, a list of "NAME=value" that ends with nullptr, unless the program is `secure`. Once.
void read_environment(const char* const* environment, bool secure);

// mallopt(3): false when the parameter is hz3's own and the value not allowed. What is not known is not told from what is
// taken, as programs set parameters of the C library's allocator and expect success.
bool set(int parameter, int value);

}  // namespace hz3::settings
