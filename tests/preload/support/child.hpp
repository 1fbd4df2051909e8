// Runs a function or a program in a child process, with limits and a deadline, and brings back what became of it.
//
// The deadline is a guard against hangs and no measurement: a child that misses it is killed with its process group.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

struct ChildOptions {
  std::vector<std::string> environment = {};        // "NAME=value" sets, "NAME" alone removes
  std::vector<std::pair<int, rlim_t>> limits = {};  // {RLIMIT_AS, bytes}, …, in force before the program starts
  int timeout_seconds = 60;
};

struct ChildResult {
  bool timed_out = false;
  int exit_code = -1;  // -1: ended by a signal
  int signal = 0;
  std::string out;
  std::string err;

  bool clean() const { return !timed_out && exit_code == 0 && err.empty(); }

  std::string describe() const {
    std::string text = timed_out     ? "timed out"
                       : signal != 0 ? "killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")"
                                     : "exit code " + std::to_string(exit_code);
    return text + "\n  stdout: " + out + "\n  stderr: " + err;
  }
};

// In a child: says what does not hold and ends it. Works without allocating, so that it can be used anywhere.
#define CHILD_REQUIRE(condition)                                                                  \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      dprintf(2, "%s:%d: does not hold: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      _exit(1);                                                                                   \
    }                                                                                             \
  } while (0)

// In a test: the child ended with 0 and wrote nothing to stderr.
#define EXPECT_CLEAN(result_expression)                 \
  do {                                                  \
    const ChildResult result_ = (result_expression);    \
    EXPECT_TRUE(result_.clean()) << result_.describe(); \
  } while (0)

namespace child_detail {

inline double now_seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline void drain(int fd, std::string& into) {
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got <= 0) return;
    into.append(buffer, static_cast<size_t>(got));
  }
}

inline void apply_options(const ChildOptions& options) {
  for (const std::string& entry : options.environment) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) {
      unsetenv(entry.c_str());
    } else {
      setenv(entry.substr(0, equals).c_str(), entry.c_str() + equals + 1, 1);
    }
  }
  for (const auto& [resource, bytes] : options.limits) {
    const rlimit limit{bytes, bytes};
    if (setrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) _exit(125);
  }
}

inline ChildResult collect(pid_t child, int out_fd, int err_fd, int timeout_seconds) {
  ChildResult result;
  fcntl(out_fd, F_SETFL, O_NONBLOCK);
  fcntl(err_fd, F_SETFL, O_NONBLOCK);
  const double deadline = now_seconds() + timeout_seconds;
  int status = 0;
  for (;;) {
    pollfd fds[2] = {{out_fd, POLLIN, 0}, {err_fd, POLLIN, 0}};
    poll(fds, 2, 5);
    drain(out_fd, result.out);
    drain(err_fd, result.err);
    if (waitpid(child, &status, WNOHANG) == child) break;
    if (now_seconds() > deadline) {
      result.timed_out = true;
      kill(-child, SIGKILL);
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      break;
    }
  }
  drain(out_fd, result.out);
  drain(err_fd, result.err);
  close(out_fd);
  close(err_fd);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace child_detail

// Forks and runs `body`; its return value is the exit code.
inline ChildResult run_in_child(const std::function<int()>& body, const ChildOptions& options = {}) {
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) abort();
  const pid_t child = fork();
  if (child < 0) abort();
  if (child == 0) {
    setpgid(0, 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    close(out[0]);
    close(err[0]);
    child_detail::apply_options(options);
    _exit(body());
  }
  close(out[1]);
  close(err[1]);
  return child_detail::collect(child, out[0], err[0], options.timeout_seconds);
}

// Runs a program; LD_PRELOAD and the rest of the environment are inherited unless the options say otherwise.
inline ChildResult run_program(const std::vector<std::string>& arguments, const ChildOptions& options = {}) {
  return run_in_child(
      [&arguments] {
        std::vector<char*> argv;
        for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
        argv.push_back(nullptr);
        execv(argv[0], argv.data());
        dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
        return 126;
      },
      options);
}
