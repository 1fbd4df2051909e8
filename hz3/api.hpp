// What the entry points are made of: the functions of the malloc interface under names of their own, so that white-box tests
// can call them while the test itself runs on the C library's malloc. Semantics, errors and errno are those of malloc(3).
#pragma once

#include <cstddef>
#include <cstdint>

#include "hz3/hot.hpp"

namespace hz3::api {

HZ3_ALWAYS_INLINE void* calloc(size_t count, size_t bytes) {
  size_t total;
  if (unlikely(__builtin_mul_overflow(count, bytes, &total))) total = SIZE_MAX;  // which no allocation serves
  return calloc_hot(total);
}
void* realloc(void* p, size_t bytes);
// Any alignment; 0 and those that are no power of two are rounded up to one, as memalign of the C library does.
void* memalign(size_t alignment, size_t bytes);
void* aligned_alloc(size_t alignment, size_t bytes);
int posix_memalign(void** out, size_t alignment, size_t bytes);
void* valloc(size_t bytes);
void* pvalloc(size_t bytes);
// Bytes that the block may be used for; 0 for nullptr and for pointers that are not ours.
size_t usable_size(void* p);
// Gives back everything free: the calling thread's cache, all inboxes, all free pages. 1 when something was given back.
int trim();

}  // namespace hz3::api
