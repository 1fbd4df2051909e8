// See hz3/bins.hpp.
#include "hz3/bins.hpp"

#include "hz3/background.hpp"
#include "hz3/budget.hpp"
#include "hz3/depot.hpp"
#include "hz3/settings.hpp"
#include "hz3/sleepers.hpp"

#include <initializer_list>
#include <utility>

namespace hz3 {

constinit Budget process_budget;

namespace {

constexpr unsigned kMostRoom = 64;  // blocks: kLookAfter frees of a malloc and free loop
constexpr int32_t kCalmRoom = 16;   // of a new bin, and of one that was looked at
constexpr unsigned kShort = 8;      // blocks: as far a list is followed to tell a full one from one whose room has leaked away

// A thread that has sent home so many lists of a class in a row, and asked for none, has no use for a second list, and
// should it fall asleep, it keeps little until others come for it.
constexpr uint8_t kOverflowsOfAHoarder = 8;

constexpr unsigned kLookAfter = kMostRoom * kRoomUnit;  // frees, after which an event looks at the clock

unsigned half_of(unsigned limit) { return limit / 2 > 1 ? limit / 2 : 1; }

// That a list gets in any case: one that is nearly full would otherwise be back after a few frees.
unsigned least_room(unsigned half) { return 2 + half / 8; }

// Whether a first list of at most `most` blocks was half full when it came, since it holds more than growing to half allows.
bool outgrew_half(unsigned most, unsigned half) { return most > half + least_room(half); }

bool hoards(const ThreadCache* tc, Slot slot) { return tc->overflowed[slot] >= kOverflowsOfAHoarder; }

// Passes blocks of one class that leave a bin on to their owners: to central of the thread's own shard, else to the stash.
void send_home(ThreadCache* tc, Slot slot, void* list) {
  void* foreign = Central::of(tc->shard).put(list);
  if constexpr (kStatistics)
    if (foreign != nullptr) statistics::count(statistics::kCentralPuts);
  while (unlikely(foreign != nullptr)) {
    void* block = foreign;
    foreign = link_of(block);
    if (send_away(tc, tag_shard(tag_of(block)), slot, block)) tc->stash.stash_flush_all();
  }
}

bool may_exchange(Slot slot) { return Depot::serves(slot) && thread_registry.threads() > 1; }

// Leaves a bin little room, so that the next event comes after a few pairs of malloc and free, and looks at the clock: a thread
// that was busy, and does little now, sees time pass. Not where that event would take the list for a full one.
void calm_down(ThreadCache* tc, Slot slot) {
  const int32_t less = tc->room[slot] - kCalmRoom;
  const unsigned at_most = tc->at_most[slot] - static_cast<unsigned>(less > 0 ? less / kRoomUnit : 0);
  if (less <= 0 || at_most >= half_of(tc->limit[slot])) return;
  tc->frees_since_look = kLookAfter;
  tc->at_most[slot] = static_cast<uint16_t>(at_most);
  tc->room[slot] -= less;
}

// Room for so many blocks, or what a list gets in any case, but not for very many at once.
void grant(ThreadCache* tc, Slot slot, unsigned length, unsigned until) {
  const unsigned least = least_room(half_of(tc->limit[slot]));
  unsigned more = until > length + least ? until - length : least;
  if (more > kMostRoom) more = kMostRoom;
  tc->at_most[slot] = static_cast<uint16_t>(length + more);
  tc->room[slot] = static_cast<int32_t>(more) * kRoomUnit;
  tc->seen_room[slot] = kBusyBin;
  tc->frees_since_look += more * kRoomUnit;
  if (unlikely(tc->calm != 0)) {
    tc->calm--;
    calm_down(tc, slot);
  }
}

// A list that is half full, as the second one and those of the depot are, may grow until it is full: then a thread that
// allocates and frees by turns comes to an event after so many of either, wherever it stands.
void grant_list(ThreadCache* tc, Slot slot, unsigned length) {
  const unsigned limit = tc->limit[slot], half = half_of(limit);
  grant(tc, slot, length, length < half ? half : limit);
}

// What a bin has too much of goes to the depot if that has room for it, else home. `count` blocks at most.
void give_away(ThreadCache* tc, Slot slot, void* list, unsigned count) {
  if (!hoards(tc, slot)) tc->overflowed[slot]++;
  // A list longer than the limit would make the bin longer still that takes it.
  if (count > tc->limit[slot] || !may_exchange(slot) || !Depot::of(slot).put(list, count)) send_home(tc, slot, list);
}

// Bounds a first list of at most `most` blocks, half of the limit or more: it becomes the second list, but for what came on top
// of one that was half full when it was taken. How long the first is afterwards, at most.
//
// Were all of such a list to become the second again, it would grow by what came on top of it each time. So it is followed as
// far as that goes: mostly to blocks that were just freed. The rest is not counted; its bound is.
unsigned bound_list(ThreadCache* tc, Slot slot, unsigned most) {
  const unsigned limit = tc->limit[slot], half = half_of(limit);
  const bool grew = outgrew_half(most, half) || most > limit;
  const size_t stay = grew && !hoards(tc, slot) ? clamp(most - half, 1, half < limit ? half + 1 : limit) : 0;
  const unsigned full = half < kShort ? half : kShort;
  void*& head = tc->head[slot];
  void* last = nullptr;  // of those that stay
  unsigned length = 0;
  bool is_ring = false;
  for (void* block = head; block != nullptr && length < (stay > full ? stay : full); block = link_of(block)) {
    if (++length == stay) last = block;
    is_ring |= link_of(block) == head;
  }
  if (is_ring) {  // a block was freed twice: central, which counts, says which
    send_home(tc, slot, std::exchange(head, nullptr));
    return 0;
  }
  if (length < full || length < stay) return length;
  void* rest = head;
  if (last != nullptr) {
    rest = link_of(last);
    if (rest == nullptr) return length;
    set_link(last, nullptr);
  } else {
    head = nullptr;
  }
  unsigned count = most - stay;
  if (count <= limit) {  // else it is too long for a second list, as of a bin for a few blocks or of a hoarder: it goes itself
    rest = std::exchange(tc->second[slot], rest);
    count = std::exchange(tc->second_most[slot], static_cast<uint16_t>(count));
  }
  if (rest != nullptr) give_away(tc, slot, rest, count);
  void*& second = tc->second[slot];
  if (hoards(tc, slot) && second != nullptr) give_away(tc, slot, std::exchange(second, nullptr), tc->second_most[slot]);
  return stay;
}

}  // namespace

void grant_room(ThreadCache* tc, Slot slot, unsigned length) { grant(tc, slot, length, half_of(tc->limit[slot])); }

void grant_more(ThreadCache* tc, Slot slot) {
  grant_list(tc, slot, static_cast<unsigned>(most_in_bin(tc, slot) + kRoomUnit - 1) / kRoomUnit);
}

void bin_event_slow(void*, uint64_t wide_slot, ThreadCache* tc) noexcept {
  const sleepers::SlowCall guard(tc);
  const Slot slot = static_cast<Slot>(wide_slot);
  const unsigned most = static_cast<unsigned>(most_in_bin(tc, slot)) / kRoomUnit;
  const unsigned limit = tc->limit[slot], half = half_of(limit);
  // Room is granted in parts: a list on its way to half of the limit goes on, and one that was half full when it came, to all.
  const bool goes_on = most < half || (outgrew_half(most, half) && most + least_room(half) < limit && !hoards(tc, slot));
  grant_list(tc, slot, goes_on ? most : bound_list(tc, slot, most));
  if (tc->frees_since_look < kLookAfter) return background::attend();
  slow_call_event(tc);
  if (tc->calm != 0) calm_down(tc, slot);
}

bool use_second(ThreadCache* tc, Slot slot) {
  if (tc->second[slot] == nullptr) return false;
  tc->head[slot] = tc->second[slot];
  tc->second[slot] = nullptr;
  // Not followed to count it: it is as long as this, or shorter.
  grant_list(tc, slot, tc->second_most[slot]);
  return true;
}

bool use_depot(ThreadCache* tc, Slot slot) {
  const Depot::List list = Depot::of(slot).take();
  if (list.head == nullptr) return false;
  // Not followed: another processor may have its blocks, and the mallocs to come need not wait for one of them to find the
  // next.
  tc->head[slot] = list.head;
  grant_list(tc, slot, list.count);
  return true;
}

void grow_limit(ThreadCache* tc, Slot slot) {
  const ClassInfo& c = class_info(slot);
  const unsigned limit = tc->limit[slot];
  const unsigned more = limit * 2 < c.limit_most ? limit : c.limit_most - limit;
  const size_t bytes = size_t{more} * c.size;
  if (tc->granted + bytes > kThreadBudgetBytes || !process_budget.take(bytes)) return;
  tc->granted += bytes;
  tc->limit[slot] = static_cast<uint16_t>(limit + more);
}

void shrink_limit(ThreadCache* tc, Slot slot) {
  const unsigned first = class_info(slot).limit_first;
  const size_t less = (tc->limit[slot] - first) * class_bytes(slot);
  tc->limit[slot] = static_cast<uint16_t>(first);
  tc->granted -= less;
  process_budget.give(less);
}

void drop_grants(ThreadCache* tc) {
  process_budget.give(tc->granted);
  tc->granted = 0;
}

void keep_grants_of(const ThreadCache* mine) { process_budget.set((mine != nullptr ? mine->granted : 0) + Depot::granted()); }

void empty_bin(ThreadCache* tc, Slot slot) {
  for (void** list : {&tc->head[slot], &tc->second[slot]}) {
    if (*list != nullptr) send_home(tc, slot, *list);
    *list = nullptr;
  }
  grant_room(tc, slot, 0);
}

namespace {
// Whether there was anything to send home.
bool trim_bin(ThreadCache* tc, Slot slot) {
  const bool holds = tc->head[slot] != nullptr || tc->second[slot] != nullptr;
  const bool idle = tc->room[slot] == tc->seen_room[slot];
  if (idle && (holds || tc->limit[slot] > class_info(slot).limit_first)) {
    shrink_limit(tc, slot);
    tc->overflowed[slot] = 0;
    tc->accepts[slot] = kOwnBlocks;
    empty_bin(tc, slot);
  }
  calm_down(tc, slot);
  tc->seen_room[slot] = tc->room[slot];
  return idle && holds;
}
}  // namespace

// A few bins at a time, so that no event takes long; all of them within the decay time in a thread that comes here often.
void trim_idle_bins(ThreadCache* tc) {
  constexpr unsigned kSteps = 16;
  constexpr unsigned kBinsAStep = (kSlots + kSteps - 1) / kSteps;
  constexpr unsigned kEmptiedAtOnce = 24;
  const uint64_t late = tc->now_ms - tc->trimmed_ms;
  const uint64_t decay = settings::decay_ms();
  const uint64_t steps = decay == 0 ? kSteps : late * kSteps / decay;
  if (steps == 0) return;
  tc->trimmed_ms = tc->now_ms;
  unsigned looks = steps < kSteps ? static_cast<unsigned>(steps) * kBinsAStep : kSlots - 1;
  if (looks > kSlots - 1) looks = kSlots - 1;  // none twice
  for (unsigned emptied = 0; looks != 0 && (emptied < kEmptiedAtOnce || decay == 0); looks--) {
    tc->next_trim = tc->next_trim + 1 < kSlots ? tc->next_trim + 1 : 1;
    emptied += trim_bin(tc, tc->next_trim);
  }
}

void reset_bins(ThreadCache* tc) {
  tc->granted = 0;
  for (Slot slot = 1; slot < kSlots; slot++) {
    tc->limit[slot] = class_info(slot).limit_first;
    tc->overflowed[slot] = 0;
    tc->accepts[slot] = kOwnBlocks;
    grant_room(tc, slot, 0);
    calm_down(tc, slot);
  }
}

}  // namespace hz3
