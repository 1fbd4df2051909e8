// Compiler and processor dependent bits. Everything that is not portable C++20 is here, so that another architecture
// is one file to look at.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#define HZ3_ALWAYS_INLINE [[gnu::always_inline]] inline
#define HZ3_SLOW [[gnu::cold, gnu::noinline]]
#define HZ3_EXPORT [[gnu::visibility("default")]]
// On declarations of variables: -fvisibility=hidden does not reach extern ones, which would then be looked up in the GOT.
#define HZ3_HIDDEN [[gnu::visibility("hidden")]]

namespace hz3 {

inline constexpr size_t kCacheLine = 64;

[[gnu::always_inline]] inline bool likely(bool x) { return __builtin_expect(x, 1); }
[[gnu::always_inline]] inline bool unlikely(bool x) { return __builtin_expect(x, 0); }

// A hint to the processor that this is a spin-wait loop.
inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield" ::: "memory");
#endif
}

// x -= N; true when the result is negative. GCC 12 spends an instruction on the address of a read-modify-write whose flags
// are tested; this form does not.
template <int32_t N>
HZ3_ALWAYS_INLINE bool subtract_below_zero(int32_t& x) {
#if defined(__x86_64__)
  bool negative;
  __asm__("subl %2, %0" : "+m"(x), "=@ccs"(negative) : "i"(N));
  return negative;
#else
  return (x -= N) < 0;
#endif
}

// The compiler leaves the stores before and after it in their order, as the processor does.
HZ3_ALWAYS_INLINE void in_this_order() { std::atomic_signal_fence(std::memory_order_release); }

// What orders a thread's use of its bins before others' is time (hz3/sleepers.hpp), which ThreadSanitizer does not know of: it
// is told. Nothing in other builds.
HZ3_ALWAYS_INLINE void published([[maybe_unused]] void* owned) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(owned);
#endif
}
HZ3_ALWAYS_INLINE void published_to_me([[maybe_unused]] void* owned) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(owned);
#endif
}

// Asks for `p` to be computed where a function returns it; GCC 12 otherwise moves it there at the end.
HZ3_ALWAYS_INLINE void* as_result(void* p) {
#if defined(__x86_64__)
  __asm__("" : "+a"(p));
#endif
  return p;
}

// The number of set bits. The builtin is a call into libgcc on a baseline processor.
constexpr unsigned count_bits(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555;
  x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<unsigned>((x * 0x0101010101010101) >> 56);
}

constexpr bool is_power_of_two(size_t x) { return x != 0 && (x & (x - 1)) == 0; }
constexpr size_t round_up(size_t x, size_t to) { return (x + to - 1) / to * to; }
constexpr unsigned log2_floor(size_t x) { return 63u - static_cast<unsigned>(__builtin_clzll(x)); }

}  // namespace hz3
