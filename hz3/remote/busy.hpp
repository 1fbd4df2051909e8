// A mark that a stash is being changed, for the one who may look at it in between: a signal handler of the same thread that
// forks. Nobody else ever reads it, so a compiler barrier is all the order that it needs.
#pragma once

#include <atomic>

namespace hz3::remote {

class Busy {
 public:
  explicit Busy(bool& mark) : mark_(mark), before_(mark) {
    mark_ = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Busy() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    mark_ = before_;
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  bool& mark_;
  bool before_;  // a full ring flushes itself while a block is pushed
};

}  // namespace hz3::remote
