// Preloaded into a program, writes down what it allocates and frees: into the file HZ3_TRACE, at most HZ3_TRACE_MOST events.
// scripts/hz3-trace does that. The blocks come from whichever allocator the program would have without it: the one that is
// preloaded after this, or linked, or glibc. A child of fork is not recorded, nor what a program started by this one does.
//
// Every thread writes to a buffer of its own, which becomes a chunk of the file when it is full. What all threads share is the
// number of the next event: the order of the events is that of these numbers. An event of a block that begins to live takes its
// number after the call, one that ends before it, so that no address is in two blocks at a time.
#include <stdio.h>

#include <bit>

#include "tests/bench/trace_below.hpp"
#include "tests/bench/trace_recording.hpp"

namespace {

using namespace bench::trace;

[[gnu::constructor]] void begin() {
  const char* path = getenv("HZ3_TRACE");
  const char* parent = getenv("HZ3_TRACE_PARENT");
  if (path == nullptr || parent == nullptr || strtol(parent, nullptr, 10) != getppid()) return;
  const char* most = getenv("HZ3_TRACE_MOST");
  most_events = most == nullptr ? 16'000'000 : strtoull(most, nullptr, 10);
  resolve();
  owner = getpid();
  statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  FileHeader header{{}, kVersion, 0, anonymous_kib(), {}};
  memcpy(header.magic, kMagic, sizeof header.magic);
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(real.malloc), &info) != 0 && info.dli_fname != nullptr) {
    const char* slash = strrchr(info.dli_fname, '/');
    snprintf(header.allocator, sizeof header.allocator, "%s", slash != nullptr ? slash + 1 : info.dli_fname);
  }
  file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
  if (file < 0 || write(file, &header, sizeof header) != sizeof header || pthread_key_create(&end_of_thread, detach) != 0)
    _exit(125);
  pthread_atfork(nullptr, nullptr, [] {
    recording.store(false);
    file = -1;
  });
  recording.store(true);
}

[[gnu::destructor]] void end() { finish(); }

// ---- what is recorded
// --------------------------------------------------------------------------------------------------------

uint64_t number_of(const void* block) { return reinterpret_cast<uint64_t>(block); }

void* began(uint8_t operation, void* block, size_t bytes, size_t alignment = 1) {
  if (block == nullptr) return block;
  if (bytes >= kLargeBytes && recording.load(std::memory_order_relaxed)) add_large(number_of(block), bytes);
  const auto write = [=](Encoder& out) {
    if (operation == kAligned) out.byte(static_cast<uint64_t>(std::bit_width(alignment)) - 1);
    out.number(bytes);
    out.pointer(number_of(block));
  };
  record(operation, write, bytes);
  return block;
}

// How much of a large block is touched, plus one; 0 for any other block.
uint64_t touched(const void* block) {
  const uint64_t bytes = take_large(number_of(block));
  if (bytes == 0) return 0;
  const int saved = errno;
  const uint64_t pages = resident_pages(number_of(block), bytes) + 1;
  errno = saved;
  return pages;
}

}  // namespace

extern "C" {

void* malloc(size_t bytes) {
  if (!resolve()) return take_early(bytes);
  return began(kMalloc, real.malloc(bytes), bytes);
}

void* calloc(size_t count, size_t size) {
  if (!resolve()) return take_early(count * size);
  return began(kCalloc, real.calloc(count, size), count * size);
}

void free(void* block) {
  if (block == nullptr || is_early(block)) return;
  resolve();
  const uint64_t pages = touched(block);
  record(pages != 0 ? kFreeLarge : kFree, [=](Encoder& out) {
    out.pointer(number_of(block));
    if (pages != 0) out.number(pages);
  });
  real.free(block);
}

void* realloc(void* block, size_t bytes) {
  if (block == nullptr) return malloc(bytes);
  if (is_early(block)) {
    size_t old;
    memcpy(&old, static_cast<char*>(block) - 16, sizeof old);
    void* const moved = malloc(bytes);
    if (moved != nullptr) memcpy(moved, block, old < bytes ? old : bytes);
    return moved;
  }
  if (bytes == 0) {
    free(block);
    return nullptr;
  }
  const uint64_t pages = touched(block);
  record(kReallocBegin, [=](Encoder& out) {
    out.pointer(number_of(block));
    out.number(pages);
  });
  void* const moved = real.realloc(block, bytes);
  if (moved != nullptr) return began(kReallocEnd, moved, bytes);
  const int saved = errno;
  began(kReallocEnd, block, 0);  // it failed, and left the block as it was
  errno = saved;
  return moved;
}

void* reallocarray(void* block, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  return realloc(block, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  if (!resolve()) _exit(125);
  return began(kAligned, real.memalign(alignment, bytes), bytes, alignment);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
void* valloc(size_t bytes) { return memalign(4096, bytes); }
void* pvalloc(size_t bytes) { return memalign(4096, (bytes + 4095) & ~size_t{4095}); }

int posix_memalign(void** block, size_t alignment, size_t bytes) {
  if (!std::has_single_bit(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int saved = errno;
  void* const made = memalign(alignment, bytes);
  errno = saved;
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}

[[noreturn]] void _exit(int status) {
  finish();
  for (;;) syscall(SYS_exit_group, status);
}
[[noreturn]] void _Exit(int status) { _exit(status); }

}  // extern "C"

// An allocator may have operators of its own, which would pass by what is above. One that fails is left to the operator below:
// it knows the handler, and throws.
namespace {

void* make(const char* below, size_t bytes) {
  if (void* block = malloc(bytes); block != nullptr) return block;
  return reinterpret_cast<void* (*)(size_t)>(dlsym(RTLD_NEXT, below))(bytes);
}

void* make(const char* below, size_t bytes, std::align_val_t alignment) {
  if (void* block = memalign(static_cast<size_t>(alignment), bytes); block != nullptr) return block;
  return reinterpret_cast<void* (*)(size_t, std::align_val_t)>(dlsym(RTLD_NEXT, below))(bytes, alignment);
}

}  // namespace

void* operator new(size_t bytes) { return make("_Znwm", bytes); }
void* operator new[](size_t bytes) { return make("_Znam", bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return malloc(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return malloc(bytes); }
void* operator new(size_t bytes, std::align_val_t alignment) { return make("_ZnwmSt11align_val_t", bytes, alignment); }
void* operator new[](size_t bytes, std::align_val_t alignment) { return make("_ZnamSt11align_val_t", bytes, alignment); }
void* operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return memalign(static_cast<size_t>(alignment), bytes);
}
void* operator new[](size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return memalign(static_cast<size_t>(alignment), bytes);
}
void operator delete(void* block) noexcept { free(block); }
void operator delete[](void* block) noexcept { free(block); }
void operator delete(void* block, size_t) noexcept { free(block); }
void operator delete[](void* block, size_t) noexcept { free(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { free(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { free(block); }
void operator delete(void* block, std::align_val_t) noexcept { free(block); }
void operator delete[](void* block, std::align_val_t) noexcept { free(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete[](void* block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept { free(block); }
void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept { free(block); }
