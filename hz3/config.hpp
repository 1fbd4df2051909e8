// The core's configuration as typed constants. The only file of this folder that reads the generated header; what Kconfig
// cannot express is asserted here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "autoconf.h"
#include "hz3/platform.hpp"

namespace hz3 {

inline constexpr unsigned kShards = CONFIG_HZ3_SHARDS;
inline constexpr bool kDebugChecks = CONFIG_HZ3_DEBUG_CHECKS;
inline constexpr bool kStatistics = CONFIG_HZ3_STATISTICS;
// A thread that starts on a shard which another one has: says so, stops there.
inline constexpr bool kCollisionShot = CONFIG_HZ3_SHARD_COLLISION_SHOT;
inline constexpr bool kCollisionFailfast = CONFIG_HZ3_SHARD_COLLISION_FAILFAST;

// Thread cache.
inline constexpr unsigned kBinPad = CONFIG_HZ3_BIN_PAD;
inline constexpr unsigned kRefillBlocks = CONFIG_HZ3_REFILL_BATCH;
inline constexpr size_t kRefillBytes = size_t{CONFIG_HZ3_REFILL_KIB} << 10;
inline constexpr size_t kCarveBytes = size_t{CONFIG_HZ3_CARVE_KIB} << 10;
inline constexpr unsigned kBinLimitBlocks = CONFIG_HZ3_BIN_LIMIT_BLOCKS;
inline constexpr size_t kBinFirstBytes = size_t{CONFIG_HZ3_BIN_FIRST_KIB} << 10;
inline constexpr size_t kBinLimitBytes = size_t{CONFIG_HZ3_BIN_LIMIT_KIB} << 10;
inline constexpr size_t kThreadBudgetBytes = size_t{CONFIG_HZ3_THREAD_BUDGET_KIB} << 10;
inline constexpr size_t kDepotBytes = size_t{CONFIG_HZ3_DEPOT_KIB} << 10;
inline constexpr size_t kProcessBudgetBytes = size_t{CONFIG_HZ3_PROCESS_BUDGET_MIB} << 20;

// Arena. A page here is the allocator's unit, 4 KiB whatever the kernel's page size is.
inline constexpr unsigned kPageShift = 12;
inline constexpr size_t kPageSize = size_t{1} << kPageShift;
inline constexpr size_t kArenaBytes = size_t{CONFIG_HZ3_ARENA_GIB} << 30;
inline constexpr size_t kSegmentBytes = size_t{CONFIG_HZ3_SEGMENT_MIB} << 20;
inline constexpr unsigned kSegmentShift = log2_floor(kSegmentBytes);
inline constexpr unsigned kSegmentPages = kSegmentBytes >> kPageShift;
inline constexpr unsigned kArenasMax = CONFIG_HZ3_ARENA_COUNT_MAX;

// Page purge.
enum class PurgeAdvice { DontNeed, Free, Cold };
inline constexpr PurgeAdvice kPurgeAdvice = CONFIG_HZ3_PURGE_FREE   ? PurgeAdvice::Free
                                            : CONFIG_HZ3_PURGE_COLD ? PurgeAdvice::Cold
                                                                    : PurgeAdvice::DontNeed;
inline constexpr unsigned kPurgeDecayMs = CONFIG_HZ3_PURGE_DECAY_MS;
inline constexpr size_t kPurgeReservePages = (size_t{CONFIG_HZ3_PURGE_RESERVE_MIB} << 20) >> kPageShift;
inline constexpr bool kBackgroundThreadDefault = CONFIG_HZ3_BACKGROUND_THREAD;

// What the kernel is told about huge pages; the numbers are those of mallopt.
enum class HugePages : int { System, Never, Dense, Always };
inline constexpr HugePages kHugePagesDefault = CONFIG_HZ3_HUGE_PAGES_NEVER    ? HugePages::Never
                                               : CONFIG_HZ3_HUGE_PAGES_DENSE  ? HugePages::Dense
                                               : CONFIG_HZ3_HUGE_PAGES_ALWAYS ? HugePages::Always
                                                                              : HugePages::System;
inline constexpr size_t kHugePageBytes = size_t{2} << 20;

// Large blocks: above this many bytes a block gets whole segments of its own.
inline constexpr size_t kSpanMinBytes = size_t{CONFIG_HZ3_SPAN_MIN_KIB} << 10;

static_assert(kShards >= 1 && kShards <= 254, "dst + 1 must fit in 8 bits beside the value 0 and the mark of no owner");
static_assert(is_power_of_two(kBinPad), "bank[dst][bin] is a shift and an add");
static_assert(is_power_of_two(kSegmentBytes));
static_assert(kArenasMax <= 64, "arenas in a bit set");
static_assert(kSpanMinBytes <= kSegmentBytes / 2, "a large block of page runs must fit in a segment with room to spare");

}  // namespace hz3
