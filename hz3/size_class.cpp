// The class tables, computed by the compiler.
#include "hz3/size_class.hpp"

namespace hz3 {
namespace {

constexpr bool is_sound(const ClassInfo& c, RunShape run) {
  if (run.blocks == 0 || run.blocks * size_t{c.size} * 8 < run.pages * kPageSize * 7) return false;
  if (run.pages > kSegmentPages / 2) return false;
  for (unsigned i = 0; i < run.blocks; i++) {
    const uint64_t first = uint64_t{i} * c.size;
    const bool untagged_end = run.blocks == 1 && c.size > kPageSize;  // only its first page is tagged
    const uint64_t last = untagged_end ? kPageSize - 1 : first + c.size - 1;
    if ((first * c.reciprocal) >> kReciprocalShift != i || (last * c.reciprocal) >> kReciprocalShift != i) return false;
  }
  return true;
}

constexpr bool run_offsets_divide_exactly(const ClassTables& t) {
  for (Slot s = 1; s < kSlots; s++) {
    const ClassInfo& c = t.info[s];
    if (s > kFirstLarge && (c.run.blocks != 1 || large::class_of(c.size) != s - kFirstLarge - 1)) return false;
    if (c.size % kQuantum != 0 || !is_sound(c, c.run) || !is_sound(c, c.first_run)) return false;
  }
  return true;
}
static_assert(run_offsets_divide_exactly(make_class_tables()));

}  // namespace

constinit const ClassTables kClassTables = make_class_tables();

}  // namespace hz3
