// Atomic operations for each block that another shard owns, under the exchange that benchmarks run: every thread has a shard of
// its own, allocates and frees blocks of random sizes at random, and hands a part of what it frees to the next thread.
// `scripts/remote_atomics.sh` shows what these tests print.
#include "hz3/statistics.hpp"

#include <iomanip>
#include <sstream>
#include <utility>

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using statistics::Counts;

// A queue from one thread to another.
class Ring {
 public:
  bool push(void* p) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kEntries) return false;
    entries_[tail % kEntries] = p;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  void* pop() {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return nullptr;
    void* p = entries_[head % kEntries];
    head_.store(head + 1, std::memory_order_release);
    return p;
  }

 private:
  static constexpr uint32_t kEntries = 4096;
  std::array<void*, kEntries> entries_;
  alignas(kCacheLine) std::atomic<uint32_t> head_{0};
  alignas(kCacheLine) std::atomic<uint32_t> tail_{0};
};

struct Exchange {
  unsigned threads, remote_percent, steps;
  size_t most_bytes;
  double bound;  // atomics each
};

void take_part(const Exchange& e, unsigned id, std::vector<Ring>& rings, std::atomic<unsigned>& at_work) {
  std::vector<void*> slots(400);
  test::Random random(id + 1);
  Ring& in = rings[id];
  Ring& out = rings[(id + 1) % e.threads];
  const auto receive = [&in] {
    while (void* p = in.pop()) free_hot(p);
  };
  for (unsigned i = 0; i < e.steps; i++) {
    receive();
    void*& slot = slots[random.below(slots.size())];
    if (slot == nullptr) {
      slot = malloc_hot(16 + random.below(e.most_bytes - 15));
    } else if (void* p = std::exchange(slot, nullptr); random.below(100) >= e.remote_percent) {
      free_hot(p);
    } else {
      while (!out.push(p)) {
        receive();
        std::this_thread::yield();
      }
    }
  }
  for (void* p : slots) free_hot(p);
  at_work--;
  while (at_work != 0) {
    receive();
    std::this_thread::yield();
  }
  receive();
}

Counts run(const Exchange& e) {
  const Counts before = statistics::sums();
  std::vector<Ring> rings(e.threads);
  std::atomic<unsigned> at_work{e.threads}, ready{0};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < e.threads; id++)
    threads.emplace_back([&, id] {
      test::my_cache();
      for (ready++; ready != e.threads;) std::this_thread::yield();
      take_part(e, id, rings, at_work);
    });
  for (std::thread& thread : threads) thread.join();
  Counts counts = statistics::sums();
  for (unsigned i = 0; i < counts.size(); i++) counts[i] -= before[i];
  return counts;
}

class RemoteAtomics : public testing::TestWithParam<Exchange> {};

// The part of the whole that each step has; a lock is two atomic operations.
std::string parts(const Counts& c) {
  using namespace statistics;
  std::ostringstream text;
  text << std::fixed << std::setprecision(3);
  const auto part = [&](const char* name, uint64_t n) {
    text << name << static_cast<double>(n) / static_cast<double>(c[kRemote]);
  };
  part("inboxes: pushed ", c[kExchanges]);
  part(" taken ", c[kInboxTakes]);
  part("; depot: put ", 2 * c[kDepotPuts]);
  part(" refused ", 2 * c[kDepotRefusals]);
  part(" taken ", 2 * c[kDepotTakes]);
  part(" missed ", 2 * c[kDepotMisses]);
  part(" idle ", 2 * c[kDepotIdle]);
  part("; central ", 2 * c[kCentralPuts]);
  part("; budget ", c[kBudgetChanges]);
  part("; contended locks ", c[kLockRetries]);
  part("; with all other locks ", atomics_of_all(c));
  return text.str();
}

TEST_P(RemoteAtomics, AreFewerThanTheBound) {
  const Exchange& e = GetParam();
  if (e.threads > kShards) GTEST_SKIP() << "not a shard for each thread";
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "takes minutes, and counts nothing else";
#endif
  const Counts c = run(e);
  using namespace statistics;
  const double blocks = static_cast<double>(c[kRemote]);
  const double each = static_cast<double>(atomics_on_remote(c)) / blocks;
  printf(
      "%2u owners, %2u %% remote, 16..%zu bytes: %zu remote blocks, %.0f %% kept, %.0f %% through a stash; atomics each %.3f "
      "(%s)\n",
      e.threads, e.remote_percent, e.most_bytes, c[kRemote], 100 * static_cast<double>(c[kKept]) / blocks,
      100 * static_cast<double>(c[kStashed]) / blocks, each, parts(c).c_str());
  EXPECT_GT(c[kRemote], uint64_t{e.threads} * e.steps / 2 * e.remote_percent / 100 / 2)
      << "most of the frees were to be remote";
  EXPECT_LE(c[kKept], c[kRemote]);
  EXPECT_LE(c[kHandOvers], c[kExchanges]);
  EXPECT_LE(c[kHandOvers], c[kStashed]);
  EXPECT_LE(c[kInboxTakes], c[kHandOvers]);
  EXPECT_LE(atomics_on_remote(c), atomics_of_all(c));
  EXPECT_LT(each, e.bound);
  EXPECT_NOTHING_LOST();
}

// Lists of blocks of many KiB are of two or three, so that each block has a good part of two locks on its way through the
// depot.
constexpr size_t kSmall = 2048, kMixed = 32768;
INSTANTIATE_TEST_SUITE_P(, RemoteAtomics,
                         testing::Values(Exchange{8, 50, 500000, kSmall, 0.25}, Exchange{8, 90, 500000, kSmall, 0.25},
                                         Exchange{32, 50, 200000, kSmall, 0.25}, Exchange{32, 90, 200000, kSmall, 0.25},
                                         Exchange{8, 50, 200000, kMixed, 4}, Exchange{8, 90, 200000, kMixed, 4},
                                         Exchange{32, 50, 60000, kMixed, 4}, Exchange{32, 90, 60000, kMixed, 4}),
                         [](const testing::TestParamInfo<Exchange>& info) {
                           const Exchange& e = info.param;
                           return std::to_string(e.threads) + "Owners" + std::to_string(e.remote_percent) + "Percent" +
                                  (e.most_bytes == kSmall ? "Small" : "Mixed");
                         });

}  // namespace
}  // namespace hz3
