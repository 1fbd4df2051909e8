// A fixed bitmap with one bit per page of a segment, and the searches over ranges that the page heap needs.
#pragma once

#include <cstdint>

#include "hz3/config.hpp"

namespace hz3 {

class PageBits {
 public:
  static constexpr unsigned kWords = kSegmentPages / 64;
  static_assert(kSegmentPages % 64 == 0);

  bool test(unsigned i) const { return (word_[i / 64] >> (i % 64)) & 1; }

  void set(unsigned first, unsigned count) {
    each_word(first, count, [this](unsigned w, uint64_t mask) { word_[w] |= mask; });
  }
  void clear(unsigned first, unsigned count) {
    each_word(first, count, [this](unsigned w, uint64_t mask) { word_[w] &= ~mask; });
  }
  // How many bits of the range are set.
  unsigned count(unsigned first, unsigned n) const {
    unsigned sum = 0;
    // Most words are all one or the other.
    each_word(first, n, [&](unsigned w, uint64_t mask) {
      if (const uint64_t bits = word_[w] & mask; bits != 0) sum += bits == ~uint64_t{0} ? 64 : count_bits(bits);
    });
    return sum;
  }
  unsigned count() const { return count(0, kSegmentPages); }

  // The first set (clear) bit at or after `from`; kSegmentPages when there is none.
  unsigned next_set(unsigned from) const { return next(from, 0); }
  unsigned next_clear(unsigned from) const { return next(from, ~uint64_t{0}); }

  // The first bit of the stretch of clear bits that ends just before `end`.
  unsigned clear_before(unsigned end) const {
    while (end != 0) {
      if (end % 64 == 0 && word_[end / 64 - 1] == 0) {
        end -= 64;
        continue;
      }
      if (test(end - 1)) break;
      end--;
    }
    return end;
  }

  // The bits from which on `n` bits in a row are set. Halves the question: n in a row are n / 2 in a row, twice.
  PageBits starts_of(unsigned n) const {
    PageBits x = *this;
    for (unsigned have = 1; have < n;) {
      const unsigned step = have < n - have ? have : n - have;
      x.and_shifted_down(step);
      have += step;
    }
    return x;
  }
  PageBits operator&(const PageBits& other) const {
    PageBits x;
    for (unsigned w = 0; w < kWords; w++) x.word_[w] = word_[w] & other.word_[w];
    return x;
  }
  PageBits operator~() const {
    PageBits x;
    for (unsigned w = 0; w < kWords; w++) x.word_[w] = ~word_[w];
    return x;
  }
  // The bits whose lower neighbour is not set: where stretches of set bits begin.
  PageBits first_of_stretches() const {
    PageBits x;
    for (unsigned w = 0; w < kWords; w++) x.word_[w] = word_[w] & ~(word_[w] << 1 | (w != 0 ? word_[w - 1] >> 63 : 0));
    return x;
  }

  uint64_t& word(unsigned w) { return word_[w]; }
  uint64_t word(unsigned w) const { return word_[w]; }

 private:
  // x &= x >> by. Goes upwards, so that it reads words which it has not changed yet.
  void and_shifted_down(unsigned by) {
    const unsigned words = by / 64, bits = by % 64;
    for (unsigned w = 0; w < kWords; w++) {
      const uint64_t low = w + words < kWords ? word_[w + words] >> bits : 0;
      const uint64_t high = bits != 0 && w + words + 1 < kWords ? word_[w + words + 1] << (64 - bits) : 0;
      word_[w] &= low | high;
    }
  }
  template <typename F>
  static void each_word(unsigned first, unsigned count, F f) {
    while (count != 0) {
      const unsigned bit = first % 64;
      const unsigned n = count < 64 - bit ? count : 64 - bit;
      f(first / 64, (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << bit);  // NOLINT(clang-analyzer-core.*): n <= 64 - bit
      first += n;
      count -= n;
    }
  }
  unsigned next(unsigned from, uint64_t flip) const {
    if (from >= kSegmentPages) return kSegmentPages;
    unsigned w = from / 64;
    uint64_t bits = (word_[w] ^ flip) & (~uint64_t{0} << (from % 64));
    while (bits == 0) {
      if (++w == kWords) return kSegmentPages;
      bits = word_[w] ^ flip;
    }
    return w * 64 + static_cast<unsigned>(__builtin_ctzll(bits));
  }

  uint64_t word_[kWords];
};

}  // namespace hz3
