// Preloaded: wraps malloc, free, calloc and realloc and finds the real ones with dlsym at the first call, as tracers and
// heap profilers do. dlsym may call calloc, which arrives here before there is anything to pass it on to.
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

namespace {

alignas(16) char early_heap[64 * 1024];
size_t early_used = 0;
bool resolving = false;

bool is_early(const void* block) { return block >= early_heap && block < early_heap + sizeof early_heap; }

void* early_malloc(size_t size) {
  const size_t at = (early_used + 15) & ~size_t{15};
  early_used = at + size;
  return early_used <= sizeof early_heap ? early_heap + at : nullptr;
}

struct Real {
  void* (*malloc)(size_t);
  void (*free)(void*);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
} real;

bool resolve() {
  if (real.realloc != nullptr) return true;
  if (resolving) return false;
  resolving = true;
  dlsym(RTLD_NEXT, "no_such_symbol_anywhere");
  real.malloc = reinterpret_cast<void* (*)(size_t)>(dlsym(RTLD_NEXT, "malloc"));
  real.free = reinterpret_cast<void (*)(void*)>(dlsym(RTLD_NEXT, "free"));
  real.calloc = reinterpret_cast<void* (*)(size_t, size_t)>(dlsym(RTLD_NEXT, "calloc"));
  real.realloc = reinterpret_cast<void* (*)(void*, size_t)>(dlsym(RTLD_NEXT, "realloc"));
  resolving = false;
  return true;
}

}  // namespace

extern "C" {

unsigned long early_dlsym_calls = 0;

void* malloc(size_t size) {
  ++early_dlsym_calls;
  return resolve() ? real.malloc(size) : early_malloc(size);
}
void* calloc(size_t count, size_t size) { return resolve() ? real.calloc(count, size) : early_malloc(count * size); }
void* realloc(void* block, size_t size) {
  if (!resolve()) return early_malloc(size);
  if (!is_early(block)) return real.realloc(block, size);
  void* moved = real.malloc(size);
  if (moved != nullptr) memcpy(moved, block, size);
  return moved;
}
void free(void* block) {
  if (!is_early(block) && resolve()) real.free(block);
}

}  // extern "C"
