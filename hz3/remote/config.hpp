// Configuration of the remote stash.
#pragma once

#include <cstddef>

#include "autoconf.h"
#include "hz3/platform.hpp"

namespace hz3::remote {

enum class StashKind { DenseBank, SparseRing };
inline constexpr StashKind kStashKind = CONFIG_HZ3_REMOTE_SPARSE ? StashKind::SparseRing : StashKind::DenseBank;

// Entries, and bytes, that a thread may hold before an event flush.
inline constexpr unsigned kFlushBatch = CONFIG_HZ3_REMOTE_FLUSH_BATCH;
inline constexpr unsigned kFlushBytes = CONFIG_HZ3_REMOTE_FLUSH_KIB << 10;

#if CONFIG_HZ3_REMOTE_SPARSE
inline constexpr unsigned kRingSlots = CONFIG_HZ3_REMOTE_RING_SLOTS;
#else
inline constexpr unsigned kRingSlots = 64;  // unused by this stash
#endif
static_assert(is_power_of_two(kRingSlots));

}  // namespace hz3::remote
