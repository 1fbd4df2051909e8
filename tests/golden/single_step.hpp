// Counts what a call executes, exactly: a child process does the work, and between two marks its parent takes it through one
// instruction at a time (ptrace) and looks where it stands. Only instructions of the library are counted, and each goes to the
// call by which the library was entered: neither the compiler of this program nor what the C library does has a part in the
// numbers. x86-64 Linux.
#pragma once

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct Range {
  uintptr_t begin, end;
  bool holds(uintptr_t address) const { return address >= begin && address < end; }
};

// An entry point and what its calls between the marks executed.
struct Entry {
  const char* name;
  uintptr_t address;
  unsigned long calls, instructions;
  unsigned long least, most;  // instructions of one call
};

struct Work {
  void (*prepare)();  // may be nullptr
  void (*round)();    // what is counted, after it ran kWarmUpRounds times at full speed
  Entry* entries;
  size_t entry_count;
};

constexpr int kWarmUpRounds = 3;
constexpr long kMostSteps = 500000;  // a round is some thousands
constexpr int kSkip = 77;

// The marks. The second is recognised by its address.
[[gnu::noinline]] inline void begin_mark() { __asm__ volatile("int3" ::: "memory"); }
[[gnu::noinline]] inline void end_mark() { __asm__ volatile("" ::: "memory"); }

class SingleStepper {
 public:
  explicit SingleStepper(Range counted) : counted_(counted) {}

  // 0, or kSkip, or 1; problem() tells what is behind the last two.
  int count(const Work& work) {
    problem_[0] = '\0';
    child_ = fork();
    if (child_ < 0) return fails("fork");
    if (child_ == 0) run_child(work);
    const int result = trace(work);
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    return result;
  }
  const char* problem() const { return problem_; }

 private:
  [[noreturn]] static void run_child(const Work& work) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(kSkip);
    if (work.prepare != nullptr) work.prepare();
    for (int i = 0; i < kWarmUpRounds; ++i) work.round();
    begin_mark();
    work.round();
    end_mark();
    _exit(0);
  }

  int trace(const Work& work) {
    int status = 0;
    if (!wait_for_child(&status)) return fails("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == kSkip) return skips("a process may not be traced here (PTRACE_TRACEME)");
    if (!is_trap(status)) return ended("before the first mark", status);

    Entry* call = nullptr;         // the one in progress
    uintptr_t return_address = 0;  // where it ends
    unsigned long executed = 0;    // by it
    uintptr_t last = 0;
    for (long steps = 0; steps < kMostSteps; ++steps) {
      const uintptr_t at = peek(PTRACE_PEEKUSER, offsetof(user_regs_struct, rip));
      if (at == reinterpret_cast<uintptr_t>(&end_mark)) return 0;
      if (call != nullptr && at == return_address) {
        finish(call, executed);
        call = nullptr;
      }
      if (counted_.holds(at)) {
        if (call == nullptr) {
          call = entry_at(work, at);
          if (call == nullptr) return entered_elsewhere(at);
          return_address = peek(PTRACE_PEEKDATA, peek(PTRACE_PEEKUSER, offsetof(user_regs_struct, rsp)));
          executed = 0;
        }
        // A repeated string instruction traps after each repetition; it is one instruction all the same.
        if (at != last) ++executed;
      }
      last = at;
      if (ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) != 0) return skips("PTRACE_SINGLESTEP is refused");
      if (!wait_for_child(&status)) return fails("waitpid");
      if (!is_trap(status)) return ended("between the marks", status);
    }
    snprintf(problem_, sizeof problem_, "the second mark was not reached in %ld steps", kMostSteps);
    return 1;
  }

  static void finish(Entry* call, unsigned long executed) {
    if (call->calls == 0 || executed < call->least) call->least = executed;
    if (executed > call->most) call->most = executed;
    call->calls++;
    call->instructions += executed;
  }

  static Entry* entry_at(const Work& work, uintptr_t address) {
    for (size_t i = 0; i < work.entry_count; ++i)
      if (work.entries[i].address == address) return &work.entries[i];
    return nullptr;
  }

  uintptr_t peek(__ptrace_request request, uintptr_t where) const {
    return static_cast<uintptr_t>(ptrace(request, child_, reinterpret_cast<void*>(where), nullptr));
  }

  bool wait_for_child(int* status) const {
    pid_t got;
    do got = waitpid(child_, status, 0);
    while (got < 0 && errno == EINTR);
    return got == child_;
  }

  static bool is_trap(int status) { return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP; }

  int fails(const char* what) {
    snprintf(problem_, sizeof problem_, "%s: %s", what, strerror(errno));
    return 1;
  }

  int skips(const char* why) {
    snprintf(problem_, sizeof problem_, "%s", why);
    return kSkip;
  }

  int entered_elsewhere(uintptr_t at) {
    snprintf(problem_, sizeof problem_, "entered at offset %#zx of its code, which is no entry point of this case",
             at - counted_.begin);
    return 1;
  }

  int ended(const char* where, int status) {
    if (!WIFSTOPPED(status)) child_ = 0;  // and waited for
    const int code = WIFSTOPPED(status) ? WSTOPSIG(status) : WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    snprintf(problem_, sizeof problem_, "the child got %s %d %s", WIFEXITED(status) ? "to exit status" : "signal", code, where);
    return 1;
  }

  const Range counted_;
  pid_t child_ = 0;
  char problem_[200];
};
