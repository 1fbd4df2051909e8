// operator new and delete in all their forms. The library does not depend on libstdc++: what it needs of it, the handler
// and the exception, is referenced weakly and is there whenever the program uses C++.
//
// This object alone is compiled with exceptions, because a nothrow form has to swallow what a new handler throws. The C++
// run time that the compiler then refers to is made weak by the directive below: where nobody can throw, it is never called.
#include <new>

#include "hz3/api.hpp"
#include "hz3/message.hpp"

__asm__(
    ".weak __gxx_personality_v0\n.weak __cxa_begin_catch\n.weak __cxa_end_catch\n.weak _Unwind_Resume\n.weak _ZSt9terminatev");

extern "C" {
// std::get_new_handler() and std::__throw_bad_alloc() under their symbols, so that weak declarations do not disagree with
// those of <new>.
[[gnu::weak]] std::new_handler hz3_get_new_handler() noexcept __asm__("_ZSt15get_new_handlerv");
[[gnu::weak, noreturn]] void hz3_throw_bad_alloc() __asm__("_ZSt17__throw_bad_allocv");
}

namespace hz3 {
namespace {

// 0 asks for no alignment.
void* allocate(size_t bytes, size_t alignment) { return alignment == 0 ? malloc_hot(bytes) : api::memalign(alignment, bytes); }

// Calls the new handler until it has helped; nullptr when there is none. The handler may throw.
HZ3_SLOW void* ask_handler(size_t bytes, size_t alignment) {
  while (std::new_handler handler = hz3_get_new_handler != nullptr ? hz3_get_new_handler() : nullptr) {
    handler();
    if (void* p = allocate(bytes, alignment)) return p;
  }
  return nullptr;
}

HZ3_SLOW void* new_slow(size_t bytes, size_t alignment) {
  if (void* p = ask_handler(bytes, alignment)) return p;
  if (hz3_throw_bad_alloc != nullptr) hz3_throw_bad_alloc();
  die("operator new", nullptr, "out of memory, and no C++ library to throw bad_alloc with");
}

HZ3_SLOW void* new_nothrow_slow(size_t bytes, size_t alignment) noexcept {
  try {
    return ask_handler(bytes, alignment);
  } catch (...) {
    return nullptr;
  }
}

void* new_miss(size_t bytes) {
  void* p = alloc_slow(bytes);
  return likely(p != nullptr) ? p : new_slow(bytes, 0);
}

HZ3_SLOW void* new_large(size_t bytes) {
  void* p = large_slow(bytes);
  return likely(p != nullptr) ? p : new_slow(bytes, 0);
}

HZ3_ALWAYS_INLINE void* new_hot(size_t bytes) { return allocate_hot<new_miss, new_large>(bytes); }

void* new_nothrow(size_t bytes, size_t alignment) noexcept {
  void* p = allocate(bytes, alignment);
  return p != nullptr ? p : new_nothrow_slow(bytes, alignment);
}

void* new_aligned(size_t bytes, std::align_val_t alignment) {
  void* p = allocate(bytes, static_cast<size_t>(alignment));
  return p != nullptr ? p : new_slow(bytes, static_cast<size_t>(alignment));
}

}  // namespace
}  // namespace hz3

using hz3::free_hot, hz3::new_aligned, hz3::new_hot, hz3::new_nothrow;

HZ3_EXPORT void* operator new(size_t n) { return new_hot(n); }
HZ3_EXPORT void* operator new[](size_t n) { return new_hot(n); }
HZ3_EXPORT void* operator new(size_t n, const std::nothrow_t&) noexcept { return new_nothrow(n, 0); }
HZ3_EXPORT void* operator new[](size_t n, const std::nothrow_t&) noexcept { return new_nothrow(n, 0); }
HZ3_EXPORT void* operator new(size_t n, std::align_val_t a) { return new_aligned(n, a); }
HZ3_EXPORT void* operator new[](size_t n, std::align_val_t a) { return new_aligned(n, a); }
HZ3_EXPORT void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_nothrow(n, static_cast<size_t>(a));
}
HZ3_EXPORT void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return new_nothrow(n, static_cast<size_t>(a));
}

HZ3_EXPORT void operator delete(void* p) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete(void* p, size_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p, size_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete(void* p, const std::nothrow_t&) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p, const std::nothrow_t&) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete(void* p, std::align_val_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p, std::align_val_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete(void* p, size_t, std::align_val_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p, size_t, std::align_val_t) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { return free_hot(p); }
HZ3_EXPORT void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { return free_hot(p); }
