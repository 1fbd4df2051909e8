// operator new and delete in all their forms. The library does not depend on libstdc++: what it needs of it, the handler
// and the exception, is referenced weakly and is there whenever the program uses C++.
//
// This object alone is compiled with exceptions, because a nothrow form has to swallow what a new handler throws. The C++
// run time that the compiler then refers to is made weak by the directive below: where nobody can throw, it is never called.
#include <dlfcn.h>
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

// A function of the C++ library: `linked`, or where it is now if that is nullptr. A C program may load C++ plugins, and the
// library with them, for themselves alone. nullptr when no C++ library is in the process.
template <typename Function>
Function* find(Function* linked, const char* name) {
  if (linked != nullptr) return linked;
  void* library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  return library != nullptr ? reinterpret_cast<Function*>(dlsym(library, name)) : nullptr;
}

std::new_handler new_handler() {
  auto* get = find(hz3_get_new_handler, "_ZSt15get_new_handlerv");
  return get != nullptr ? get() : nullptr;
}

// Calls the new handler until it has helped; nullptr when there is none. The handler may throw.
HZ3_SLOW void* ask_handler(size_t bytes, size_t alignment) {
  while (std::new_handler handler = new_handler()) {
    handler();
    if (void* p = allocate(bytes, alignment)) return p;
  }
  return nullptr;
}

HZ3_SLOW void* new_slow(size_t bytes, size_t alignment) {
  if (void* p = ask_handler(bytes, alignment)) return p;
  if (auto* bad_alloc = find(hz3_throw_bad_alloc, "_ZSt17__throw_bad_allocv")) bad_alloc();
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
