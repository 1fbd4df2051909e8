// See hz3/statistics.hpp.
#include "hz3/statistics.hpp"

#include <atomic>

#include "hz3/message.hpp"

namespace hz3::statistics {

thread_local constinit Counts mine{};

namespace {

// relaxed, no pairs: sums, nothing is ordered by them. Not counted themselves.
constinit std::atomic<uint64_t> process[kCounters]{};

// In thousandths.
void per_remote(Line& line, const char* text, uint64_t atomics, uint64_t remote) {
  const uint64_t thousandths = remote == 0 ? 0 : (atomics * 1000 + remote / 2) / remote;
  line.text(text).number(thousandths / 1000).text(thousandths % 1000 < 10 ? ".00" : thousandths % 1000 < 100 ? ".0" : ".");
  line.number(thousandths % 1000);
}

}  // namespace

void add_up_slow() {
  for (unsigned i = 0; i < kCounters; i++) {
    if (mine[i] != 0) process[i].fetch_add(mine[i], std::memory_order_relaxed);
    mine[i] = 0;
  }
}

Counts sums() {
  add_up_slow();
  Counts c;
  for (unsigned i = 0; i < kCounters; i++) c[i] = process[i].load(std::memory_order_relaxed);
  return c;
}

void print(int fd) {
  const Counts c = sums();
  Line()
      .text("hz3: remote blocks ")
      .number(c[kRemote])
      .text(", of them kept ")
      .number(c[kKept])
      .text("; through a stash ")
      .number(c[kStashed])
      .text(" in ")
      .number(c[kHandOvers])
      .text(" lists by ")
      .number(c[kExchanges])
      .text(" exchanges, inboxes taken ")
      .number(c[kInboxTakes])
      .print(fd);
  Line()
      .text("hz3: depot: lists put ")
      .number(c[kDepotPuts])
      .text(" refused ")
      .number(c[kDepotRefusals])
      .text(" taken ")
      .number(c[kDepotTakes])
      .text(" missed ")
      .number(c[kDepotMisses])
      .text(" idle ")
      .number(c[kDepotIdle])
      .text("; budget changed ")
      .number(c[kBudgetChanges])
      .print(fd);
  Line()
      .text("hz3: locks ")
      .number(c[kLocks])
      .text(" (")
      .number(c[kLockRetries])
      .text(" retries), of them to put remote blocks into central ")
      .number(c[kCentralPuts])
      .print(fd);
  Line line;
  per_remote(line, "hz3: atomics per remote block ", atomics_on_remote(c), c[kRemote]);
  per_remote(line, ", with all other locks ", atomics_of_all(c), c[kRemote]);
  line.print(fd);
}

}  // namespace hz3::statistics
