// Preloaded into a program, writes down what it allocates and frees: into the file HZ3_TRACE, at most HZ3_TRACE_MOST events.
// scripts/bench/trace.py does that and makes a trace of it. The blocks come from glibc, under the names that it exports for
// this. A child of fork is not recorded, and neither is what a program started by this one does.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>

#include "tests/bench/trace.hpp"

extern "C" {
void* __libc_malloc(size_t);
void __libc_free(void*);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

using bench::trace::Event;

Event* events;  // written before there is a second thread
uint64_t most_events;
std::atomic<uint64_t> next_event, next_thread;
__attribute__((tls_model("initial-exec"))) thread_local uint32_t thread_number;

void record(uint8_t operation, const void* block, size_t bytes, size_t alignment = 1) {
  if (events == nullptr || block == nullptr) return;
  if (thread_number == 0) thread_number = static_cast<uint32_t>(next_thread.fetch_add(1, std::memory_order_relaxed)) + 1;
  // The order of the events is that of these numbers.
  const uint64_t index = next_event.fetch_add(1, std::memory_order_seq_cst);
  if (index >= most_events) return;
  events[index] = Event{reinterpret_cast<uint64_t>(block),
                        bytes,
                        thread_number,
                        operation,
                        static_cast<uint8_t>(std::bit_width(alignment) - 1),
                        1,
                        0};
}

void* recorded(void* block, size_t bytes, size_t alignment = 1) {
  const int saved = errno;
  record(bench::trace::kMalloc, block, bytes, alignment);
  errno = saved;
  return block;
}

__attribute__((constructor)) void begin() {
  const char* path = getenv("HZ3_TRACE");
  const char* parent = getenv("HZ3_TRACE_PARENT");
  if (path == nullptr || parent == nullptr || strtol(parent, nullptr, 10) != getppid()) return;
  const char* most = getenv("HZ3_TRACE_MOST");
  most_events = most == nullptr ? 4'000'000 : strtoull(most, nullptr, 10);
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(most_events * sizeof(Event))) != 0) _exit(125);
  void* memory = mmap(nullptr, most_events * sizeof(Event), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) _exit(125);
  pthread_atfork(nullptr, nullptr, [] { events = nullptr; });
  events = static_cast<Event*>(memory);
}

}  // namespace

extern "C" {

void* malloc(size_t bytes) { return recorded(__libc_malloc(bytes), bytes); }

void* calloc(size_t count, size_t size) { return recorded(__libc_calloc(count, size), count * size); }

void free(void* block) {
  record(bench::trace::kFree, block, 0);
  __libc_free(block);
}

void* realloc(void* block, size_t bytes) {
  if (block == nullptr) return malloc(bytes);
  if (bytes == 0) {
    free(block);
    return nullptr;
  }
  record(bench::trace::kReallocBegin, block, 0);
  void* const moved = __libc_realloc(block, bytes);
  // One that failed leaves the block as it was.
  const int saved = errno;
  record(bench::trace::kReallocEnd, moved != nullptr ? moved : block, bytes);
  errno = saved;
  return moved;
}

void* memalign(size_t alignment, size_t bytes) { return recorded(__libc_memalign(alignment, bytes), bytes, alignment); }

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** block, size_t alignment, size_t bytes) {
  if (!std::has_single_bit(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  void* const made = memalign(alignment, bytes);
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}

}  // extern "C"
