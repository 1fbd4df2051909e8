// thread_churn at_once rounds
//
// In each round `at_once` threads are born, allocate 200 blocks with the sizes of an application each, free every other one and
// end; whoever started them frees the rest. An operation is a malloc or a free; the birth of the thread is part of it, and so
// is what the allocator does for a thread's begin and end.
#include "bench.hpp"

namespace {

constexpr unsigned kBlocks = 200;

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(argc, argv, "a server that starts a thread for each request, and answers after it has ended",
                                   {{"at_once", 4, 1, 1024}, {"rounds", 2'000, 1, 100'000'000}});
  const auto at_once = static_cast<unsigned>(arguments[0]);
  const uint64_t rounds = arguments[1];
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(1);
  void** blocks = bench::table<void*>(size_t{at_once} * kBlocks);
  uint64_t round = 0;
  auto request = [&](unsigned id) {
    bench::Random random(round * at_once + id + 1);
    void** const mine = blocks + size_t{id} * kBlocks;
    for (unsigned i = 0; i < kBlocks; ++i) {
      mine[i] = bench::take(bench::app_size(random));
      *static_cast<volatile char*>(mine[i]) = 1;
    }
    for (unsigned i = 0; i < kBlocks; i += 2) free(mine[i]);
  };
  auto* threads = bench::table<bench::Thread<decltype(request)>>(at_once);
  laps->begin = bench::now();
  for (; round < rounds; ++round) {
    for (unsigned id = 0; id < at_once; ++id) {
      threads[id] = {&request, id, {}};
      threads[id].start();
    }
    for (unsigned id = 0; id < at_once; ++id) {
      threads[id].join();
      for (unsigned i = 1; i < kBlocks; i += 2) free(blocks[size_t{id} * kBlocks + i]);
    }
  }
  laps->end = bench::now();
  laps->ops = rounds * at_once * kBlocks * 2;
  bench::report(laps, 1);
}
