// Runs a command and measures it from a process of its own, because a process starts with the peak RSS of the one that
// forked it: started by a Python program, nothing would seem to need less memory than Python.
//
//   measure RESULT PRELOAD COMMAND [ARGUMENT...]
//
// PRELOAD becomes the command's LD_PRELOAD; '' sets none. The file RESULT receives one line: exit status (128 + signal
// number if one ended it), wall nanoseconds, CPU microseconds, peak RSS in KiB, mean RSS in KiB, page faults.
// The first line of RESULT, written before the command runs, is its process id. The file RESULT.rss has a line for each look at
// its memory: milliseconds since the start, RSS in KiB.
//
// RSS is that of the command and all that descends from it, looked at every 10 ms: the pages that each process has for itself,
// and the largest of what they share (a program's text, a database's buffers), which would otherwise count once for each. The
// peak is never less than the exact one of the largest process, which the kernel keeps. The mean is over time; 0: the command
// ended before it could be looked at.
#include <dirent.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr int kIntervalMs = 10;

long long now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "measure: %s: %s\n", what, std::strerror(errno));
  std::_Exit(125);
}

// Appends the children of `pid` to `found`. A process that is gone has none.
void add_children(pid_t pid, std::vector<pid_t>& found) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task/";
  DIR* folder = opendir(tasks.c_str());
  if (folder == nullptr) return;
  while (const dirent* task = readdir(folder)) {
    if (task->d_name[0] == '.') continue;
    std::FILE* children = std::fopen((tasks + task->d_name + "/children").c_str(), "re");
    if (children == nullptr) continue;
    for (int child = 0; std::fscanf(children, "%d", &child) == 1;) found.push_back(child);
    std::fclose(children);
  }
  closedir(folder);
}

// KiB, of `first` and all that descends from it.
long long resident_kib(pid_t first) {
  static const long page_kib = sysconf(_SC_PAGESIZE) / 1024;
  std::vector<pid_t> processes{first};
  long long own_pages = 0, most_shared = 0;
  for (size_t i = 0; i < processes.size(); ++i) {
    const pid_t pid = processes[i];
    long long size = 0, resident = 0, shared = 0;
    std::FILE* statm = std::fopen(("/proc/" + std::to_string(pid) + "/statm").c_str(), "re");
    if (statm == nullptr) continue;
    if (std::fscanf(statm, "%lld %lld %lld", &size, &resident, &shared) == 3) {
      own_pages += resident - shared;
      most_shared = std::max(most_shared, shared);
    }
    std::fclose(statm);
    add_children(pid, processes);
  }
  return (own_pages + most_shared) * page_kib;
}

struct Memory {
  long long peak_kib = 0;
  double kib_ns = 0;
  long long ns = 0;

  // What was seen at one look counts for the time since the one before. Returns it.
  long long look(pid_t pid, long long since_ns) {
    const long long kib = resident_kib(pid);
    peak_kib = std::max(peak_kib, kib);
    kib_ns += static_cast<double>(kib) * static_cast<double>(since_ns);
    ns += since_ns;
    return kib;
  }
  long long mean_kib() const { return ns == 0 ? 0 : static_cast<long long>(kib_ns / static_cast<double>(ns)); }
};

// Looks at the process until it ends, and writes what it sees to `series`.
Memory watch(pid_t pid, long long started, std::FILE* series) {
  Memory memory;
  const int ended = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));  // the C library's declaration is none for C++
  if (ended < 0) fail("pidfd_open");
  pollfd wanted{ended, POLLIN, 0};
  for (long long last = started; poll(&wanted, 1, kIntervalMs) == 0;) {
    const long long now = now_ns();
    const long long kib = memory.look(pid, now - last);
    std::fprintf(series, "%lld %lld\n", (now - started) / 1'000'000, kib);
    last = now;
  }
  close(ended);
  return memory;
}

long long microseconds(const timeval& time) { return time.tv_sec * 1'000'000LL + time.tv_usec; }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: measure RESULT PRELOAD COMMAND [ARGUMENT...]\n", stderr);
    return 125;
  }
  std::FILE* result = std::fopen(argv[1], "we");
  if (result == nullptr) fail(argv[1]);
  std::FILE* series = std::fopen((std::string(argv[1]) + ".rss").c_str(), "we");
  if (series == nullptr) fail("the file of the series");
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
  const Memory memory = watch(child, started, series);
  std::fclose(series);
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0)
    if (errno != EINTR) fail("wait4");
  const long long wall = now_ns() - started;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  std::fprintf(result, "%d %lld %lld %lld %lld %ld\n", code, wall, microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
               std::max<long long>(memory.peak_kib, usage.ru_maxrss), memory.mean_kib(), usage.ru_minflt + usage.ru_majflt);
  return std::fclose(result) == 0 ? 0 : 125;
}
