// RemoteStash: where remote frees wait on the freeing thread until an event flushes them to their owners. One box with three
// doors, whichever of the two implementations Kconfig chose:
//
//   stash_push(dst, slot, block)   hot: one append, no loop, no lock, no atomic
//   stash_flush_budget(budget)     event only: hand at most `budget` entries to their owners
//   stash_flush_all()              event only: hand all over (thread exit, fork, trim)
#pragma once

#include <type_traits>

#include "hz3/remote/dense_bank.hpp"
#include "hz3/remote/sparse_ring.hpp"

namespace hz3::remote {

using RemoteStash = std::conditional_t<kStashKind == StashKind::SparseRing, SparseRing, DenseBank>;

}  // namespace hz3::remote
