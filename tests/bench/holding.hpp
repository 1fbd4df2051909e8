// What the program `memory` is made of: blocks that are held, and the record of how much memory that took.
#pragma once

#include <atomic>

#include "bench.hpp"

namespace bench {

// Resident memory of this process, read without allocating. The kernel's own count: right to some hundred KiB.
class Resident {
 public:
  Resident() : fd_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) {}
  double mib() const {
    char text[128];
    const ssize_t length = pread(fd_, text, sizeof text - 1, 0);
    if (length <= 0) die(kFailed, "/proc/self/statm cannot be read");
    text[length] = '\0';
    const char* second = strchr(text, ' ');
    return static_cast<double>(strtoull(second, nullptr, 10)) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
  }

 private:
  int fd_;
};

// A table whose pages are all in memory from the start, so that what the program itself needs does not change.
template <class T>
T* resident_table(size_t count) {
  T* const found = table<T>(count);
  memset(static_cast<void*>(found), 0, count * sizeof(T));
  return found;
}

// Resident memory and live bytes over the run. What a run looks like must not depend on the speed of the machine, so the points
// are parts of a phase's work; of a phase that waits, they are seconds. It is printed in the end: nothing is written before.
class Record {
 public:
  Record() : samples_(resident_table<Sample>(kMost)) {}

  // Of the whole program's blocks, in bytes; several threads may change it.
  std::atomic<int64_t> live{0};

  // What is resident at the first one, tables included, is in no figure.
  void begin(const char* phase) {
    if (count_ == 0) base_ = resident_.mib();
    phase_ = phase;
    next_ = 1;
    look(0);
  }
  // To be called often, with what part of the phase is done; in the end, that all of it is.
  void done(uint64_t part, uint64_t whole) {
    if (part * kLooks < next_ * whole) return;
    look(static_cast<double>(part) / static_cast<double>(whole));
    next_ = part * kLooks / whole + 1;
  }
  // For `milliseconds`, in which each 5 a few small blocks come and go, or nothing at all happens. The rounds are counted, too,
  // so that a machine which is busy elsewhere does not make it less.
  void idle(uint64_t milliseconds, bool ticks) {
    begin("idle");
    const double start = now();
    for (uint64_t round = 0; round < milliseconds / 5 || (now() - start) * 1000 < static_cast<double>(milliseconds); ++round) {
      for (size_t bytes = 40; ticks && bytes < 140; ++bytes) free(take(bytes));
      usleep(5000);
      if (round % 5 == 0) look(now() - start);
    }
    look(now() - start);
    idle_seconds_ += now() - start;
  }
  double idle_seconds() const { return idle_seconds_; }

  // A line for each sample: phase, point, live MiB, resident MiB; then the figures.
  void print(const char* scenario) const {
    double peak = 0, most_live = 0;
    for (unsigned i = 0; i < count_; ++i) {
      const Sample& s = samples_[i];
      printf("[SAMPLE] %s %.3f %.2f %.2f\n", s.phase, s.at, s.live_mib, s.rss_mib);
      peak = s.rss_mib > peak ? s.rss_mib : peak;
      most_live = s.live_mib > most_live ? s.live_mib : most_live;
    }
    const Sample& last = samples_[count_ - 1];
    printf("[MEMORY] scenario=%s end=%.2f peak=%.2f live=%.2f most_live=%.2f\n", scenario, last.rss_mib, peak, last.live_mib,
           most_live);
  }

 private:
  struct Sample {
    const char* phase;
    double at, live_mib, rss_mib;
  };
  static constexpr unsigned kMost = 20'000;
  static constexpr uint64_t kLooks = 60;  // in a phase

  void look(double at) {
    if (count_ == kMost) return;  // an idle time of minutes: the rest of it is not looked at
    const double live_mib = static_cast<double>(live.load(std::memory_order_relaxed)) / (1 << 20);
    samples_[count_++] = {phase_, at, live_mib, resident_.mib() - base_};
  }

  Resident resident_;
  Sample* samples_;
  unsigned count_ = 0;
  double base_ = 0, idle_seconds_ = 0;
  const char* phase_ = "";
  uint64_t next_ = 0;
};

// Blocks in numbered places, of one thread.
class Held {
 public:
  Held(Record& record, size_t places, uint64_t seed)
      : random(seed), record_(record), blocks_(resident_table<Block>(places)), places_(places) {}

  Random random;
  std::atomic<uint64_t> ops{0};

  uint32_t count() const { return count_; }
  bool is_empty(uint32_t place) const { return blocks_[place].data == nullptr; }
  void put(uint32_t place, uint32_t bytes) {
    Block& block = blocks_[place];
    block = {take(bytes), bytes};
    // Each of its pages, the last one included.
    touch_pages(block.data, bytes);
    static_cast<volatile char*>(block.data)[bytes - 1] = 1;
    record_.live.fetch_add(bytes, std::memory_order_relaxed);
    ops.fetch_add(1, std::memory_order_relaxed);
  }
  void add(uint32_t bytes) {
    if (count_ == places_) die(kFailed, "more blocks than the table has places");
    put(count_++, bytes);
  }
  void drop(uint32_t place) {
    Block& block = blocks_[place];
    if (block.data == nullptr) return;
    free(block.data);
    record_.live.fetch_sub(block.bytes, std::memory_order_relaxed);
    block.data = nullptr;
    ops.fetch_add(1, std::memory_order_relaxed);
  }
  void drop_all() {
    while (count_ > 0) drop(--count_);
  }

 private:
  struct Block {
    void* data;
    uint32_t bytes;
  };
  Record& record_;
  Block* blocks_;
  size_t places_;
  uint32_t count_ = 0;
};

}  // namespace bench
