// One thread's worth of stress: it allocates, checks, reallocates, frees, and exchanges blocks with the others.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "block.hpp"

namespace stress {

inline std::atomic<uint64_t> operations{0};
inline std::atomic<size_t> live_bytes{0};

// Where blocks wait for another thread to take them over.
class Exchange {
 public:
  void give(const Block& block) {
    std::lock_guard lock(mutex_);
    waiting_.push_back(block);
  }
  Block take() {
    std::lock_guard lock(mutex_);
    if (waiting_.empty()) return {};
    const Block block = waiting_.front();
    waiting_.pop_front();
    return block;
  }
  template <typename Visit>
  void for_each(const Visit& visit) {
    std::lock_guard lock(mutex_);
    for (const Block& block : waiting_) visit(block);
  }

 private:
  std::mutex mutex_;
  std::deque<Block> waiting_;
};

// The range of sizes that a worker asks for, until it chooses another.
struct Appetite {
  size_t low;
  size_t high;

  static Appetite choose(Random& random) {
    switch (random.below(14)) {
      case 0:
        return {0, 64};
      case 1:
        return {1, 256};
      case 2:
        return {1, 2048};
      case 3:
        return {2049, 4095};
      case 4:
        return {4096, 32768};
      case 5:
        return {1, 32768};
      case 6:
        return {32769, 400000};
      case 7:
        return {200000, 6000000};
      case 8: {
        const size_t only = random.between(1, 40000);
        return {only, only};
      }
      default:
        return {0, 0};  // mixed, see size()
    }
  }
  size_t size(Random& random) const {
    if (high != 0) return random.between(low, high);
    const size_t kind = random.below(1000);
    if (kind < 800) return random.between(0, 256);
    if (kind < 950) return random.between(257, 2048);
    if (kind < 995) return random.between(2049, 32768);
    if (kind < 999) return random.between(32769, 500000);
    return random.between(500001, 9000000);
  }
};

class Worker {
 public:
  // `exchange` may be null: then it keeps to itself.
  Worker(uint64_t seed, size_t budget, std::vector<std::unique_ptr<Exchange>>* exchanges)
      : random_{seed}, budget_(budget), exchanges_(exchanges), appetite_(Appetite::choose(random_)) {}

  // Takes `count` steps, fewer if they move many bytes: nobody keeps the others waiting for long.
  void steps(size_t count) {
    constexpr size_t kBytesAtATime = size_t{4} << 20;
    touched_ = 0;
    size_t done = 0;
    for (; done < count && touched_ < kBytesAtATime; ++done) step();
    operations.fetch_add(done, std::memory_order_relaxed);
  }

  // Frees or hands over all that is left.
  void finish(bool hand_over) {
    while (!blocks_.empty()) {
      const Block block = remove(random_.below(blocks_.size()));
      if (hand_over && exchanges_ != nullptr && random_.one_in(2)) {
        give(block);
      } else {
        Block(block).free();
      }
    }
  }

  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const Block& block : blocks_) visit(block);
  }
  void verify_all(const char* when) const {
    for (const Block& block : blocks_) block.verify(when);
  }

 private:
  void step() {
    const size_t kind = random_.below(1000);
    if (kind < 430) {
      add(make());
    } else if (kind < 800) {
      if (!blocks_.empty()) remove(random_.below(blocks_.size())).free();
    } else if (kind < 880) {
      if (!blocks_.empty()) resize(random_.below(blocks_.size()));
    } else if (kind < 920) {
      if (!blocks_.empty() && exchanges_ != nullptr) give(remove(random_.below(blocks_.size())));
    } else if (kind < 960) {
      if (exchanges_ != nullptr) take();
    } else if (kind < 990) {
      if (!blocks_.empty()) blocks_[random_.below(blocks_.size())].verify("while live");
    } else if (kind < 994) {
      burst();
    } else if (kind < 997) {
      appetite_ = Appetite::choose(random_);
    } else if (kind < 999) {
      impossible();
    } else if (random_.one_in(20)) {
      do_trim();
    } else if (random_.one_in(4)) {
      while (blocks_.size() > 10) remove(blocks_.size() - 1).free();
    }
    while (held_ > budget_) remove(random_.below(blocks_.size())).free();
  }

  Block make() {
    const unsigned entry_point = random_.one_in(2) ? 15 : static_cast<unsigned>(random_.below(kEntryPoints));
    const size_t alignment = size_t{1} << (random_.one_in(50) ? random_.below(23) : random_.below(13));
    const size_t size = appetite_.size(random_);
    const Block block = Block::make(entry_point, size, alignment, !random_.one_in(8));
    if (!block) fail("no memory for %zu bytes aligned to %zu", size, alignment);
    return block;
  }

  void add(const Block& block) {
    blocks_.push_back(block);
    held_ += block.usable();
    touched_ += block.written();
    live_bytes.fetch_add(block.usable(), std::memory_order_relaxed);
  }

  Block remove(size_t index) {
    const Block block = blocks_[index];
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
    held_ -= block.usable();
    live_bytes.fetch_sub(block.usable(), std::memory_order_relaxed);
    return block;
  }

  void resize(size_t index) {
    Block block = remove(index);
    const size_t size = random_.one_in(3) ? random_.between(1, block.usable() * 2 + 1) : appetite_.size(random_) + 1;
    if (!block.resize(size)) fail("no memory to reallocate to %zu bytes", size);
    add(block);
  }

  void give(const Block& block) { exchanges_->at(random_.below(exchanges_->size()))->give(block); }

  // Several at once now and then, from one place: then most of them have one owner.
  void take() {
    Exchange& from = *exchanges_->at(random_.below(exchanges_->size()));
    for (size_t i = random_.one_in(10) ? 100 : 1; i > 0; --i) {
      const Block block = from.take();
      if (!block) break;
      add(block);
    }
  }

  // Many blocks of one size, freed in the order, against the order, or in no order.
  void burst() {
    const size_t size = appetite_.size(random_);
    const size_t count = std::min<size_t>(random_.between(10, 2000), (size_t{4} << 20) / (size + 64) + 2);
    touched_ += count * std::min<size_t>(size, 16384);
    std::vector<Block> burst;
    for (size_t i = 0; i < count; ++i) {
      burst.push_back(Block::make(random_.one_in(8) ? 0 : 15, size, 1, true));
      if (!burst.back()) fail("no memory for %zu bytes", size);
    }
    const size_t order = random_.below(3);
    if (order == 1) std::reverse(burst.begin(), burst.end());
    if (order == 2) {
      for (size_t i = count; i > 1; --i) std::swap(burst[i - 1], burst[random_.below(i)]);
    }
    for (Block& block : burst) block.free();
  }

  void impossible() {
    volatile size_t size = static_cast<size_t>(PTRDIFF_MAX) + random_.between(1, 100000);
    errno = 0;
    if (do_malloc(size) != nullptr || errno != ENOMEM) fail("malloc above PTRDIFF_MAX: errno %d", errno);
    if (blocks_.empty()) return;
    const Block& block = blocks_[random_.below(blocks_.size())];
    if (do_realloc(block.start(), size) != nullptr) fail("realloc above PTRDIFF_MAX succeeded");
    block.verify("after a realloc that failed");
  }

  Random random_;
  size_t budget_;
  std::vector<std::unique_ptr<Exchange>>* exchanges_;
  Appetite appetite_;
  std::vector<Block> blocks_;
  size_t held_ = 0;
  size_t touched_ = 0;
};

}  // namespace stress
