// The inbox of a shard: blocks of that shard which other threads freed.
//
// Protocol: a stack that many push whole lists of packs onto and anyone takes whole. push() links its last pack to the old head
// and swings the head (release); take_all() exchanges the head for nothing (acquire), which makes what every push before it
// wrote into its packs visible. Nobody pops single blocks, so there is no ABA problem.
// Proven on a model, with the stashes and the ends of threads: tests/model/remote.pml.
// Owner of the blocks in it: the shard; of a taken list: the taker, who must pass every block on.
#pragma once

#include <atomic>

#include "hz3/message.hpp"
#include "hz3/remote/packs.hpp"

namespace hz3::remote {

class alignas(kCacheLine) Inbox {
 public:
  static Inbox& of(unsigned shard);

  // Hands over `n` blocks in the packs from `first` to `last`.
  void push(void* first, void* last, unsigned n) {
    if constexpr (kDebugChecks)
      if (reinterpret_cast<uintptr_t>(first) >> kCountShift != 0) invariant_failed("I27", "an address has no room for a count");
    uint64_t old = word_.load(std::memory_order_relaxed);  // relaxed: a guess that the exchange confirms or renews
    uint64_t fresh;
    statistics::count(statistics::kStashed, n);
    statistics::count(statistics::kHandOvers);
    do {
      statistics::count(statistics::kExchanges);
      Packs::set_next(last, address_in(old));
      const uint64_t count = (old >> kCountShift) + n;
      fresh = reinterpret_cast<uintptr_t>(first) | (count < kCountMax ? count : kCountMax) << kCountShift;
      // release: pairs with the acquire in take_all(). relaxed on failure: `old` is stored in a block, not followed
    } while (!word_.compare_exchange_weak(old, fresh, std::memory_order_release, std::memory_order_relaxed));
  }

  // The whole list of packs, or nullptr.
  void* take_all() {
    if (empty()) return nullptr;
    statistics::count(statistics::kInboxTakes);
    // acquire: pairs with the release in push()
    return address_in(word_.exchange(0, std::memory_order_acquire));
  }

  // relaxed, as count(): a hint whether to come and take; the blocks are ordered by take_all()
  bool empty() const { return word_.load(std::memory_order_relaxed) == 0; }
  // How many blocks wait, at least: it counts no further than to 65535. A moment old when it is read.
  unsigned count() const { return static_cast<unsigned>(word_.load(std::memory_order_relaxed) >> kCountShift); }
  // In the child of fork(): a list that another thread was pushing may be torn, so it is given up. relaxed: one thread
  void abandon() { word_.store(0, std::memory_order_relaxed); }

 private:
  // The address of the first carrier, and the number of blocks in the bits above it.
  static constexpr uint64_t kCountMax = 0xffff;

  std::atomic<uint64_t> word_{0};
};

HZ3_HIDDEN extern Inbox inboxes[kShards];
inline Inbox& Inbox::of(unsigned shard) { return inboxes[shard]; }

// Blocks of one shard, sorted by class, and passed on through the doors of their tiers.
class Sorter {
 public:
  void add(void* block, Slot slot) {
    set_link(block, list_[slot]);
    list_[slot] = block;
  }
  void pass_on(unsigned dst);

 private:
  void* list_[kSlots] = {};
};

// Takes a shard's inbox and passes it on to central. Any thread.
HZ3_SLOW void drain_slow(unsigned dst);
inline void drain_to_central(unsigned dst) {
  if (!Inbox::of(dst).empty()) drain_slow(dst);
}

}  // namespace hz3::remote
