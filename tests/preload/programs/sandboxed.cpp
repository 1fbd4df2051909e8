// Puts itself under a seccomp filter as the first thing that main does, then allocates heavily in threads that were started
// before and had not allocated yet. Argument "kill": every system call that a running allocator has no business with ends the
// process. Argument "no_return": madvise and munmap fail with ENOMEM, as they do when a process has too many mappings.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../support/child.hpp"
#include "../support/pattern.hpp"
#include "../support/threads.hpp"

namespace {

// What may be called once a sandbox is up: memory, waiting, and the end. No brk, open, read, getrandom, sched_getaffinity, …
constexpr unsigned kAllowed[] = {SYS_mmap,         SYS_munmap,         SYS_madvise,      SYS_mremap,     SYS_mprotect,
                                 SYS_futex,        SYS_write,          SYS_exit_group,   SYS_exit,       SYS_clock_gettime,
                                 SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield};
constexpr unsigned kFailing[] = {SYS_madvise, SYS_munmap};

template <size_t N>
void install_filter(const unsigned (&calls)[N], unsigned action, unsigned otherwise) {
  sock_filter program[N + 3] = {};
  program[0] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < N; ++i)
    program[i + 1] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], static_cast<unsigned char>(N - i), 0);
  program[N + 1] = BPF_STMT(BPF_RET | BPF_K, otherwise);
  program[N + 2] = BPF_STMT(BPF_RET | BPF_K, action);
  const sock_fprog filter{N + 3, program};
  CHILD_REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHILD_REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0);
}

ExchangeSlots slots;
std::atomic<int> running{0};
std::atomic<bool> sandboxed{false};
std::atomic<int> wrong{0};

void work(uint64_t seed) {
  Random random{seed};
  for (int i = 0; i < 30000; ++i) {
    const size_t size = i % 500 == 0 ? random.between(100000, 8000000) : mixed_size(random);
    char* block = static_cast<char*>(random.below(3) == 0 ? calloc(1, size) : malloc(size));
    if (block == nullptr) {
      wrong.fetch_add(1);
      break;
    }
    memset(block, 0x77, size);
    if (random.below(6) == 0) block = static_cast<char*>(realloc(block, random.between(1, size * 2 + 1)));
    errno = 3333;
    free(slots.swap(random.next(), block));
    if (errno != 3333) wrong.fetch_add(1);
  }
  for (size_t size : {100, 5000, 100000, 3000000}) {
    char* block = static_cast<char*>(calloc(1, size));
    if (block == nullptr || find_nonzero(block, size) != kNoMismatch) wrong.fetch_add(1);
    free(block);
  }
  malloc_trim(0);
}

void* thread_main(void* seed) {
  running.fetch_add(1);  // glibc's own system calls at the start of a thread are over
  while (!sandboxed.load()) sched_yield();
  work(reinterpret_cast<uint64_t>(seed));
  syscall(SYS_exit, 0);  // glibc's own way out of a thread is not under test
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  CHILD_REQUIRE(argc == 2);
  pthread_t threads[4];
  for (uint64_t i = 0; i < 4; ++i)
    CHILD_REQUIRE(pthread_create(&threads[i], nullptr, thread_main, reinterpret_cast<void*>(i)) == 0);
  while (running.load() < 4) sched_yield();
  if (strcmp(argv[1], "kill") == 0) {
    install_filter(kAllowed, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
  } else {
    install_filter(kFailing, SECCOMP_RET_ERRNO | ENOMEM, SECCOMP_RET_ALLOW);
  }
  sandboxed = true;
  work(99);
  for (pthread_t thread : threads) CHILD_REQUIRE(pthread_join(thread, nullptr) == 0);
  slots.free_all();
  CHILD_REQUIRE(wrong.load() == 0);
  CHILD_REQUIRE(write(1, "survived\n", 9) == 9);
  _exit(0);
}
