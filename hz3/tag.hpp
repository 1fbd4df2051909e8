// PTAG32, the page tag: one 32-bit word per page of an arena that tells free() all it needs.
//
//   bits 0..7    slot: bin + 1, or kLargeSlot for the first page of a large block; 0 = this page holds no block of ours
//   bits 8..15   dst + 1, the shard that owns the run
//   bits 16..31  flags, not read on the hot path
//
// Only the low half is compared on the hot path: `low(tag) ^ local_key(dst)` is below kTagSlots exactly when the page belongs
// to shard dst, and is never 0.
//
// Written by the thread that makes or dissolves the run, before the run's first block is handed out and after its last one
// came back; whoever frees a block got it from the program, which orders the write before the read.
#pragma once

#include <cstdint>

#include "hz3/size_class.hpp"

namespace hz3 {

using Tag = uint32_t;

inline constexpr unsigned kTagSlots = 256;  // that a tag can tell apart
inline constexpr Slot kLargeSlot = 255;
inline constexpr uint32_t kNoShardKey = 0xff00;  // matches no tag: dst + 1 is at most 254

constexpr Tag make_tag(Slot slot, unsigned shard) { return slot | (shard + 1) << 8; }
constexpr uint32_t local_key(unsigned shard) { return (shard + 1) << 8; }
constexpr uint32_t tag_low(Tag tag) { return tag & 0xffff; }

// The low half of a tag in memory, in one load. relaxed: pairs with the stores of Arena::label() and unlabel() through
// the program's own synchronisation, see above; atomic, so that the read of a stray pointer's tag does not tear.
HZ3_ALWAYS_INLINE uint64_t load_tag_low(const Tag* tag) {
  using Half [[gnu::may_alias]] = uint16_t;
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  return __atomic_load_n(reinterpret_cast<const Half*>(tag), __ATOMIC_RELAXED);
}
constexpr Slot tag_slot(Tag tag) { return tag & 0xff; }
constexpr unsigned tag_shard(Tag tag) { return ((tag >> 8) & 0xff) - 1; }

static_assert(tag_low(make_tag(kBins, 253)) == (kBins | 254u << 8));
static_assert(kLargeSlot >= kSlots && kLargeSlot < kTagSlots);

}  // namespace hz3
