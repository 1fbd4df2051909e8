// Has 128 KiB of TLS, which the loader allocates per thread with malloc or memalign. Each call adds one to every page of it
// and returns how often this thread called, or -1 if a page disagrees.
#include <stddef.h>

namespace {
constexpr size_t kBytes = 128 * 1024;
thread_local char bytes[kBytes];
}  // namespace

extern "C" int touch_large_tls(int) {
  const char before = bytes[0];
  for (size_t at = 0; at < kBytes; at += 512) {
    if (bytes[at] != before) return -1;
    ++bytes[at];
  }
  return bytes[0];
}
