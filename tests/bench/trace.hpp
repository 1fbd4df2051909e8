// The file that a recording makes: tests/bench/plugins/trace_recorder.cpp writes it, trace_reader.hpp reads it. Little-endian.
//
//   FileHeader
//   chunks: ChunkHeader, then `bytes` bytes of events of one thread, in their order
//   a ChunkHeader with kLast in place of kChunk: the file is complete
//
// An event is a byte, the operation in its low three bits, and numbers in base 128 (varints). Above the operation stands how
// many events of other threads lie between the one before in this chunk and this one, 31 for a number that follows.
// Addresses are differences to the address before, in 16 bytes where that is possible.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace bench::trace {

enum Operation : uint8_t {
  kReallocBegin = 0,  // address, touched. kReallocEnd of the same thread follows
  kMalloc = 1,        // bytes, address
  kCalloc = 2,        // bytes, address
  kAligned = 3,       // logarithm of the alignment, bytes, address
  kFree = 4,          // address
  kFreeLarge = 5,     // address, touched
  kReallocEnd = 6,    // bytes (0: it failed), address
  kMore = 7,          // one of the below
};
enum More : uint8_t {
  kSample = 1,     // anonymous memory of the process that is resident, in KiB
  kThreadEnd = 2,  // nothing
  kTouched = 3,    // address, touched: of a large block that lives at the end
};
// `touched` is how many pages of a large block were resident when its life ended, plus one; 0 if that is not known.

inline constexpr char kMagic[8] = {'h', 'z', '3', 't', 'r', 'a', 'c', 'e'};
inline constexpr uint32_t kVersion = 2, kChunk = 0x6b6e6863, kLast = 0x7473616c;
inline constexpr uint32_t kCutOff = 1, kKilled = 2;  // flags of kLast
inline constexpr size_t kLargeBytes = 16384;         // blocks of which it is recorded how much of them was touched
inline constexpr size_t kChunkBytes = 64 << 10;      // events of a chunk, at most
inline constexpr uint64_t kSampleBytes = 4 << 20;    // that a thread allocates between two samples of its process, at most
inline constexpr size_t kEventBytes = 64;            // of one event, at most

struct FileHeader {
  char magic[8];
  uint32_t version, unused;
  uint64_t base_kib;   // anonymous memory that was resident before the program began
  char allocator[40];  // the file name of the library whose malloc it was
};
static_assert(sizeof(FileHeader) == 64);

struct ChunkHeader {
  uint32_t magic;
  uint32_t thread;  // a number of its own for each thread that there was; of kLast: flags
  uint64_t first;   // the number of the first event in the order of all; of kLast: how many events there are
  uint32_t events;  // of kLast: how many chunks there are
  uint32_t bytes;
  uint32_t checksum;  // of this, with a checksum of 0, and of the events
  uint32_t unused;
};
static_assert(sizeof(ChunkHeader) == 32);

inline uint32_t checksum_of(const void* data, size_t bytes, uint32_t before = 0) {
  uint64_t sum = before ^ 0xcbf29ce484222325u;
  const char* at = static_cast<const char*>(data);
  for (; bytes > 0; at += 8) {
    uint64_t word = 0;
    const size_t part = bytes < 8 ? bytes : 8;
    memcpy(&word, at, part);
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    sum ^= sum >> 29;
    bytes -= part;
  }
  return static_cast<uint32_t>(sum ^ (sum >> 32));
}

inline uint32_t checksum_of(ChunkHeader header, const void* events) {
  header.checksum = 0;
  return checksum_of(events, header.bytes, checksum_of(&header, sizeof header));
}

// Writes the events of a chunk. The caller sees to it that there is room for kEventBytes more.
struct Encoder {
  uint8_t* at;
  uint64_t next;     // the number that an event has if no other thread's is in between
  uint64_t address;  // the one before

  void byte(uint64_t value) { *at++ = static_cast<uint8_t>(value); }
  void number(uint64_t value) {
    for (; value >= 128; value >>= 7) byte(value | 128);
    byte(value);
  }
  void begin(uint8_t operation, uint64_t sequence) {
    const uint64_t gap = sequence - next;
    byte(operation | (gap < 31 ? gap : 31) << 3);
    if (gap >= 31) number(gap);
    next = sequence + 1;
  }
  // In the lowest bit: whether it is a multiple of 16; then the sign.
  void pointer(uint64_t value) {
    const auto difference = static_cast<int64_t>(value - address);
    const uint64_t size = difference < 0 ? -static_cast<uint64_t>(difference) : static_cast<uint64_t>(difference);
    const bool round = size % 16 == 0;
    number((round ? size / 16 : size) << 2 | uint64_t{difference < 0} << 1 | uint64_t{!round});
    address = value;
  }
};

// Reads what Encoder wrote. Past the end it reads zeros, and `bad` is set.
struct Decoder {
  const uint8_t *at, *end;
  uint64_t next, address;
  bool bad = false;

  uint8_t byte() {
    if (at == end) bad = true;
    return bad ? uint8_t{0} : *at++;
  }
  uint64_t number() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t part = byte();
      value |= uint64_t{part & 127u} << shift;
      if (part < 128) return value;
    }
    bad = true;
    return 0;
  }
  uint8_t begin(uint64_t* sequence) {
    const uint8_t tag = byte();
    const uint64_t gap = tag >> 3;
    *sequence = next + (gap < 31 ? gap : number());
    next = *sequence + 1;
    return tag & 7;
  }
  uint64_t pointer() {
    const uint64_t coded = number();
    const uint64_t size = (coded >> 2) * ((coded & 1) != 0 ? 1 : 16);
    address += (coded & 2) != 0 ? -size : size;
    return address;
  }
};

}  // namespace bench::trace
