// Compiler and processor dependent bits. Everything that is not portable C++20 is here, so that another architecture
// is one file to look at.
#pragma once

#include <cstddef>
#include <cstdint>

#define HZ3_ALWAYS_INLINE [[gnu::always_inline]] inline
#define HZ3_SLOW [[gnu::cold, gnu::noinline]]
#define HZ3_EXPORT [[gnu::visibility("default")]]

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

constexpr bool is_power_of_two(size_t x) { return x != 0 && (x & (x - 1)) == 0; }
constexpr size_t round_up(size_t x, size_t to) { return (x + to - 1) / to * to; }
constexpr unsigned log2_floor(size_t x) { return 63u - static_cast<unsigned>(__builtin_clzll(x)); }

}  // namespace hz3
