// PageBits against a plain array of booleans.
#include "hz3/page_bits.hpp"

#include <vector>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

class Model {
 public:
  Model() : bits_(kSegmentPages) {}
  void fill(unsigned first, unsigned n, bool value) {
    for (unsigned i = first; i < first + n; i++) bits_[i] = value;
  }
  unsigned count(unsigned first, unsigned n) const {
    unsigned sum = 0;
    for (unsigned i = first; i < first + n; i++) sum += bits_[i];
    return sum;
  }
  unsigned next(unsigned from, bool value) const {
    while (from < kSegmentPages && bits_[from] != value) from++;
    return from;
  }
  unsigned clear_before(unsigned end) const {
    while (end != 0 && !bits_[end - 1]) end--;
    return end;
  }
  bool test(unsigned i) const { return bits_[i]; }

 private:
  std::vector<bool> bits_;
};

TEST(PageBits, AgreesWithAPlainArray) {
  test::Random random(1);
  PageBits bits{};
  Model model;
  for (int step = 0; step < 4000; step++) {
    const unsigned first = static_cast<unsigned>(random.below(kSegmentPages));
    unsigned n = static_cast<unsigned>(random.below(step % 3 == 0 ? kSegmentPages : 70));
    if (n > kSegmentPages - first) n = kSegmentPages - first;
    const bool value = random.below(2) != 0;
    value ? bits.set(first, n) : bits.clear(first, n);
    model.fill(first, n, value);
    const unsigned at = static_cast<unsigned>(random.below(kSegmentPages + 1));
    ASSERT_EQ(bits.next_set(at), model.next(at, true)) << step;
    ASSERT_EQ(bits.next_clear(at), model.next(at, false)) << step;
    ASSERT_EQ(bits.clear_before(at), model.clear_before(at)) << step;
    ASSERT_EQ(bits.count(first, n), model.count(first, n)) << step;
    ASSERT_EQ(bits.count(), model.count(0, kSegmentPages)) << step;
    ASSERT_EQ(bits.test(first), model.test(first)) << step;
  }
}

// Bit sets as the page heap has them: few or many, in stretches of about so many.
void fill_randomly(test::Random& random, PageBits& bits, Model& model) {
  bits = PageBits{};
  model = Model{};
  const unsigned most = 1u << random.below(9);
  bool value = random.below(2) != 0;
  for (unsigned at = 0; at < kSegmentPages; value = !value) {
    unsigned n = 1 + static_cast<unsigned>(random.below(most));
    if (n > kSegmentPages - at) n = kSegmentPages - at;
    if (value) {
      bits.set(at, n);
      model.fill(at, n, true);
    }
    at += n;
  }
}

TEST(PageBits, StartsOfAreWhereSoManyInARowAreSet) {
  test::Random random(3);
  PageBits bits;
  Model model;
  for (int round = 0; round < 40; round++) {
    fill_randomly(random, bits, model);
    for (unsigned n = 1; n <= kSegmentPages; n += n < 140 ? 1 : 37) {
      const PageBits starts = bits.starts_of(n);
      for (unsigned i = 0; i < kSegmentPages; i++) {
        const bool expected = i + n <= kSegmentPages && model.next(i, false) >= i + n;
        ASSERT_EQ(starts.test(i), expected) << n << " from " << i;
      }
    }
  }
}

TEST(PageBits, StartsOfInEmptyAndFullSets) {
  PageBits bits{};
  for (unsigned n : {1u, 2u, 64u, 65u, kSegmentPages}) EXPECT_EQ(bits.starts_of(n).count(), 0u);
  bits.set(0, kSegmentPages);
  for (unsigned n : {1u, 2u, 63u, 64u, 65u, kSegmentPages}) {
    const PageBits starts = bits.starts_of(n);
    EXPECT_EQ(starts.count(), kSegmentPages - n + 1) << n;
    EXPECT_EQ(starts.next_clear(0), kSegmentPages - n + 1);
  }
}

TEST(PageBits, FirstOfStretchesAreWhereTheyBegin) {
  test::Random random(4);
  PageBits bits;
  Model model;
  for (int round = 0; round < 300; round++) {
    fill_randomly(random, bits, model);
    const PageBits firsts = bits.first_of_stretches();
    for (unsigned i = 0; i < kSegmentPages; i++)
      ASSERT_EQ(firsts.test(i), model.test(i) && (i == 0 || !model.test(i - 1))) << i;
  }
}

TEST(PageBits, AndAndNot) {
  test::Random random(5);
  PageBits a, b;
  Model model_a, model_b;
  for (int round = 0; round < 100; round++) {
    fill_randomly(random, a, model_a);
    fill_randomly(random, b, model_b);
    const PageBits both = a & b, none = ~a;
    for (unsigned i = 0; i < kSegmentPages; i++) {
      ASSERT_EQ(both.test(i), model_a.test(i) && model_b.test(i));
      ASSERT_EQ(none.test(i), !model_a.test(i));
    }
  }
}

TEST(PageBits, EmptyAndFullEnds) {
  PageBits bits{};
  EXPECT_EQ(bits.next_set(0), kSegmentPages);
  EXPECT_EQ(bits.next_clear(kSegmentPages), kSegmentPages);
  EXPECT_EQ(bits.clear_before(kSegmentPages), 0u);
  EXPECT_EQ(bits.clear_before(0), 0u);
  bits.set(0, kSegmentPages);
  EXPECT_EQ(bits.next_clear(0), kSegmentPages);
  EXPECT_EQ(bits.clear_before(kSegmentPages), kSegmentPages);
  EXPECT_EQ(bits.count(), kSegmentPages);
}

TEST(Platform, BitHelpers) {
  test::Random random(2);
  for (int i = 0; i < 1000; i++) {
    const uint64_t x = random() & random();
    EXPECT_EQ(count_bits(x), static_cast<unsigned>(__builtin_popcountll(x)));
  }
  EXPECT_EQ(count_bits(~uint64_t{0}), 64u);
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_TRUE(is_power_of_two(1));
  EXPECT_FALSE(is_power_of_two(12));
  EXPECT_EQ(round_up(0, 16), 0u);
  EXPECT_EQ(round_up(17, 16), 32u);
  EXPECT_EQ(log2_floor(1), 0u);
  EXPECT_EQ(log2_floor(4097), 12u);
}

TEST(Platform, SubtractTellsTheSign) {
  int32_t x = 257;
  EXPECT_FALSE(subtract_below_zero<257>(x));
  EXPECT_EQ(x, 0);
  EXPECT_TRUE(subtract_below_zero<257>(x));
  EXPECT_EQ(x, -257);
}

}  // namespace
}  // namespace hz3
