// pipeline stages items
//
// The first stage allocates items with the sizes of an application; each further one takes them from the stage before,
// allocates its own version of each and frees the one that came; the last one frees only. Every free is a remote one, and the
// stages' threads allocate and free as much as each other but for the first and the last, which only do one of both: without
// a way back for memory the first would take ever more. An operation is a malloc or a free.
#include <new>

#include "channel.hpp"

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "a data pipeline (read, parse, transform, write): each stage frees what the stage before it allocated",
      {{"stages", 4, 2, 1024}, {"items", 1'000'000, 1, 1'000'000'000}});
  const auto stages = static_cast<unsigned>(arguments[0]);
  const uint64_t items = arguments[1];
  bench::require_preload();
  auto* channels = bench::table<bench::Channel>(stages);
  for (unsigned i = 0; i < stages; ++i) new (&channels[i]) bench::Channel;
  auto* laps = bench::table<bench::Lap>(stages);
  bench::Barrier barrier(stages);

  bench::in_threads(stages, [&](unsigned id) {
    bench::Random random(id + 1);
    const auto make = [&random] {
      const size_t bytes = bench::app_size(random);
      void* block = bench::take(bytes);
      *static_cast<volatile char*>(block) = 1;
      return block;
    };
    bench::Channel& out = channels[id];
    uint64_t ops = 0;
    barrier.wait();
    laps[id].begin = bench::now();
    if (id == 0) {
      bench::Channel::Parcel parcel{};
      for (uint64_t i = 0; i < items; ++i) {
        parcel.blocks[parcel.count++] = make();
        if (parcel.count < bench::Channel::kParcel && i + 1 < items) continue;
        out.send(parcel);
        parcel.count = 0;
      }
      ops = items;
      out.send(parcel);
    } else {
      for (;;) {
        bench::Channel::Parcel parcel = channels[id - 1].receive();
        for (unsigned i = 0; i < parcel.count; ++i) {
          void* const old = parcel.blocks[i];
          if (id + 1 < stages) parcel.blocks[i] = make();
          free(old);
        }
        ops += parcel.count * (id + 1 < stages ? 2 : 1);
        if (id + 1 < stages) out.send(parcel);
        if (parcel.count == 0) break;
      }
    }
    laps[id].end = bench::now();
    laps[id].ops = ops;
  });
  bench::report(laps, stages);
}
