// For tests/bench/plugins/trace_recorder.cpp: the allocator that the program would have without the recorder.
#pragma once

#include <dlfcn.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace bench::trace {

struct Allocator {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*memalign)(size_t, size_t);
};
inline Allocator real;
inline std::atomic<bool> resolved;
inline std::atomic<uint32_t> resolver;  // the thread that asks the dynamic linker, which may allocate on its way

// What is allocated meanwhile; it is not given back.
alignas(16) inline char early[16 << 10];
inline std::atomic<size_t> early_used;

inline bool is_early(const void* block) { return block >= early && block < early + sizeof early; }

inline void* take_early(size_t bytes) {
  const size_t at = early_used.fetch_add((bytes + 31) & ~size_t{15}) + 16;
  if (at + bytes > sizeof early) _exit(125);
  memcpy(early + at - 16, &bytes, sizeof bytes);
  return early + at;
}

template <class Function>
void find(Function*& function, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// Whether the allocator below can be called.
inline bool resolve() {
  if (resolved.load(std::memory_order_acquire)) return true;  // pairs with the release below
  const auto self = static_cast<uint32_t>(syscall(SYS_gettid));
  uint32_t nobody = 0;
  if (!resolver.compare_exchange_strong(nobody, self)) {
    if (nobody == self) return false;
    while (!resolved.load(std::memory_order_acquire)) sched_yield();
    return true;
  }
  find(real.malloc, "malloc");
  find(real.free, "free");
  find(real.calloc, "calloc");
  find(real.realloc, "realloc");
  find(real.memalign, "memalign");
  if (real.memalign == nullptr) find(real.memalign, "aligned_alloc");
  resolved.store(true, std::memory_order_release);
  return true;
}

}  // namespace bench::trace
