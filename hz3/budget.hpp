// The budget of the process: the bytes by which the limits of all bins and of the depot may exceed their first values.
// Any thread, at events alone. relaxed, no pairs: a sum, nothing is ordered by it; what was added beyond it is taken off again.
#pragma once

#include <atomic>

#include "hz3/config.hpp"
#include "hz3/statistics.hpp"

namespace hz3 {

class Budget {
 public:
  bool take(size_t bytes) {
    statistics::count(statistics::kBudgetChanges);
    if (granted_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= kProcessBudgetBytes) return true;
    give(bytes);
    return false;
  }
  void give(size_t bytes) {
    statistics::count(statistics::kBudgetChanges);
    granted_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  // In the child of fork(), where most of those who had grants are gone.
  void set(size_t bytes) { granted_.store(bytes, std::memory_order_relaxed); }
  size_t granted() const { return granted_.load(std::memory_order_relaxed); }

 private:
  std::atomic<size_t> granted_{0};
};
HZ3_HIDDEN extern Budget process_budget;

}  // namespace hz3
