// Time stamps of a few nanoseconds' resolution, and counts of durations in buckets that are 1/16 of their value wide.
#pragma once

#include <bit>

#include "bench.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bench {

#if defined(__x86_64__)
inline constexpr const char* kClockName = "rdtsc";
// Everything before has ended, and nothing after has begun.
inline uint64_t stamp() {
  _mm_lfence();
  const uint64_t ticks = __rdtsc();
  _mm_lfence();
  return ticks;
}
#else
inline constexpr const char* kClockName = "clock_gettime";
inline uint64_t stamp() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(time.tv_nsec);
}
#endif

// Nanoseconds of a tick, from two looks at both clocks, a twentieth of a second apart.
inline double nanoseconds_per_tick() {
  const double begin = now();
  const uint64_t first = stamp();
  double end = begin;
  while (end - begin < 0.05) end = now();
  return 1e9 * (end - begin) / static_cast<double>(stamp() - first);
}

class Histogram {
 public:
  static constexpr unsigned kPerOctave = 16, kBuckets = 64 * kPerOctave;

  void add(uint64_t ticks) {
    counts_[bucket_of(ticks)]++;
    count_++;
    if (ticks > most_) most_ = ticks;
  }
  void add(const Histogram& other) {
    for (unsigned i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    if (other.most_ > most_) most_ = other.most_;
  }
  uint64_t count() const { return count_; }
  uint64_t most() const { return most_; }
  uint64_t in(unsigned bucket) const { return counts_[bucket]; }

  // At least `share` of all durations were shorter than this, and no value is promised that was not reached: the last is
  // most().
  uint64_t percentile(double share) const {
    const auto wanted = static_cast<uint64_t>(share * static_cast<double>(count_));
    uint64_t below = 0;
    for (unsigned i = 0; i < kBuckets; ++i) {
      below += counts_[i];
      if (below >= wanted && below > 0) return begin_of(i + 1) < most_ ? begin_of(i + 1) : most_;
    }
    return most_;
  }

  static unsigned bucket_of(uint64_t ticks) {
    if (ticks < kPerOctave) return static_cast<unsigned>(ticks);
    const unsigned octave = static_cast<unsigned>(std::bit_width(ticks)) - 5;  // 0 for 16..31
    return (octave + 1) * kPerOctave + static_cast<unsigned>((ticks >> octave) - kPerOctave);
  }
  static uint64_t begin_of(unsigned bucket) {
    if (bucket < kPerOctave) return bucket;
    const unsigned octave = bucket / kPerOctave - 1;
    return uint64_t{kPerOctave + bucket % kPerOctave} << octave;
  }

 private:
  uint64_t counts_[kBuckets];
  uint64_t count_, most_;
};

}  // namespace bench
