// See hz3/depot.hpp.
#include "hz3/depot.hpp"

#include "hz3/budget.hpp"
#include "hz3/message.hpp"

namespace hz3 {

constinit Depot depots[kSlots];

namespace {
constexpr size_t kFirstLimit = 32 << 10 < kDepotBytes ? 32 << 10 : kDepotBytes;
}

Slot Depot::self() const { return static_cast<Slot>(this - depots); }

bool Depot::put(void* list, unsigned count) {
  LockGuard guard(lock_);
  const unsigned lists = lists_.load(std::memory_order_relaxed), blocks = blocks_.load(std::memory_order_relaxed);
  if (lists == kLists || (blocks + count) * class_bytes(self()) > limit_) {
    overflowed_.store(true, std::memory_order_relaxed);
    statistics::count(statistics::kDepotRefusals);
    return false;
  }
  statistics::count(statistics::kDepotPuts);
  list_[lists] = List{list, count};
  set_counts(lists + 1, blocks + count);
  return true;
}

// Within the budget of the process.
void Depot::set_limit(size_t bytes) {
  if (bytes < limit_) {
    process_budget.give(limit_ - bytes);
  } else if (!process_budget.take(bytes - limit_)) {
    return;
  }
  limit_ = bytes;
}

size_t Depot::granted() {
  size_t sum = 0;
  for (const Depot& depot : depots) sum += depot.limit_;
  return sum;
}

Depot::List Depot::take_slow() {
  LockGuard guard(lock_);
  const unsigned lists = lists_.load(std::memory_order_relaxed);
  if (lists == 0) {
    statistics::count(statistics::kDepotMisses);
    idle_ = 0;
    if (!overflowed_.load(std::memory_order_relaxed)) return List{};
    overflowed_.store(false, std::memory_order_relaxed);
    set_limit(clamp(2 * limit_, kFirstLimit, kDepotBytes));
    return List{};
  }
  statistics::count(statistics::kDepotTakes);
  const List list = list_[lists - 1];
  set_counts(lists - 1, blocks_.load(std::memory_order_relaxed) - list.count);
  if (lists - 1 < idle_) idle_ = lists - 1;
  return list;
}

// The list that came first, if there is one, or one that was idle.
void* Depot::take_oldest(bool idle_alone) {
  statistics::count(statistics::kDepotIdle);
  LockGuard guard(lock_);
  const unsigned lists = lists_.load(std::memory_order_relaxed);
  if (lists == 0 || (idle_alone && idle_ == 0)) {
    idle_ = lists;
    return nullptr;
  }
  if (idle_ != 0 && --idle_ == 0) set_limit(limit_ / 2 < kFirstLimit ? 0 : limit_ / 2);
  const List oldest = list_[0];
  for (unsigned i = 1; i < lists; i++) list_[i - 1] = list_[i];
  set_counts(lists - 1, blocks_.load(std::memory_order_relaxed) - oldest.count);
  return oldest.head;
}

void Depot::send_idle_home() {
  for (Depot& depot : depots) {
    if (depot.lists_.load(std::memory_order_relaxed) == 0) continue;
    while (void* list = depot.take_oldest(true)) return_home(list);
  }
}

void Depot::send_all_home() {
  for (Depot& depot : depots)
    while (void* list = depot.take_oldest(false)) return_home(list);
}

void Depot::check() {
  for (Depot& depot : depots) {
    LockGuard guard(depot.lock_);
    unsigned blocks = 0;
    for (unsigned i = 0; i < depot.lists_.load(std::memory_order_relaxed); i++) {
      unsigned left = depot.list_[i].count;
      blocks += left;
      for (void* b = depot.list_[i].head; b != nullptr; b = link_of(b)) {
        if (left-- == 0) invariant_failed("I30", "a list of the depot is longer than is counted");
        if (tag_slot(tag_of(b)) != depot.self()) invariant_failed("I3", "the depot holds a block of another class");
      }
    }
    if (blocks != depot.blocks()) invariant_failed("I30", "the depot's blocks are miscounted");
  }
}

}  // namespace hz3
