// For tests/bench/plugins/trace_recorder.cpp: the threads' buffers, and the file that they go to.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "tests/bench/trace.hpp"
#include "tests/bench/trace_large.hpp"

namespace bench::trace {

inline int file = -1, statm = -1;
inline pid_t owner;
inline uint64_t most_events;
inline std::atomic<bool> recording;
inline std::atomic<uint64_t> next_event;
inline std::atomic<uint32_t> next_thread, flags;
inline uint32_t chunks;  // written, as are the events; by whom has `writing` in flush()
inline uint64_t events_written;

// Shared memory: it is not anonymous memory of the program's, and so not counted as such.
struct Buffer {
  std::atomic<Buffer*> after;  // in the list of all
  std::atomic<bool> taken;
  std::atomic<bool> busy;  // its thread is in record()
  uint64_t grown;          // bytes that its thread allocated since the last sample
  ChunkHeader header;
  Encoder encoder;
  uint8_t data[kChunkBytes];
};
inline std::atomic<Buffer*> buffers;
inline pthread_key_t end_of_thread;
[[gnu::tls_model("initial-exec")]] inline thread_local Buffer* mine;
[[gnu::tls_model("initial-exec")]] inline thread_local bool passing;  // what is called now is not to be recorded

inline uint64_t anonymous_kib() {
  char text[128];
  const ssize_t length = pread(statm, text, sizeof text - 1, 0);
  if (length <= 0) return 0;
  text[length] = '\0';
  char* end = text;
  strtoull(end, &end, 10);
  const uint64_t resident = strtoull(end, &end, 10), shared = strtoull(end, &end, 10);
  return (resident - shared) * 4;
}

inline void empty(Buffer* buffer, uint64_t next) {
  buffer->encoder = Encoder{buffer->data, next, 0};
  buffer->header.first = next;
  buffer->header.events = 0;
}

inline void stop(uint32_t why) {
  flags.fetch_or(why);
  recording.store(false);
}

// What does not go onto the disk as a whole is taken back, and the recording ends: what follows could not be read.
inline void flush(Buffer* buffer) {
  ChunkHeader& header = buffer->header;
  if (header.events == 0) return;
  header.magic = kChunk;
  header.bytes = static_cast<uint32_t>(buffer->encoder.at - buffer->data);
  header.checksum = checksum_of(header, buffer->data);
  const iovec parts[] = {{&header, sizeof header}, {buffer->data, header.bytes}};
  static std::atomic_flag writing;
  while (writing.test_and_set(std::memory_order_acquire)) sched_yield();  // pairs with the clear below
  const off_t before = lseek(file, 0, SEEK_END);
  if (writev(file, parts, 2) == static_cast<ssize_t>(sizeof header + header.bytes)) {
    chunks++;
    events_written += header.events;
  } else {
    stop(kCutOff);
    if (ftruncate(file, before) != 0) _exit(125);
  }
  writing.clear(std::memory_order_release);
  empty(buffer, buffer->encoder.next);
}

// A buffer for this thread: one that an ended thread left, or a new one.
inline Buffer* attach() {
  if (file < 0 || passing) return nullptr;
  passing = true;
  Buffer* buffer = buffers.load();
  for (; buffer != nullptr; buffer = buffer->after.load()) {
    bool free = false;
    if (buffer->taken.compare_exchange_strong(free, true)) break;
  }
  if (buffer == nullptr) {
    void* memory = mmap(nullptr, sizeof(Buffer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) {
      buffer = new (memory) Buffer;
      buffer->taken.store(true);
      Buffer* first = buffers.load();
      do buffer->after.store(first);
      while (!buffers.compare_exchange_weak(first, buffer));
    }
  }
  if (buffer != nullptr) {
    buffer->header.thread = next_thread.fetch_add(1);
    empty(buffer, 0);
    pthread_setspecific(end_of_thread, buffer);
  }
  passing = false;
  mine = buffer;
  return buffer;
}

template <class Write>
void put(Buffer* buffer, uint8_t operation, Write write) {
  const uint64_t sequence = next_event.fetch_add(1, std::memory_order_seq_cst);
  if (sequence >= most_events) return stop(kCutOff);
  if (buffer->header.events++ == 0) buffer->header.first = buffer->encoder.next = sequence;
  buffer->encoder.begin(operation, sequence);
  write(buffer->encoder);
}

inline void put_sample(Buffer* buffer) {
  buffer->grown = 0;
  put(buffer, kMore, [](Encoder& out) {
    out.byte(kSample);
    out.number(anonymous_kib());
  });
}

// Every event goes through here; by `grown` bytes the program has grown. finish() clears `recording` and then waits until no
// buffer is busy.
template <class Write>
void record(uint8_t operation, Write write, uint64_t grown = 0) {
  if (!recording.load(std::memory_order_relaxed)) return;
  Buffer* buffer = mine != nullptr ? mine : attach();
  if (buffer == nullptr) return;
  buffer->busy.store(true, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // pairs with the membarrier of finish()
  if (recording.load(std::memory_order_acquire)) {
    put(buffer, operation, write);
    const bool full = buffer->encoder.at + 2 * kEventBytes > buffer->data + kChunkBytes;
    buffer->grown += grown;
    if (full || buffer->grown >= kSampleBytes) {
      const int saved = errno;
      put_sample(buffer);
      if (full) flush(buffer);
      errno = saved;
    }
  }
  buffer->busy.store(false, std::memory_order_release);
}

inline void detach(void* buffer) {
  record(kMore, [](Encoder& out) { out.byte(kThreadEnd); });
  auto* const left = static_cast<Buffer*>(buffer);
  left->busy.store(true);
  if (recording.load()) flush(left);
  left->busy.store(false);
  mine = nullptr;
  left->taken.store(false);
}

inline void put_living(Buffer* buffer) {
  for (Large& each : large) {
    const uint64_t address = each.address.load();
    if (address == 0) continue;
    if (buffer->encoder.at + 2 * kEventBytes > buffer->data + kChunkBytes) flush(buffer);
    put(buffer, kMore, [&](Encoder& out) {
      out.byte(kTouched);
      out.pointer(address);
      out.number(resident_pages(address, each.bytes.load()) + 1);
    });
  }
}

inline void finish() {
  static std::atomic_flag finished;
  // A child of vfork() has this memory, too.
  if (file < 0 || getpid() != owner || finished.test_and_set()) return;
  const bool whole = recording.exchange(false);
  Buffer* own = mine != nullptr ? mine : attach();
  syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  for (Buffer* each = buffers.load(); each != nullptr; each = each->after.load())
    while (each->busy.load(std::memory_order_acquire)) sched_yield();
  if (own != nullptr && whole) {
    put_sample(own);
    put_living(own);
  }
  for (Buffer* each = buffers.load(); each != nullptr; each = each->after.load()) flush(each);
  const ChunkHeader last{kLast, flags.load(), events_written, chunks, 0, 0, 0};
  if (write(file, &last, sizeof last) != sizeof last) close(file);  // then it is a recording without an end
}

}  // namespace bench::trace
