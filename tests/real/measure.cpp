// Runs a command and measures it from a process of its own, because a process starts with the peak RSS of the one that
// forked it: started by a Python program, nothing would seem to need less memory than Python.
//
//   measure RESULT PRELOAD COMMAND [ARGUMENT...]
//
// PRELOAD becomes the command's LD_PRELOAD; '' sets none. The file RESULT receives one line: exit status (128 + signal
// number if one ended it), wall nanoseconds, CPU microseconds, peak RSS in KiB of the largest of the command's processes.
// The first line of RESULT, written before the command runs, is its process id.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

long long now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "measure: %s: %s\n", what, std::strerror(errno));
  std::_Exit(125);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: measure RESULT PRELOAD COMMAND [ARGUMENT...]\n", stderr);
    return 125;
  }
  std::FILE* result = std::fopen(argv[1], "we");
  if (result == nullptr) fail(argv[1]);
  const long long started = now_ns();
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // nothing is left behind when the measuring process is ended
    if (*argv[2] != '\0') setenv("LD_PRELOAD", argv[2], 1);
    execvp(argv[3], argv + 3);
    fail(argv[3]);
  }
  std::fprintf(result, "%d\n", static_cast<int>(child));
  std::fflush(result);
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0)
    if (errno != EINTR) fail("wait4");
  const long long wall = now_ns() - started;
  const long long cpu =
      (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  std::fprintf(result, "%d %lld %lld %ld\n", code, wall, cpu, usage.ru_maxrss);
  return std::fclose(result) == 0 ? 0 : 125;
}
