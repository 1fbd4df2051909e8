// See hz3/bins.hpp.
#include "hz3/bins.hpp"

namespace hz3 {
namespace {

constexpr unsigned kMostRoom = 64;  // blocks: 2048 frees of a malloc and free loop
constexpr unsigned kLeastRoom = 2;  // blocks: a bin that is nearly full would otherwise be back after a few frees

// What the limits of all threads grew by together, in bytes. Relaxed: a budget, nothing is ordered by it.
constinit std::atomic<size_t> all_granted{0};

// Cuts a list after its first `keep` blocks and returns the rest.
void* cut_after(void*& head, unsigned keep) {
  if (keep == 0) {
    void* rest = head;
    head = nullptr;
    return rest;
  }
  void* last = head;
  for (unsigned i = 1; i < keep; i++) last = link_of(last);
  void* rest = link_of(last);
  set_link(last, nullptr);
  return rest;
}

// Passes blocks of one class that leave a bin on to their owners: to central of the thread's own shard, else to the stash.
void send_home(ThreadCache* tc, Slot slot, void* list) {
  void* own = nullptr;
  while (list != nullptr) {
    void* block = list;
    list = link_of(block);
    const Tag tag = tag_of(block);
    if (likely(tag_shard(tag) == tc->shard)) {
      set_link(block, own);
      own = block;
    } else if (tc->stash.stash_push(tag_shard(tag), slot, block)) {
      tc->stash.stash_flush_all();
    }
  }
  if (own != nullptr) Central::of(tc->shard).put(own);
}

void shrink_limit(ThreadCache* tc, Slot slot) {
  const unsigned first = class_info(slot).limit_first;
  const size_t less = (tc->limit[slot] - first) * class_bytes(slot);
  tc->limit[slot] = static_cast<uint16_t>(first);
  tc->granted -= less;
  all_granted.fetch_sub(less, std::memory_order_relaxed);
}

}  // namespace

void grant_room(ThreadCache* tc, Slot slot, unsigned length) {
  const unsigned limit = tc->limit[slot];
  const unsigned least = kLeastRoom + limit / 8;
  unsigned more = limit > length + least ? limit - length : least;
  if (more > kMostRoom) more = kMostRoom;
  tc->at_most[slot] = static_cast<uint16_t>(length + more);
  tc->room[slot] = static_cast<int32_t>(more) * kRoomUnit;
  tc->seen_room[slot] = kBusyBin;
  if (tc->keep_above[slot] != kKeepNone)
    tc->keep_above[slot] = (static_cast<int32_t>(length + more) - static_cast<int32_t>(limit / 2)) * kRoomUnit;
}

void may_keep(ThreadCache* tc, Slot slot) {
  if (class_bytes(slot) % kCacheLine == 0) tc->keep_above[slot] = 0;
}

void bin_event_slow(void*, uint64_t wide_slot, ThreadCache* tc) noexcept {
  const Slot slot = static_cast<Slot>(wide_slot);
  slow_call_event(tc);
  const unsigned limit = tc->limit[slot];
  unsigned length = tc->at_most[slot] + 1u;
  if (length >= limit) {
    length = 0;
    for (void* b = tc->head[slot]; b != nullptr && length < limit; b = link_of(b)) length++;
    if (length >= limit) {
      length = limit / 2;
      tc->overflowed[slot] = true;
      send_home(tc, slot, cut_after(tc->head[slot], length));
    }
  }
  grant_room(tc, slot, length);
}

void grow_limit(ThreadCache* tc, Slot slot) {
  const ClassInfo& c = class_info(slot);
  const unsigned limit = tc->limit[slot];
  const unsigned more = limit * 2 < c.limit_most ? limit : c.limit_most - limit;
  const size_t bytes = size_t{more} * c.size;
  if (tc->granted + bytes > kThreadBudgetBytes) return;
  if (all_granted.fetch_add(bytes, std::memory_order_relaxed) + bytes > kProcessBudgetBytes) {
    all_granted.fetch_sub(bytes, std::memory_order_relaxed);
    return;
  }
  tc->granted += bytes;
  tc->limit[slot] = static_cast<uint16_t>(limit + more);
}

void drop_grants(ThreadCache* tc) {
  all_granted.fetch_sub(tc->granted, std::memory_order_relaxed);
  tc->granted = 0;
}

void keep_grants_of(const ThreadCache* mine) {
  all_granted.store(mine != nullptr ? mine->granted : 0, std::memory_order_relaxed);
}

void empty_bin(ThreadCache* tc, Slot slot) {
  send_home(tc, slot, cut_after(tc->head[slot], 0));
  grant_room(tc, slot, 0);
}

void trim_idle_bins(ThreadCache* tc) {
  for (Slot slot = 1; slot < kSlots; slot++) {
    if (tc->room[slot] == tc->seen_room[slot] &&
        (tc->head[slot] != nullptr || tc->limit[slot] > class_info(slot).limit_first)) {
      shrink_limit(tc, slot);
      tc->overflowed[slot] = false;
      tc->keep_above[slot] = kKeepNone;
      empty_bin(tc, slot);
    }
    tc->seen_room[slot] = tc->room[slot];
  }
}

void reset_bins(ThreadCache* tc) {
  tc->granted = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    tc->limit[slot] = class_info(slot).limit_first;
    tc->overflowed[slot] = false;
    tc->keep_above[slot] = kKeepNone;
    grant_room(tc, slot, 0);
  }
}

}  // namespace hz3
