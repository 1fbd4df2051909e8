// Preloaded: interposes the libc calls that an allocator is likely to make, and allocates in each of them. An allocator
// that reaches the system through libc comes back to itself from here. dlsym itself calls calloc when it must report an
// error, and its first call may allocate.
// Written so that it needs nothing of libstdc++: C programs are run with it.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

thread_local int depth = 0;

// Everything a hook of somebody else's may do with memory.
void allocate_a_little() {
  if (++depth > 50) abort();  // the allocator calls the hook, the hook the allocator
  void* blocks[] = {malloc(24), calloc(3, 1000), realloc(nullptr, 5000), malloc(100000)};
  for (void* block : blocks) {
    if (block != nullptr) memset(block, 1, 20);
    free(block);
  }
  dlsym(RTLD_NEXT, "no_such_symbol_anywhere");
  --depth;
}

template <typename Function>
Function next(const char* name) noexcept {
  allocate_a_little();
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

__attribute__((constructor(101))) void at_load() { allocate_a_little(); }
__attribute__((destructor(101))) void at_unload() { allocate_a_little(); }

}  // namespace

extern "C" {

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  return next<void* (*)(void*, size_t, int, int, int, off_t) noexcept>("mmap")(address, length, protection, flags, fd, offset);
}
void* mmap64(void* address, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  return next<void* (*)(void*, size_t, int, int, int, off_t) noexcept>("mmap64")(address, length, protection, flags, fd,
                                                                                 offset);
}
int munmap(void* address, size_t length) noexcept { return next<int (*)(void*, size_t) noexcept>("munmap")(address, length); }
int madvise(void* address, size_t length, int advice) noexcept {
  return next<int (*)(void*, size_t, int) noexcept>("madvise")(address, length, advice);
}
int mprotect(void* address, size_t length, int protection) noexcept {
  return next<int (*)(void*, size_t, int) noexcept>("mprotect")(address, length, protection);
}
void* sbrk(intptr_t increment) noexcept { return next<void* (*)(intptr_t) noexcept>("sbrk")(increment); }
long sysconf(int name) noexcept { return next<long (*)(int) noexcept>("sysconf")(name); }
char* getenv(const char* name) noexcept { return next<char* (*)(const char*) noexcept>("getenv")(name); }
char* secure_getenv(const char* name) noexcept { return next<char* (*)(const char*) noexcept>("secure_getenv")(name); }
int open(const char* path, int flags, ...) { return next<int (*)(const char*, int, mode_t)>("open")(path, flags, 0600); }
int open64(const char* path, int flags, ...) { return next<int (*)(const char*, int, mode_t)>("open64")(path, flags, 0600); }
ssize_t read(int fd, void* buffer, size_t count) { return next<ssize_t (*)(int, void*, size_t)>("read")(fd, buffer, count); }
int sched_yield() noexcept { return next<int (*)() noexcept>("sched_yield")(); }

}  // extern "C"
