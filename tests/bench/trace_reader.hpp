// Reads a recorded trace (trace.hpp) and makes steps of it, which can be done again. Nothing here calls malloc.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "bench.hpp"
#include "trace.hpp"

namespace bench::trace {

// Of a step, beside kMalloc, kCalloc, kAligned, kFree and kReallocEnd.
inline constexpr uint8_t kSampleStep = 8, kEndStep = 9;
inline constexpr unsigned kMostThreads = 64;  // of a replay
inline constexpr uint32_t kNone = UINT32_MAX;

// `block` is a number that no two blocks of a trace have in common. kReallocEnd names the block that was in `other`.
struct Step {
  uint32_t block, other;
  uint64_t bytes;    // of kSampleStep: KiB
  uint32_t touched;  // pages of the block that the program wrote to, plus one; 0: not known
  uint16_t thread;   // of the replay
  uint8_t operation;
  uint8_t alignment;  // its logarithm; of kAligned
};
static_assert(sizeof(Step) == 24);

struct Trace {
  const char* path;
  FileHeader header;
  uint32_t flags;  // of kLast
  uint64_t events, file_bytes;
  Step* steps;
  size_t count;
  uint32_t blocks, threads, recorded_threads;
  uint64_t mallocs, reallocs, frees, remote_frees, samples;
  uint64_t live_bytes, peak_bytes, peak_kib;  // as asked for; at the end, at most; of resident memory, above the base
};

// Memory that is given back.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t count) : count_(count), memory_(table<T>(count)) {}
  ~Scratch() { munmap(memory_, count_ * sizeof(T) + 1); }
  Scratch(const Scratch&) = delete;
  T& operator[](size_t index) const { return memory_[index]; }
  void swap(Scratch& other) {
    const size_t count = count_;
    T* const memory = memory_;
    count_ = other.count_;
    memory_ = other.memory_;
    other.count_ = count;
    other.memory_ = memory;
  }

 private:
  size_t count_;
  T* memory_;
};

// The number of the block at an address: linear probing, without tombstones.
class Addresses {
 public:
  void put(uint64_t address, uint32_t block) {
    if (2 * ++used_ > size_) grow();
    size_t at = home(address);
    while (entries_[at].address != 0) at = (at + 1) % size_;
    entries_[at] = {address, block};
  }
  // kNone if there is none.
  uint32_t take(uint64_t address) {
    size_t at = home(address);
    for (; entries_[at].address != address; at = (at + 1) % size_)
      if (entries_[at].address == 0) return kNone;
    const uint32_t block = entries_[at].block;
    used_--;
    // What was pushed beyond this place moves up.
    for (size_t next = (at + 1) % size_; entries_[next].address != 0; next = (next + 1) % size_) {
      const size_t wanted = home(entries_[next].address);
      if ((next - wanted) % size_ < (next - at) % size_) continue;
      entries_[at] = entries_[next];
      at = next;
    }
    entries_[at] = {};
    return block;
  }
  uint32_t find(uint64_t address) const {
    for (size_t at = home(address); entries_[at].address != 0; at = (at + 1) % size_)
      if (entries_[at].address == address) return entries_[at].block;
    return kNone;
  }

 private:
  struct Entry {
    uint64_t address;
    uint32_t block;
  };
  size_t home(uint64_t address) const { return (address >> 4) * 0x9e3779b97f4a7c15u >> 20 & (size_ - 1); }
  void grow() {
    Scratch<Entry> larger(2 * size_);
    entries_.swap(larger);
    size_ *= 2;
    for (size_t i = 0; i < size_ / 2; ++i) {
      if (larger[i].address == 0) continue;
      size_t at = home(larger[i].address);
      while (entries_[at].address != 0) at = (at + 1) % size_;
      entries_[at] = larger[i];
    }
  }

  size_t size_ = 1 << 12, used_ = 0;
  Scratch<Entry> entries_{1 << 12};
};

// The threads of a replay: whoever starts gets the place of one that ended. Beyond kMostThreads at a time they share places;
// each step waits for earlier ones alone, so that no two can wait for each other.
class Places {
 public:
  explicit Places(uint32_t recorded) : of_(recorded) {}
  uint16_t of(uint32_t thread) {
    if (of_[thread] == 0) {
      unsigned place = 0;
      while (place < kMostThreads && users_[place] != 0) place++;
      if (place == kMostThreads) place = next_shared_++ % kMostThreads;
      users_[place]++;
      of_[thread] = static_cast<uint16_t>(place + 1);
      if (place >= count) count = place + 1;
    }
    return static_cast<uint16_t>(of_[thread] - 1);
  }
  // Whether the place is free now.
  bool leave(uint32_t thread) { return --users_[of_[thread] - 1] == 0; }

  uint32_t count = 1;

 private:
  Scratch<uint16_t> of_;
  uint32_t users_[kMostThreads] = {};
  unsigned next_shared_ = 0;
};

// An event as it was recorded, at its place in the order of all.
struct Event {
  uint64_t address, bytes;
  uint32_t thread, touched;
  uint8_t operation, more, alignment, known;
};

[[noreturn]] inline void broken(const Trace& trace, const char* what) { die(kUsage, "'%s': %s", trace.path, what); }

// Calls see(header, events) for every chunk, in the order of the file; it is whole, or the program ends with a line that says
// how it is not.
template <class See>
void for_chunks(Trace& trace, const uint8_t* file, See see) {
  uint64_t at = sizeof(FileHeader), events = 0;
  for (uint32_t chunks = 0;; ++chunks) {
    ChunkHeader header;
    if (trace.file_bytes - at < sizeof header) broken(trace, "the trace is truncated: it has no end");
    memcpy(&header, file + at, sizeof header);
    at += sizeof header;
    if (header.magic == kLast) {
      if (header.first != events || header.events != chunks || at != trace.file_bytes)
        broken(trace, "the trace is corrupt: its end does not fit the rest");
      trace.flags = header.thread;
      trace.events = events;
      return;
    }
    if (header.magic != kChunk || header.bytes > kChunkBytes || header.thread >= 1u << 24 || header.first >= kNone)
      broken(trace, "the trace is corrupt: what should be a chunk is none");
    if (trace.file_bytes - at < header.bytes) broken(trace, "the trace is truncated: a chunk is cut off");
    if (header.checksum != checksum_of(header, file + at)) broken(trace, "the trace is corrupt: a chunk has another checksum");
    see(header, file + at);
    at += header.bytes;
    events += header.events;
  }
}

inline void read_event(Decoder& in, Event& event) {
  switch (event.operation) {
    case kAligned:
      event.alignment = in.byte() & 63;
      [[fallthrough]];
    case kMalloc:
    case kCalloc:
    case kReallocEnd:
      event.bytes = in.number();
      event.address = in.pointer();
      return;
    case kFree:
      event.address = in.pointer();
      return;
    case kFreeLarge:
    case kReallocBegin:
      event.address = in.pointer();
      event.touched = static_cast<uint32_t>(in.number());
      return;
    default:
      event.more = in.byte();
      if (event.more == kSample) event.bytes = in.number();
      if (event.more == kTouched) {
        event.address = in.pointer();
        event.touched = static_cast<uint32_t>(in.number());
      }
      if (event.more < kSample || event.more > kTouched) in.bad = true;
  }
}

inline void read_chunk(const Trace& trace, const ChunkHeader& header, const uint8_t* from, const Scratch<Event>& events,
                       uint64_t most) {
  Decoder in{from, from + header.bytes, header.first, 0};
  for (uint32_t i = 0; i < header.events; ++i) {
    Event event{};
    uint64_t sequence;
    event.operation = in.begin(&sequence);
    event.thread = header.thread;
    event.known = 1;
    read_event(in, event);
    if (in.bad || sequence >= most || events[sequence].known != 0)
      broken(trace, "the trace is corrupt: an event makes no sense");
    events[sequence] = event;
  }
  if (in.at != in.end) broken(trace, "the trace is corrupt: a chunk has more than its events");
}

// Makes steps of events, one after the other.
class Maker {
 public:
  Maker(Trace& trace, uint64_t events, uint32_t threads)
      : trace_(trace), births_(events), owners_(events), sizes_(events), begun_(threads), places_(threads) {}

  void take(const Event& event) {
    switch (event.operation) {
      case kMalloc:
      case kCalloc:
      case kAligned:
        trace_.mallocs++;
        return begin(event, event.operation, kNone);
      case kReallocBegin:
        begun_[event.thread] = leave(event) + 1;
        return;
      case kReallocEnd:
        return end_realloc(event);
      case kFree:
      case kFreeLarge:
        return free(event);
      default:
        return more(event);
    }
  }
  void finish() {
    trace_.blocks = next_;
    trace_.threads = places_.count;
  }

 private:
  Step& add(const Event& event, uint8_t operation) {
    Step& step = trace_.steps[trace_.count++];
    step = {kNone, kNone, event.bytes, 0, places_.of(event.thread), operation, event.alignment};
    return step;
  }
  void begin(const Event& event, uint8_t operation, uint32_t other) {
    births_[next_] = static_cast<uint32_t>(trace_.count);
    owners_[next_] = event.thread;
    sizes_[next_] = event.bytes;
    Step& step = add(event, operation);
    step.block = next_;
    step.other = other;
    addresses_.take(event.address);  // a block whose end was not recorded
    addresses_.put(event.address, next_++);
    trace_.live_bytes += event.bytes;
    if (trace_.live_bytes > trace_.peak_bytes) trace_.peak_bytes = trace_.live_bytes;
  }
  // A block's life ends: its number, kNone if it began before the recording. Its size is still there.
  uint32_t leave(const Event& event) {
    const uint32_t block = addresses_.take(event.address);
    if (block == kNone) return block;
    trace_.steps[births_[block]].touched = event.touched;
    return block;
  }
  void end_realloc(const Event& event) {
    const uint32_t other = begun_[event.thread] - 1;
    begun_[event.thread] = 0;
    if (event.bytes == 0) {  // it failed
      if (other != kNone) addresses_.put(event.address, other);
      return;
    }
    trace_.reallocs++;
    if (other == kNone) return begin(event, kMalloc, kNone);
    trace_.live_bytes -= sizes_[other];
    begin(event, kReallocEnd, other);
  }
  void free(const Event& event) {
    const uint32_t block = leave(event);
    if (block == kNone) return;
    trace_.live_bytes -= sizes_[block];
    trace_.frees++;
    trace_.remote_frees += owners_[block] != event.thread;
    add(event, kFree).block = block;
  }
  void more(const Event& event) {
    if (event.more == kSample) {
      const uint64_t above = event.bytes > trace_.header.base_kib ? event.bytes - trace_.header.base_kib : 0;
      if (above > trace_.peak_kib) trace_.peak_kib = above;
      trace_.samples++;
      add(event, kSampleStep);
    } else if (event.more == kThreadEnd) {
      add(event, kEndStep);
      if (!places_.leave(event.thread)) trace_.count--;  // others go on there
    } else if (const uint32_t block = addresses_.find(event.address); block != kNone) {
      trace_.steps[births_[block]].touched = event.touched;
    }
  }

  Trace& trace_;
  Addresses addresses_;
  Scratch<uint32_t> births_, owners_;
  Scratch<uint64_t> sizes_;
  Scratch<uint32_t> begun_;  // of each thread, the block of a realloc that did not end yet, plus one
  Places places_;
  uint32_t next_ = 0;
};

inline const uint8_t* map_file(Trace& trace) {
  struct stat about {};
  const int fd = open(trace.path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &about) != 0) broken(trace, strerror(errno));
  if (!S_ISREG(about.st_mode)) broken(trace, "that is no file");
  trace.file_bytes = static_cast<uint64_t>(about.st_size);
  if (trace.file_bytes < sizeof(FileHeader)) broken(trace, trace.file_bytes == 0 ? "the trace is empty" : "that is no trace");
  void* memory = mmap(nullptr, trace.file_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) broken(trace, strerror(errno));
  close(fd);
  memcpy(&trace.header, memory, sizeof trace.header);
  if (memcmp(trace.header.magic, kMagic, sizeof kMagic) != 0) broken(trace, "that is no trace");
  if (trace.header.version != kVersion)
    die(kUsage, "'%s': a trace of version %u, not %u", trace.path, trace.header.version, kVersion);
  trace.header.allocator[sizeof trace.header.allocator - 1] = '\0';
  return static_cast<const uint8_t*>(memory);
}

inline Trace read(const char* path) {
  Trace trace{};
  trace.path = path;
  const uint8_t* const file = map_file(trace);
  uint64_t most = 0;
  uint32_t threads = 0;
  for_chunks(trace, file, [&](const ChunkHeader& header, const uint8_t*) {
    if (header.thread >= threads) threads = header.thread + 1;
  });
  // Numbers without an event are those of threads that were killed, of which each had a chunk at most.
  most = trace.events + (uint64_t{threads} + 1) * kChunkBytes;
  if (trace.events == 0) broken(trace, "nothing was allocated");
  if (most >= kNone) broken(trace, "the trace is too long");
  Scratch<Event> events(most);
  for_chunks(trace, file,
             [&](const ChunkHeader& header, const uint8_t* from) { read_chunk(trace, header, from, events, most); });
  munmap(const_cast<uint8_t*>(file), trace.file_bytes);
  trace.recorded_threads = threads;
  trace.steps = table<Step>(trace.events);
  Maker maker(trace, trace.events, threads);
  for (uint64_t i = 0; i < most; ++i)
    if (events[i].known != 0) maker.take(events[i]);
  maker.finish();
  if (trace.count == 0) broken(trace, "nothing was allocated");
  return trace;
}

}  // namespace bench::trace
