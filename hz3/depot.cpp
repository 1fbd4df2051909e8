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
  if (lists == kLists || (blocks + count) * class_bytes(self()) > limit()) {
    overflowed_.store(true, std::memory_order_relaxed);
    statistics::count(statistics::kDepotRefusals);
    return false;
  }
  used_ = true;
  statistics::count(statistics::kDepotPuts);
  list_[lists] = List{list, count};
  set_counts(lists + 1, blocks + count);
  return true;
}

// Within the budget of the process.
void Depot::set_limit(size_t bytes) {
  const size_t before = limit();
  if (bytes < before) {
    process_budget.give(before - bytes);
  } else if (!process_budget.take(bytes - before)) {
    return;
  }
  limit_.store(bytes, std::memory_order_relaxed);
}

size_t Depot::granted() {
  size_t sum = 0;
  for (const Depot& depot : depots) sum += depot.limit();
  return sum;
}

Depot::List Depot::take_slow() {
  LockGuard guard(lock_);
  const unsigned lists = lists_.load(std::memory_order_relaxed);
  used_ = true;
  if (lists == 0) {
    statistics::count(statistics::kDepotMisses);
    if (overflowed_.load(std::memory_order_relaxed)) set_limit(clamp(2 * limit(), kFirstLimit, kDepotBytes));
    overflowed_.store(false, std::memory_order_relaxed);
    return List{};
  }
  statistics::count(statistics::kDepotTakes);
  const List list = list_[lists - 1];
  set_counts(lists - 1, blocks_.load(std::memory_order_relaxed) - list.count);
  if (lists - 1 < idle_) idle_ = lists - 1;
  return list;
}

void* Depot::take_oldest() {
  const unsigned lists = lists_.load(std::memory_order_relaxed);
  const List oldest = list_[0];
  for (unsigned i = 1; i < lists; i++) list_[i - 1] = list_[i];
  set_counts(lists - 1, blocks_.load(std::memory_order_relaxed) - oldest.count);
  return oldest.head;
}

// An idle list, or nullptr: then a new time begins, in which lists may prove idle. A limit that was not made use of falls.
void* Depot::take_idle() {
  statistics::count(statistics::kDepotIdle);
  LockGuard guard(lock_);
  if (idle_ != 0) {
    idle_--;
    used_ = false;
    return take_oldest();
  }
  if (!used_) set_limit(limit() / 2 < kFirstLimit ? 0 : limit() / 2);
  used_ = false;
  idle_ = lists_.load(std::memory_order_relaxed);
  return nullptr;
}

void* Depot::take_any() {
  LockGuard guard(lock_);
  idle_ = 0;
  return lists_.load(std::memory_order_relaxed) != 0 ? take_oldest() : nullptr;
}

void Depot::send_idle_home() {
  for (Depot& depot : depots) {
    if (depot.limit() == 0) continue;  // and so it has no lists
    while (void* list = depot.take_idle()) return_home(list);
  }
}

void Depot::send_all_home() {
  for (Depot& depot : depots)
    while (void* list = depot.take_any()) return_home(list);
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
