// Opened with RTLD_DEEPBIND: its malloc is not the one of the program. The first functions allocate from a static buffer of
// the plugin's own; those with libc in their name end in libc's malloc, because DEEPBIND looks into the plugin's own
// dependencies first. The program frees what it gets from here with its own free.
#include <stdlib.h>
#include <string.h>

namespace {

constexpr size_t kHeapBytes = 256 * 1024;
alignas(16) char heap[kHeapBytes];
size_t used = 0;

}  // namespace

extern "C" {

// 4096 blocks' worth; wraps around, so that it can be called without end.
void* plugin_allocate(size_t size) {
  const size_t rounded = (size + 15) / 16 * 16;
  if (used + rounded > kHeapBytes) used = 0;
  char* block = heap + used;
  used += rounded;
  memset(block, 0x6B, rounded);
  return block;
}

const char* plugin_heap() { return heap; }
size_t plugin_heap_bytes() { return kHeapBytes; }

void* plugin_libc_allocate(size_t size) {
  void* block = malloc(size);
  if (block != nullptr) memset(block, 0x6C, size);
  return block;
}

void plugin_libc_free(void* block) { free(block); }

}  // extern "C"
