// The kernel's side of hz3/os.hpp: raw system calls that leave errno alone.
#include "hz3/os.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <ctime>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace hz3::os {
namespace {

// Restores errno at the end of a scope: free() and friends must not change it.
class ErrnoGuard {
 public:
  ErrnoGuard() : saved_(errno) {}
  ~ErrnoGuard() { errno = saved_; }
  ErrnoGuard(const ErrnoGuard&) = delete;
  ErrnoGuard& operator=(const ErrnoGuard&) = delete;

 private:
  int saved_;
};

void* map(void* at, size_t bytes, int protection, int flags) {
  const long r = syscall(SYS_mmap, at, bytes, protection, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  return r == -1 ? nullptr : reinterpret_cast<void*>(r);
}

void* reserve(size_t bytes) {
  ErrnoGuard guard;
  return map(nullptr, bytes, PROT_NONE, MAP_NORESERVE);
}

bool claim(void* p, size_t bytes) {
  ErrnoGuard guard;
  const long r = syscall(SYS_mmap, p, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0L);
  if (r == reinterpret_cast<intptr_t>(p)) return true;
  if (r != -1) syscall(SYS_munmap, r, bytes);  // Linux before 4.17 takes the address for a hint
  return false;
}

bool commit(void* p, size_t bytes) {
  ErrnoGuard guard;
  return syscall(SYS_mprotect, p, bytes, PROT_READ | PROT_WRITE) == 0;
}

bool decommit(void* p, size_t bytes) {
  ErrnoGuard guard;
  return map(p, bytes, PROT_NONE, MAP_NORESERVE | MAP_FIXED) != nullptr;
}

void release(void* p, size_t bytes) {
  ErrnoGuard guard;
  syscall(SYS_munmap, p, bytes);
}

bool advise(void* p, size_t bytes, Advice advice) {
  ErrnoGuard guard;
  int value = MADV_DONTNEED;
  switch (advice) {
    case Advice::DontNeed:
      value = MADV_DONTNEED;
      break;
    case Advice::Free:
      value = MADV_FREE;
      break;
    case Advice::Cold:
      value = MADV_COLD;
      break;
    case Advice::HugePage:
      value = MADV_HUGEPAGE;
      break;
    case Advice::NoHugePage:
      value = MADV_NOHUGEPAGE;
      break;
    case Advice::Collapse:
      value = MADV_COLLAPSE;
      break;
  }
  return syscall(SYS_madvise, p, bytes, value) == 0;
}

Moved move(void* from, void* to, size_t bytes) {
  ErrnoGuard guard;
  if (syscall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != -1) return Moved::Yes;
  // Other errors are found before anything is changed, or come from a sandbox.
  if (errno != EFAULT && errno != ENOMEM && errno != EAGAIN) return Moved::No;
  // Linux before 6.17 unmaps the target and refuses then, for one when `from` is more than one mapping, as the target of an
  // earlier move is. Another thread's mmap may have got there in between, which must not be replaced.
  void* again = map(to, bytes, PROT_NONE, MAP_NORESERVE | MAP_FIXED_NOREPLACE);
  if (again == to) return commit(to, bytes) ? Moved::No : Moved::Lost;
  if (again != nullptr) release(again, bytes);
  return Moved::Lost;
}

}  // namespace

Calls calls = {reserve, claim, commit, decommit, release, advise, move};

unsigned resident_pages(const void* p, size_t bytes) {
  ErrnoGuard guard;
  unsigned char seen[512] = {};
  const size_t pages = bytes / page_size();
  if (pages > sizeof seen || syscall(SYS_mincore, p, bytes, seen) != 0) return 0;
  unsigned n = 0;
  for (size_t i = 0; i < pages; i++) n += seen[i] & 1;
  return n;
}

size_t page_size() {
  static size_t size = 0;  // relaxed: a race stores the same value twice, and nothing else is read by it
  size_t s = __atomic_load_n(&size, __ATOMIC_RELAXED);
  if (s == 0) {
    s = getauxval(AT_PAGESZ);
    if (s == 0) s = 4096;
    __atomic_store_n(&size, s, __ATOMIC_RELAXED);
  }
  return s;
}

bool fills_from_top(const void* p, size_t bytes) {
  void* probe = calls.reserve(page_size());
  if (probe == nullptr) return false;
  calls.release(probe, page_size());
  // In the upper half of it or above. Below it is a small hole that was left there, which comes last where the top comes first.
  return reinterpret_cast<uintptr_t>(probe) >= reinterpret_cast<uintptr_t>(p) + bytes / 2;
}

uint64_t now_ms() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);  // cannot fail, so it leaves errno alone
  return static_cast<uint64_t>(t.tv_sec) * 1000 + static_cast<uint64_t>(t.tv_nsec) / 1000000;
}

size_t address_space_limit() {
  static size_t limit = 0;  // relaxed: as in page_size(); a later setrlimit may make the two differ, either will do
  size_t bytes = __atomic_load_n(&limit, __ATOMIC_RELAXED);
  if (bytes == 0) {
    ErrnoGuard guard;
    rlimit r{};
    bytes = getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY ? SIZE_MAX : r.rlim_cur;
    __atomic_store_n(&limit, bytes, __ATOMIC_RELAXED);
  }
  return bytes;
}

size_t read_file(const char* path, char* buffer, size_t size) {
  ErrnoGuard guard;
  const long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const long length = syscall(SYS_read, file, buffer, size);
  syscall(SYS_close, file);
  return length > 0 ? static_cast<size_t>(length) : 0;
}

int process_id() { return static_cast<int>(syscall(SYS_getpid)); }

void name_thread(const char* name) {
  ErrnoGuard guard;
  syscall(SYS_prctl, PR_SET_NAME, name, 0L, 0L, 0L);
}

void futex_wait(uint32_t* word, uint32_t expected) {
  ErrnoGuard guard;
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wait_for(uint32_t* word, uint32_t expected, uint64_t ms) {
  ErrnoGuard guard;
  const timespec time{static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000) * 1000000};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &time, nullptr, 0);
}

void futex_wake(uint32_t* word, int count) {
  ErrnoGuard guard;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace hz3::os
