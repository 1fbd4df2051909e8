// realloc_growth threads buffers
//
// Buffers grow by half from 32 bytes to a random size of up to 256 KiB, are written to as they grow, and end. Sixteen of them
// grow in turns, so that what lies behind a block is rarely free. An operation is a realloc or a free; the content of a buffer
// is checked at its end.
#include "bench.hpp"

namespace {

constexpr unsigned kTogether = 16;

struct Buffer {
  unsigned char* data;
  size_t bytes, end, filled;
};

void begin(Buffer& buffer, bench::Random& random) {
  // As many small ones as large ones: the exponent is what is random.
  const unsigned exponent = random.within(7, 18);
  buffer = {nullptr, 0, (size_t{1} << exponent) - random.below(1u << (exponent - 1)), 0};
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(argc, argv,
                                   "text, log lines and JSON that are put together piece by piece in buffers that grow by half",
                                   {{"threads", 1, 1, 4096}, {"buffers", 80'000, 1, 1'000'000'000}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  const uint64_t wanted = arguments[1];
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);

  bench::in_threads(threads, [&](unsigned id) {
    bench::Random random(id + 1);
    Buffer buffers[kTogether];
    for (Buffer& buffer : buffers) begin(buffer, random);
    uint64_t ended = 0, ops = 0;
    barrier.wait();
    laps[id].begin = bench::now();
    while (ended < wanted) {
      Buffer& buffer = buffers[random.below(kTogether)];
      const auto mark = static_cast<unsigned char>(buffer.end);
      if (buffer.bytes < buffer.end) {
        buffer.bytes = buffer.bytes == 0 ? 32 : buffer.bytes + buffer.bytes / 2;
        buffer.data = static_cast<unsigned char*>(bench::must(realloc(buffer.data, buffer.bytes), buffer.bytes));
        memset(buffer.data + buffer.filled, mark, buffer.bytes - buffer.filled);
        buffer.filled = buffer.bytes;
      } else {
        for (size_t at = 0; at < buffer.filled; at += 509)
          if (buffer.data[at] != mark) bench::die(bench::kFailed, "realloc lost byte %zu of %zu", at, buffer.filled);
        free(buffer.data);
        begin(buffer, random);
        ended++;
      }
      ops++;
    }
    laps[id].end = bench::now();
    laps[id].ops = ops;
    for (Buffer& buffer : buffers) free(buffer.data);
  });
  bench::report(laps, threads);
}
