// Blocks of a known owner, as the parts between a thread and central hand them on, and where they have got to.
#pragma once

#include <algorithm>
#include <set>

#include "hz3/bins.hpp"
#include "tests/unit/support.hpp"

namespace hz3::test {

using Blocks = std::vector<void*>;

// `n` blocks straight from the central of a shard, past all caches.
inline Blocks blocks_of(unsigned shard, Slot slot, unsigned n) {
  Blocks blocks;
  while (blocks.size() < n) {
    const Batch batch = take_or_make(Central::of(shard), slot, n - static_cast<unsigned>(blocks.size()));
    EXPECT_NE(batch.head, nullptr);
    if (batch.head == nullptr) break;
    void* b = batch.head;
    for (unsigned i = 0; i < batch.count; i++) {  // the link of the last one may be of a fresh page
      void* next = i + 1 < batch.count ? link_of(b) : nullptr;
      if (blocks.size() < n) {
        blocks.push_back(b);
      } else {  // the list of a run may come as a whole
        set_link(b, nullptr);
        Central::of(shard).put(b);
      }
      b = next;
    }
  }
  return blocks;
}

// All blocks of a new run, in the order of their addresses. The first runs of a class are short: theirs join `others`.
inline Blocks whole_run(unsigned shard, Slot slot, Blocks& others) {
  for (;;) {
    Blocks blocks = blocks_of(shard, slot, 1);
    for (Batch batch; (batch = Central::of(shard).take(slot, 1)).head != nullptr;) blocks.push_back(batch.head);
    std::sort(blocks.begin(), blocks.end());
    EXPECT_EQ(run_of(blocks.front()), run_of(blocks.back()));
    if (blocks.size() == class_info(slot).run.blocks) return blocks;
    others.insert(others.end(), blocks.begin(), blocks.end());
  }
}

// Gives each block to the central of its owner.
inline void give_back(const Blocks& blocks) {
  for (void* b : blocks) {
    set_link(b, nullptr);
    Central::of(tag_shard(tag_of(b))).put(b);
  }
}

inline void* list_of(const Blocks& blocks) {
  void* list = nullptr;
  for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) {
    set_link(*b, list);
    list = *b;
  }
  return list;
}

inline Blocks blocks_in(void* list) {
  Blocks blocks;
  for (; list != nullptr; list = link_of(list)) blocks.push_back(list);
  return blocks;
}

// What an inbox holds, taken out of it.
inline Blocks taken_from(remote::Inbox& inbox) {
  Blocks blocks;
  remote::Packs::for_each(inbox.take_all(), [&](void* block) { blocks.push_back(block); });
  return blocks;
}

inline void push_to_inbox(unsigned shard, const Blocks& blocks) {
  remote::Inbox::of(shard).push(list_of(blocks), blocks.back(), static_cast<unsigned>(blocks.size()));
}

inline std::multiset<void*> as_set(const Blocks& blocks) { return {blocks.begin(), blocks.end()}; }

inline bool contains(const Blocks& blocks, const void* block) {
  return std::find(blocks.begin(), blocks.end(), block) != blocks.end();
}

// How many blocks wait in a cache's bins, all classes together.
inline size_t blocks_in_bins(const ThreadCache* tc) {
  size_t n = 0;
  for (Slot slot = 1; slot < kSlots; slot++) n += bin_length(tc, slot);
  return n;
}

// What a list that is nearly full is granted all the same, and the block that brings it to its event.
inline unsigned least_room(const ThreadCache* tc, Slot slot) { return tc->limit[slot] / 16 + 3; }
// What a new list holds at most.
inline unsigned list_bound(const ThreadCache* tc, Slot slot) { return tc->limit[slot] / 2 + least_room(tc, slot); }
// What a bin holds at most: a list that was taken back when it was full, filled up to the limit, and a new one.
inline unsigned bound(const ThreadCache* tc, Slot slot) { return tc->limit[slot] + list_bound(tc, slot); }

inline void expect_bounded(const ThreadCache* tc, Slot slot) {
  ASSERT_GE(tc->room[slot], 0);
  ASSERT_LE(static_cast<int32_t>(list_length(tc->head[slot])) * kRoomUnit, most_in_bin(tc, slot))
      << "room tells a bound of the length";
  ASSERT_LE(list_length(tc->second[slot]), tc->second_most[slot]);
  ASSERT_LE(bin_length(tc, slot), bound(tc, slot));
}

// Looks at every bin once, as the events of a decay time do. The last step comes to some bins of the first one again: those
// are made to look busy, so that it counts for nothing.
inline void look_at_bins(ThreadCache* tc) {
  const Slot start = tc->next_trim;
  unsigned step = 0;
  for (unsigned seen = 0; seen < kSlots - 1;) {
    for (unsigned again = 0; seen + step > kSlots - 1 + again; again++)
      tc->seen_room[1 + (start + again) % (kSlots - 1)] = kBusyBin;
    const Slot before = tc->next_trim;
    tc->trimmed_ms = tc->now_ms - kPurgeDecayMs / 16 - 1;  // one step is due
    trim_idle_bins(tc);
    step = tc->next_trim > before ? tc->next_trim - before : tc->next_trim + (kSlots - 1) - before;
    seen += step;
  }
}

// Sets the next tick so far ahead that none comes by itself while a test runs: a tick empties inboxes and gives spare runs
// back, whoever does it.
inline void no_ticks() { tick(later()); }

}  // namespace hz3::test
