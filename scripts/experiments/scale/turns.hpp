// Threads that take turns: each is a processor of a simulated machine, one runs at a time, and the next comes on after a few
// calls of malloc or free. So a program of 256 threads interleaves as on 256 processors, on a machine of any size, and the same
// way each time.
#pragma once

#include <cstdint>

namespace turns {

inline constexpr unsigned kMostCores = 320;
inline constexpr unsigned kNone = ~0u;

// Of the calling thread; kNone before it has its first turn and after its last, when it runs beside the others.
extern thread_local unsigned my_core __attribute__((tls_model("initial-exec")));

}  // namespace turns
