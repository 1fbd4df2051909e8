// neighbours threads steps least most writes
//
// Each thread has 400 live blocks. A step replaces one of them by a new one of `least` to `most` bytes; half of the replaced
// blocks are freed by another thread, which finds them in its mailbox. Then `writes` live blocks are written to. An allocator
// that gives a block to whichever thread freed it puts blocks of several threads on one cache line, which then wanders between
// processors with each write; one that sends blocks home pays with each free. An operation is a step.
#include <atomic>

#include "bench.hpp"

namespace {

constexpr unsigned kLive = 400;

struct Mailbox {
  static constexpr unsigned kSlots = 1024;
  std::atomic<void*> slots[kSlots];
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "actors that hand small objects to each other and go on writing to theirs: do neighbours share cache lines?",
      {{"threads", 2, 2, 1024},
       {"steps", 1'000'000, 1, 1'000'000'000},
       {"least", 16, 16, 1 << 20},
       {"most", 48, 16, 1 << 20},
       {"writes", 16, 0, 1 << 20}});
  const auto threads = static_cast<uint32_t>(arguments[0]);
  const uint64_t steps = arguments[1], writes = arguments[4];
  const auto least = static_cast<uint32_t>(arguments[2]), most = static_cast<uint32_t>(arguments[3]);
  if (least > most) bench::die(bench::kUsage, "least %u is above most %u", least, most);
  bench::require_preload();
  auto* mailboxes = bench::table<Mailbox>(threads);
  auto* tables = bench::table<char* [kLive]>(threads);
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);

  bench::in_threads(threads, [&](unsigned id) {
    bench::Random random(id + 1);
    char** const live = tables[id];
    const auto make = [&] {
      const uint32_t bytes = random.within(least, most);
      char* const block = static_cast<char*>(bench::take(bytes));
      block[0] = block[bytes - 1] = 1;
      return block;
    };
    for (unsigned i = 0; i < kLive; ++i) live[i] = make();
    barrier.wait();
    laps[id].begin = bench::now();
    for (uint64_t step = 0; step < steps; ++step) {
      char*& replaced = live[random.below(kLive)];
      void* to_free = replaced;
      if (random.below(2) == 0) {
        Mailbox& other = mailboxes[(id + 1 + random.below(threads - 1)) % threads];
        to_free = other.slots[random.below(Mailbox::kSlots)].exchange(to_free, std::memory_order_acq_rel);
      }
      free(to_free);
      free(mailboxes[id].slots[step % Mailbox::kSlots].exchange(nullptr, std::memory_order_acq_rel));
      replaced = make();
      for (uint64_t i = 0; i < writes; ++i) {
        auto* const word = reinterpret_cast<volatile uint64_t*>(live[random.below(kLive)] + sizeof(uint64_t));
        *word = *word + 1;
      }
    }
    laps[id].end = bench::now();
    laps[id].ops = steps;
    barrier.wait();
    for (auto& slot : mailboxes[id].slots) free(slot.exchange(nullptr, std::memory_order_acq_rel));
    for (unsigned i = 0; i < kLive; ++i) free(live[i]);
  });
  bench::report(laps, threads);
}
