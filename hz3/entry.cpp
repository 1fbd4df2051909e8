// The C entry points of the shared library. Each is one call; what they do is in hz3/hot.hpp and hz3/api.hpp.
#include <malloc.h>
#include <cerrno>
#include <cstdio>

#include "hz3/api.hpp"
#include "hz3/info.hpp"

using namespace hz3;

extern "C" {

HZ3_EXPORT void* malloc(size_t bytes) { return malloc_hot(bytes); }
HZ3_EXPORT void free(void* p) { return free_hot(p); }
HZ3_EXPORT void cfree(void* p) { return free_hot(p); }
HZ3_EXPORT void free_sized(void* p, size_t) { return free_hot(p); }
HZ3_EXPORT void free_aligned_sized(void* p, size_t, size_t) { return free_hot(p); }

HZ3_EXPORT void* calloc(size_t count, size_t bytes) { return api::calloc(count, bytes); }
HZ3_EXPORT void* realloc(void* p, size_t bytes) { return api::realloc(p, bytes); }
HZ3_EXPORT void* reallocarray(void* p, size_t count, size_t bytes) {
  size_t total;
  if (__builtin_mul_overflow(count, bytes, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  return api::realloc(p, total);
}

HZ3_EXPORT void* memalign(size_t alignment, size_t bytes) { return api::memalign(alignment, bytes); }
HZ3_EXPORT void* aligned_alloc(size_t alignment, size_t bytes) { return api::aligned_alloc(alignment, bytes); }
HZ3_EXPORT int posix_memalign(void** out, size_t alignment, size_t bytes) { return api::posix_memalign(out, alignment, bytes); }
HZ3_EXPORT void* valloc(size_t bytes) { return api::valloc(bytes); }
HZ3_EXPORT void* pvalloc(size_t bytes) { return api::pvalloc(bytes); }
HZ3_EXPORT size_t malloc_usable_size(void* p) { return api::usable_size(p); }

HZ3_EXPORT int malloc_trim(size_t) { return api::trim(); }
HZ3_EXPORT int mallopt(int parameter, int value) { return info::mallopt(parameter, value); }
HZ3_EXPORT struct mallinfo mallinfo(void) { return info::mallinfo(); }
HZ3_EXPORT struct mallinfo2 mallinfo2(void) { return info::mallinfo2(); }
HZ3_EXPORT void malloc_stats(void) { info::stats(2); }
HZ3_EXPORT int malloc_info(int options, FILE* stream) { return info::xml(options, stream); }

}  // extern "C"
