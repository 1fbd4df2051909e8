// Contents that tell whose they are: every byte of a block follows from a seed, so that a wrong one is seen.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

constexpr size_t kNoMismatch = ~size_t{0};

inline uint64_t pattern_word(uint64_t seed, size_t index) {
  uint64_t word = (seed + index + 1) * 0x9E3779B97F4A7C15u;
  return word ^ (word >> 29);
}

inline void fill_pattern(void* block, size_t bytes, uint64_t seed) {
  char* at = static_cast<char*>(block);
  const size_t words = bytes / 8;
  for (size_t i = 0; i < words; ++i) {
    const uint64_t word = pattern_word(seed, i);
    __builtin_memcpy(at + i * 8, &word, 8);
  }
  const uint64_t last = pattern_word(seed, words);
  __builtin_memcpy(at + words * 8, &last, bytes % 8);
}

// Offset of the first word that is wrong, kNoMismatch if all `bytes` are as filled.
inline size_t find_mismatch(const void* block, size_t bytes, uint64_t seed) {
  const char* at = static_cast<const char*>(block);
  const size_t words = bytes / 8;
  for (size_t i = 0; i < words; ++i) {
    const uint64_t word = pattern_word(seed, i);
    if (__builtin_memcmp(at + i * 8, &word, 8) != 0) return i * 8;
  }
  const uint64_t last = pattern_word(seed, words);
  return memcmp(at + words * 8, &last, bytes % 8) == 0 ? kNoMismatch : words * 8;
}

// Offset of the first byte that is not zero.
inline size_t find_nonzero(const void* block, size_t bytes) {
  const char* at = static_cast<const char*>(block);
  for (size_t i = 0; i < bytes; ++i) {
    if (at[i] != 0) return i;
  }
  return kNoMismatch;
}

// Keeps the compiler from knowing where a value comes from, so that it neither warns about nor removes a call.
template <typename T>
inline T hide(T value) {
  asm volatile("" : "+r"(value)::"memory");
  return value;
}

// A small seeded generator (splitmix64): a failing sequence can be run again.
struct Random {
  uint64_t state;

  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t below(size_t bound) { return static_cast<size_t>(next() % bound); }
  size_t between(size_t low, size_t high) { return low + below(high - low + 1); }
};

// Sizes as programs ask for them: mostly small, some medium, now and then large.
inline size_t mixed_size(Random& random) {
  const size_t kind = random.below(1000);
  if (kind < 800) return random.between(0, 256);
  if (kind < 940) return random.between(257, 4200);
  if (kind < 994) return random.between(4201, 32768);
  return random.between(32769, 400000);
}
