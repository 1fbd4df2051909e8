// operator new and delete in all their forms. The library does not depend on libstdc++: what it needs of it, the handler
// and the exception, is referenced weakly and is there whenever the program uses C++.
#include <new>

#include "hz3/api.hpp"
#include "hz3/message.hpp"

namespace std {
[[gnu::weak]] new_handler get_new_handler() noexcept;
[[gnu::weak, noreturn]] void __throw_bad_alloc();
}  // namespace std

namespace hz3 {
namespace {

// 0 asks for no alignment. Calls the new handler until it has helped, is gone, or throws.
HZ3_SLOW void* new_slow(size_t bytes, size_t alignment, bool nothrow) {
  for (;;) {
    std::new_handler handler = std::get_new_handler != nullptr ? std::get_new_handler() : nullptr;
    if (handler == nullptr) break;
    handler();
    void* p = alignment == 0 ? malloc_hot(bytes) : api::memalign(alignment, bytes);
    if (p != nullptr) return p;
  }
  if (nothrow) return nullptr;
  if (std::__throw_bad_alloc != nullptr) std::__throw_bad_alloc();
  die("operator new", nullptr, "out of memory, and no C++ library to throw bad_alloc with");
}

HZ3_ALWAYS_INLINE void* new_hot(size_t bytes) {
  void* p = malloc_hot(bytes);
  return likely(p != nullptr) ? p : new_slow(bytes, 0, false);
}

void* new_nothrow(size_t bytes, size_t alignment) noexcept {
  void* p = alignment == 0 ? malloc_hot(bytes) : api::memalign(alignment, bytes);
  return p != nullptr ? p : new_slow(bytes, alignment, true);
}

void* new_aligned(size_t bytes, std::align_val_t alignment) {
  void* p = api::memalign(static_cast<size_t>(alignment), bytes);
  return p != nullptr ? p : new_slow(bytes, static_cast<size_t>(alignment), false);
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
HZ3_EXPORT void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return new_nothrow(n, static_cast<size_t>(a)); }
HZ3_EXPORT void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return new_nothrow(n, static_cast<size_t>(a)); }

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
