// What a recorded trace of allocations consists of: tests/bench/plugins/trace_recorder.cpp writes raw events,
// scripts/bench/trace.py makes steps of them, tests/bench/trace_replay.cpp takes these. All of it is little-endian, without a
// header.
#pragma once

#include <stdint.h>

namespace bench::trace {

enum Operation : uint8_t {
  kMalloc = 1,        // of `bytes`; `block` is what came back
  kFree = 2,          // of `block`
  kReallocBegin = 3,  // of `block`; kReallocEnd of the same thread follows
  kReallocEnd = 4,    // to `bytes`, at `block` from now on
};

// As recorded. `block` is an address: an event of a block that begins to live is recorded after the call, one that ends before
// it.
struct Event {
  uint64_t block;
  uint64_t bytes;
  uint32_t thread;
  uint8_t operation;
  uint8_t alignment;  // its logarithm; 0: of no importance
  uint8_t written;    // 1 when the rest is there
  uint8_t unused;
};
static_assert(sizeof(Event) == 24);

// As replayed. `block` is a number that no two blocks of a trace have in common; kReallocBegin is no step of its own:
// kReallocEnd names the block that was in `other`.
struct Step {
  uint32_t block, other;
  uint64_t bytes;
  uint16_t thread;
  uint8_t operation;
  uint8_t alignment;
  uint32_t unused;
};
static_assert(sizeof(Step) == 24);

inline constexpr unsigned kMostThreads = 64;  // of a replay

}  // namespace bench::trace
