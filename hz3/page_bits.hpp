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
    each_word(first, n, [&](unsigned w, uint64_t mask) { sum += count_bits(word_[w] & mask); });
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

  uint64_t& word(unsigned w) { return word_[w]; }
  uint64_t word(unsigned w) const { return word_[w]; }

 private:
  template <typename F>
  static void each_word(unsigned first, unsigned count, F f) {
    while (count != 0) {
      const unsigned bit = first % 64;
      const unsigned n = count < 64 - bit ? count : 64 - bit;
      f(first / 64, (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << bit);
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
