// For tests/bench/plugins/trace_recorder.cpp: which large blocks there are, and how much of them is touched.
//
// A table of all threads, without locks: a block has its place among kWindow neighbours. One for which there is no room is left
// out, and counts as touched as a whole.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <atomic>

namespace bench::trace {

struct Large {
  std::atomic<uint64_t> address;
  std::atomic<uint64_t> bytes;
};
inline constexpr unsigned kWindow = 8, kPlaces = 1 << 15;
inline Large large[kPlaces + kWindow];
inline std::atomic<uint16_t> large_near[4096];  // how many there are, by a part of the hash: mostly none

inline size_t place_of(uint64_t address) { return (address >> 4) * 0x9e3779b97f4a7c15u >> 49; }

inline void add_large(uint64_t address, uint64_t bytes) {
  const size_t place = place_of(address);
  for (unsigned i = 0; i < kWindow; ++i) {
    uint64_t nothing = 0;
    if (!large[place + i].address.compare_exchange_strong(nothing, address)) continue;
    large[place + i].bytes.store(bytes, std::memory_order_relaxed);
    large_near[place % 4096].fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

// Its bytes; 0 if it is none, or there was no room for it.
inline uint64_t take_large(uint64_t address) {
  const size_t place = place_of(address);
  if (large_near[place % 4096].load(std::memory_order_relaxed) == 0) return 0;
  for (unsigned i = 0; i < kWindow; ++i) {
    if (large[place + i].address.load(std::memory_order_relaxed) != address) continue;
    const uint64_t bytes = large[place + i].bytes.load(std::memory_order_relaxed);
    large[place + i].address.store(0, std::memory_order_release);
    large_near[place % 4096].fetch_sub(1, std::memory_order_relaxed);
    return bytes;
  }
  return 0;
}

inline uint64_t resident_pages(uint64_t address, uint64_t bytes) {
  uint64_t found = 0;
  const uint64_t end = address + bytes;
  for (uint64_t at = address & ~uint64_t{4095}; at < end;) {
    unsigned char pages[2048];
    const uint64_t count = (end - at + 4095) / 4096 < sizeof pages ? (end - at + 4095) / 4096 : sizeof pages;
    if (mincore(reinterpret_cast<void*>(at), count * 4096, pages) != 0) return found;
    for (uint64_t i = 0; i < count; ++i) found += pages[i] & 1u;
    at += count * 4096;
  }
  return found;
}

}  // namespace bench::trace
