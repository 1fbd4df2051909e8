// Bins: the size classes of all tiers in one row, and the tables that the hot path and the slow paths look sizes up in.
// Everything here is constant.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hz3/large_classes.hpp"
#include "hz3/medium/classes.hpp"
#include "hz3/small_v2/classes.hpp"
#include "hz3/sub4k/classes.hpp"

namespace hz3 {

inline constexpr size_t kQuantum = 16;  // every block is a multiple of this, and aligned to it

inline constexpr unsigned kSmallBins = small_v2::kClasses;
inline constexpr unsigned kSub4kBins = sub4k::kClasses;
inline constexpr unsigned kMediumBins = medium::kClasses;
inline constexpr unsigned kTierBins = kSmallBins + kSub4kBins + kMediumBins;
inline constexpr unsigned kBins = kTierBins + large::kClasses;
inline constexpr unsigned kFirstSub4k = kSmallBins;
inline constexpr unsigned kFirstMedium = kSmallBins + kSub4kBins;
inline constexpr unsigned kFirstLarge = kTierBins;
inline constexpr size_t kMaxTierBytes = medium::kMaxBytes;
inline constexpr size_t kMaxBinBytes = large::kMaxBinBytes;

// A slot is bin + 1: what a page tag holds in its low byte and what the thread cache's rows are indexed by, so that neither
// malloc() nor free() has to convert. Slot 0 is no bin.
using Slot = unsigned;
inline constexpr Slot kSlots = kBins + 1;

static_assert(kTierBins < kBinPad, "a row of the bank holds every slot of the tiers");
static_assert(kSlots < 250, "the values above are marks of large blocks");

inline constexpr unsigned kReciprocalShift = 35;

struct RunShape {
  uint16_t pages;
  uint16_t blocks;
};

// What is known of a class, in one cache line's half: read by slow paths.
struct ClassInfo {
  uint32_t size;         // bytes
  uint32_t reciprocal;   // ceil(2^35 / size): offset / size == offset * reciprocal >> 35 for offsets in a run
  RunShape first_run;    // of the first few runs of the class in a shard
  RunShape run;          // of all others
  uint16_t refill;       // blocks that a refill hands to a thread
  uint16_t carve;        // blocks that a refill carves from a fresh run
  uint16_t limit_first;  // blocks that a thread's bin may hold at first
  uint16_t limit_most;   // and after it has grown
};

struct ClassTables {
  ClassInfo info[kSlots];
  uint8_t slot_of[kMaxTierBytes / kQuantum + 1];  // by (bytes + 15) / 16
};

constexpr size_t clamp(size_t x, size_t low, size_t high) { return x < low ? low : x > high ? high : x; }

constexpr RunShape make_run_shape(size_t pages, size_t size) {
  return RunShape{static_cast<uint16_t>(pages), static_cast<uint16_t>(pages * kPageSize / size)};
}

constexpr ClassTables make_class_tables() {
  ClassTables t{};
  for (unsigned bin = 0; bin < kBins; bin++) {
    ClassInfo& c = t.info[bin + 1];
    size_t pages = 0, first_pages = 0;
    if (bin < kFirstSub4k) {
      c.size = small_v2::kList.size[bin];
      pages = first_pages = small_v2::run_pages(c.size);
    } else if (bin < kFirstMedium) {
      c.size = sub4k::kList.size[bin - kFirstSub4k];
      pages = first_pages = sub4k::run_pages(c.size);
    } else if (bin < kFirstLarge) {
      c.size = medium::kList.size[bin - kFirstMedium];
      pages = medium::run_pages(c.size);
      first_pages = medium::first_run_pages(c.size);
    } else {
      c.size = large::kList.size[bin - kFirstLarge];
      pages = first_pages = c.size / kPageSize;
    }
    c.run = make_run_shape(pages, c.size);
    c.first_run = make_run_shape(first_pages, c.size);
    c.reciprocal = static_cast<uint32_t>(((uint64_t{1} << kReciprocalShift) + c.size - 1) / c.size);
    const size_t batch =
        kRefillBlocks * size_t{c.size} > kPageSize ? kRefillBlocks : kPageSize / c.size;  // a page of tiny ones
    c.carve = static_cast<uint16_t>(clamp(kCarveBytes / c.size, 1, batch));
    const bool large = bin >= kFirstLarge;
    c.limit_first = static_cast<uint16_t>(clamp(kBinFirstBytes / c.size, large ? 1 : 4, kBinLimitBlocks));
    c.refill = static_cast<uint16_t>(clamp(clamp(kRefillBytes / c.size, 2, batch), 1, c.limit_first));
    c.limit_most = static_cast<uint16_t>(clamp(kBinLimitBytes / c.size, large ? 4 : 16, kBinLimitBlocks));
  }
  unsigned bin = 0;
  for (size_t units = 0; units <= kMaxTierBytes / kQuantum; units++) {
    while (t.info[bin + 1].size < units * kQuantum) bin++;
    t.slot_of[units] = static_cast<uint8_t>(bin + 1);
  }
  return t;
}

HZ3_HIDDEN extern const ClassTables kClassTables;

// The slot of a block of at most kMaxBinBytes.
inline Slot slot_of(size_t bytes) {
  if (unlikely(bytes > kMaxTierBytes)) return kFirstLarge + 1 + large::class_of(bytes);
  return kClassTables.slot_of[(bytes + kQuantum - 1) / kQuantum];
}
inline const ClassInfo& class_info(Slot slot) { return kClassTables.info[slot]; }
inline size_t class_bytes(Slot slot) { return kClassTables.info[slot].size; }

// The smallest class of at least `bytes` whose blocks are all aligned to `alignment` (a power of two, at most a page): runs
// start on a page, so a block at i * size is aligned when the size is. 0 when no class serves.
inline Slot slot_of_aligned(size_t bytes, size_t alignment) {
  if (bytes > kMaxBinBytes || alignment > kPageSize) return 0;
  Slot slot = slot_of(bytes);
  while (slot < kSlots && (class_bytes(slot) & (alignment - 1)) != 0) slot++;
  return slot < kSlots ? slot : 0;
}

}  // namespace hz3
