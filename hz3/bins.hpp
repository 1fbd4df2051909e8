// How the bins of a thread cache are bounded. See hz3/thread_cache.hpp for what the rows mean. All of this runs in slow paths
// of the thread that owns the cache, but what hz3/sleepers.cpp uses.
#pragma once

#include "hz3/thread_cache.hpp"

namespace hz3 {

HZ3_ALWAYS_INLINE void* pop(ThreadCache* tc, Slot slot) {
  void* block = tc->head[slot];
  tc->head[slot] = link_of(block);
  tc->room[slot] += kRoomUnit;
  published(tc);
  return block;
}

// The caller looks at room afterwards: below 0 it is time for bin_event_slow().
HZ3_ALWAYS_INLINE void push(ThreadCache* tc, Slot slot, void* block) {
  set_link(block, tc->head[slot]);
  in_this_order();
  tc->head[slot] = block;
  published(tc);
  tc->room[slot] -= kRoomUnit + kRoomLeak;
}

// No more blocks than this are in the first list of a bin, times kRoomUnit.
inline int32_t most_in_bin(const ThreadCache* tc, Slot slot) { return tc->at_most[slot] * kRoomUnit - tc->room[slot]; }

// Whether a thread that allocates from a class keeps blocks of others that it frees. Not where most blocks have a neighbour on
// their cache line: two threads that write to neighbours would pay for it with each access, for as long as the blocks live.
inline bool may_keep(Slot slot) { return class_bytes(slot) >= kCacheLine; }

// Sends a block of another shard to it: by the stash, true when that is due for a flush. A run of its own goes back at once: it
// holds pages that any shard may use, and its owner has no use for it in particular.
inline bool send_away(ThreadCache* tc, unsigned dst, Slot slot, void* block) {
  if (likely(slot <= kTierBins)) return tc->stash.stash_push(dst, slot, block);
  statistics::count(statistics::kCentralPuts);
  set_link(block, nullptr);
  Central::of(dst).put(block);
  return false;
}

// Gives a bin whose first list has at most `length` blocks room for more: as much as its limit leaves, but not for very many
// at once, so that a thread which frees little comes to a slow path, too, and sees time pass.
void grant_room(ThreadCache* tc, Slot slot, unsigned length);
// The same for a bin that has no more room for what others send back.
void grant_more(ThreadCache* tc, Slot slot);
// Makes the second list the first, which is empty. False when that is empty, too.
bool use_second(ThreadCache* tc, Slot slot);
// Makes a list of the depot the first, which is empty. False when there is none.
bool use_depot(ThreadCache* tc, Slot slot);

// Doubles the limit of a bin that overflowed and has now run empty, as far as the budgets of the thread and the process allow.
void grow_limit(ThreadCache* tc, Slot slot);
// Takes the limit of a bin back to its first value.
void shrink_limit(ThreadCache* tc, Slot slot);
// Takes back what limits grew by, in a cache that is given up.
void drop_grants(ThreadCache* tc);
// In the child of fork(): only `mine` (or nobody, nullptr) has grants.
void keep_grants_of(const ThreadCache* mine);

// Sends all blocks of a bin to their owners, or to the stash.
void empty_bin(ThreadCache* tc, Slot slot);
// Sends the bins home that were not used since they were last looked at, and takes their limits back.
void trim_idle_bins(ThreadCache* tc);
// As a new thread finds it.
void reset_bins(ThreadCache* tc);

}  // namespace hz3
