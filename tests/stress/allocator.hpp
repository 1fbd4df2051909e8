// The entry points under stress, as a table: each way to get a block with the alignment it promises, and the matching way to
// give it back. Plainly compiled these are the C library's names, and whatever is preloaded serves them. With HZ3_WHITEBOX
// they are hz3's functions in the program itself, beside the C library's malloc, so that a sanitizer can look on.
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>

#include <new>

#if defined(HZ3_WHITEBOX)
#include "hz3/api.hpp"
#include "hz3/fork.hpp"
#endif

namespace stress {

#if defined(HZ3_WHITEBOX)

// Draws the atfork handlers out of the archive, where nothing else names them.
[[gnu::used]] inline void (*const keep_fork_handlers)() = hz3::fork::prepare;

inline void* do_malloc(size_t size) { return hz3::malloc_hot(size); }
inline void do_free(void* block) { hz3::free_hot(block); }
inline void* do_calloc(size_t count, size_t size) { return hz3::api::calloc(count, size); }
inline void* do_realloc(void* block, size_t size) { return hz3::api::realloc(block, size); }
inline void* do_reallocarray(void* block, size_t count, size_t size) { return hz3::api::realloc(block, count * size); }
inline void* do_memalign(size_t alignment, size_t size) { return hz3::api::memalign(alignment, size); }
inline void* do_aligned_alloc(size_t alignment, size_t size) { return hz3::api::aligned_alloc(alignment, size); }
inline int do_posix_memalign(void** out, size_t alignment, size_t size) {
  return hz3::api::posix_memalign(out, alignment, size);
}
inline void* do_valloc(size_t size) { return hz3::api::valloc(size); }
inline void* do_pvalloc(size_t size) { return hz3::api::pvalloc(size); }
inline size_t do_usable_size(void* block) { return hz3::api::usable_size(block); }
inline void do_trim() { hz3::api::trim(); }
inline void* do_new(size_t size) { return hz3::malloc_hot(size); }
inline void do_delete(void* block) { hz3::free_hot(block); }
inline void* do_new_aligned(size_t alignment, size_t size) { return hz3::api::memalign(alignment, size); }
inline void do_delete_aligned(void* block, size_t) { hz3::free_hot(block); }
inline void do_free_sized(void* block, size_t) { hz3::free_hot(block); }

#else

inline void* do_malloc(size_t size) { return malloc(size); }
inline void do_free(void* block) { free(block); }
inline void* do_calloc(size_t count, size_t size) { return calloc(count, size); }
inline void* do_realloc(void* block, size_t size) { return realloc(block, size); }
inline void* do_reallocarray(void* block, size_t count, size_t size) { return reallocarray(block, count, size); }
inline void* do_memalign(size_t alignment, size_t size) { return memalign(alignment, size); }
inline void* do_aligned_alloc(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }
inline int do_posix_memalign(void** out, size_t alignment, size_t size) { return posix_memalign(out, alignment, size); }
inline void* do_valloc(size_t size) { return valloc(size); }
inline void* do_pvalloc(size_t size) { return pvalloc(size); }
inline size_t do_usable_size(void* block) { return malloc_usable_size(block); }
inline void do_trim() {
  malloc_trim(0);
  (void)mallinfo2();
}
inline void* do_new(size_t size) { return ::operator new(size, std::nothrow); }
inline void do_delete(void* block) { ::operator delete(block); }
inline void* do_new_aligned(size_t alignment, size_t size) {
  return ::operator new[](size, std::align_val_t{alignment}, std::nothrow);
}
inline void do_delete_aligned(void* block, size_t alignment) { ::operator delete[](block, std::align_val_t{alignment}); }
// C23's, where the library has it.
inline void do_free_sized(void* block, size_t size) {
  static const auto free_sized = reinterpret_cast<void (*)(void*, size_t)>(dlsym(RTLD_DEFAULT, "free_sized"));
  free_sized != nullptr ? free_sized(block, size) : free(block);
}

#endif

enum class Release : unsigned char { kFree, kFreeSized, kDelete, kDeleteAligned };

// What came out of one of the entry points, and what goes with it.
struct Allocation {
  void* start = nullptr;
  size_t alignment = 16;
  bool is_zero = false;
  Release release = Release::kFree;
};

constexpr unsigned kEntryPoints = 16;

// Allocates through entry point number `which`. `alignment` is a power of two, of use to some of them.
inline Allocation allocate(unsigned which, size_t size, size_t alignment) {
  constexpr size_t kPage = 4096;
  const size_t at_least_16 = alignment < 16 ? 16 : alignment;
  switch (which % kEntryPoints) {
    case 0:
      return {do_calloc(1, size), 16, true, Release::kFree};
    case 1:
      return {do_calloc(size, 1), 16, true, Release::kFree};
    case 2:
      return {do_realloc(nullptr, size), 16, false, Release::kFree};
    case 3:
      return {do_reallocarray(nullptr, 1, size), 16, false, Release::kFree};
    case 4:
      return {do_memalign(alignment, size), at_least_16, false, Release::kFree};
    case 5:
      return {do_aligned_alloc(alignment, size), at_least_16, false, Release::kFree};
    case 6: {
      void* block = nullptr;
      const int error = do_posix_memalign(&block, at_least_16, size);
      return {error == 0 ? block : nullptr, at_least_16, false, Release::kFree};
    }
    case 7:
      return size < 100000 ? Allocation{do_valloc(size), kPage, false, Release::kFree} : Allocation{do_malloc(size)};
    case 8:
      return size < 100000 ? Allocation{do_pvalloc(size), kPage, false, Release::kFree} : Allocation{do_malloc(size)};
    case 9:
      return {do_new(size), 16, false, Release::kDelete};
    case 10:
      return {do_new_aligned(at_least_16, size), at_least_16, false, Release::kDeleteAligned};
    case 11:
      return {do_malloc(size), 16, false, Release::kFreeSized};
    default:
      return {do_malloc(size), 16, false, Release::kFree};
  }
}

inline void release(const Allocation& allocation, size_t size) {
  switch (allocation.release) {
    case Release::kFree:
      return do_free(allocation.start);
    case Release::kFreeSized:
      return do_free_sized(allocation.start, size);
    case Release::kDelete:
      return do_delete(allocation.start);
    case Release::kDeleteAligned:
      return do_delete_aligned(allocation.start, allocation.alignment);
  }
}

}  // namespace stress
