// The inbox of a shard: blocks of that shard which other threads freed.
//
// Protocol: a stack that many push whole lists onto and anyone takes whole. push() links its last block to the old head and
// swings the head (release); take_all() exchanges the head for nothing (acquire), which makes the links of every push
// before it visible. Nobody pops single blocks, so there is no ABA problem.
// Owner of the blocks in it: the shard; of a taken list: the taker, who must pass every block on.
#pragma once

#include <atomic>

#include "hz3/central.hpp"

namespace hz3::remote {

class alignas(kCacheLine) Inbox {
 public:
  static Inbox& of(unsigned shard);

  // Hands over the blocks from `first` to `last`, linked through their first words.
  void push(void* first, void* last) {
    void* head = head_.load(std::memory_order_relaxed);
    do {
      set_link(last, head);
      // release: pairs with the acquire in take_all()
    } while (!head_.compare_exchange_weak(head, first, std::memory_order_release, std::memory_order_relaxed));
  }

  // The whole list, or nullptr.
  void* take_all() {
    if (head_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    // acquire: pairs with the release in push()
    return head_.exchange(nullptr, std::memory_order_acquire);
  }

  bool empty() const { return head_.load(std::memory_order_relaxed) == nullptr; }
  // In the child of fork(): a list that another thread was pushing may be torn, so it is given up.
  void abandon() { head_.store(nullptr, std::memory_order_relaxed); }

 private:
  std::atomic<void*> head_{nullptr};
};

// Sorts a list of blocks of shard `dst` by class and passes each class on through its tier's door.
void pass_on(unsigned dst, void* list);

// Takes a shard's inbox and passes it on to central. Any thread.
void drain_to_central(unsigned dst);

}  // namespace hz3::remote
