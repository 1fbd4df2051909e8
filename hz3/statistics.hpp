// Statistics of remote blocks: what a free of another shard's block costs in atomic read-modify-writes, in a build that asks
// for it (kStatistics). Without it count() is nothing, and nothing else of this is compiled.
//
// Owner: each thread counts for itself, in slow paths alone, and adds what it counted to the sums of the process when it looks
// at the clock, when its cache is flushed, and when somebody asks. A signal handler that allocates may lose a count.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "hz3/config.hpp"
#include "hz3/platform.hpp"

namespace hz3::statistics {

enum Counter : unsigned {
  // Blocks.
  kRemote,   // freed by a thread of another shard, or by one without a cache
  kKept,     // of them, put into the thread's own bin
  kStashed,  // handed over from a stash to an inbox: remote ones, and those of other shards that left a bin
  // Steps that take atomic operations.
  kHandOvers,      // lists pushed onto an inbox
  kExchanges,      // for that: one, and one more each time that another thread came between
  kInboxTakes,     // inboxes taken whole, by an exchange
  kDepotPuts,      // lists that a thread's bin gave to the depot: a lock, as the next five
  kDepotRefusals,  // lists that it had no room for
  kDepotTakes,     // lists that a thread's bin took from it
  kDepotMisses,    // times that it had none after all
  kDepotIdle,      // lists that nobody asked for, and looks for them
  kCentralPuts,    // lists with remote blocks that central of their owner took
  kBudgetChanges,  // of the process: an addition each
  kLocks,          // of any kind: those above, and the refills', the page heaps' and the arena's
  kLockRetries,    // attempts more, as another thread had the lock
  kCounters
};
using Counts = std::array<uint64_t, kCounters>;

HZ3_HIDDEN extern thread_local constinit Counts mine;

inline void count(Counter counter, uint64_t more = 1) {
  if constexpr (kStatistics) mine[counter] += more;
}
// Adds the calling thread's counts to the sums.
HZ3_SLOW void add_up_slow();
inline void add_up() {
  if constexpr (kStatistics) add_up_slow();
}
// The sums, the calling thread's own included. What other threads have not added up yet is missing.
Counts sums();

// A lock is two: one takes it, one releases it.
constexpr uint64_t atomics_on_remote(const Counts& c) {
  return c[kExchanges] + c[kInboxTakes] + c[kBudgetChanges] + c[kLockRetries] +
         2 * (c[kDepotPuts] + c[kDepotRefusals] + c[kDepotTakes] + c[kDepotMisses] + c[kDepotIdle] + c[kCentralPuts]);
}
// The same with every lock, whatever it was taken for.
constexpr uint64_t atomics_of_all(const Counts& c) {
  return c[kExchanges] + c[kInboxTakes] + c[kBudgetChanges] + c[kLockRetries] + 2 * c[kLocks];
}

// A few lines for people, to a file descriptor.
void print(int fd);

}  // namespace hz3::statistics
