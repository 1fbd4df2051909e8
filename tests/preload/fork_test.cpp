// fork, vfork, posix_spawn and bare clone in processes of many busy threads. Each test runs in a child of its own: what
// hangs or dies takes that child with it and nothing else.
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "support.hpp"
#include "support/fork_work.hpp"

namespace {

std::atomic<int> handler_forks{0};
std::atomic<int> handler_failures{0};

// fork in a signal handler that may have interrupted the allocator: the child ends at once, the parent goes on.
void fork_in_handler(int) {
  const int saved_errno = errno;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) handler_failures.fetch_add(1);
  handler_forks.fetch_add(1);
  errno = saved_errno;
}

void install_handler() {
  struct sigaction action {};
  action.sa_handler = fork_in_handler;
  action.sa_flags = SA_RESTART;
  CHILD_REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  CHILD_REQUIRE(sigaction(SIGPROF, &action, nullptr) == 0);
}

void churn(std::atomic<bool>& stop) {
  Random random{17};
  std::vector<void*> blocks(3000);
  while (!stop.load(std::memory_order_relaxed)) {
    void*& block = blocks[random.below(blocks.size())];
    free(block);
    block = malloc(mixed_size(random));
  }
  for (void* block : blocks) free(block);
}

bool wait_ended_well(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

char* const kTrueArguments[] = {const_cast<char*>("/bin/true"), nullptr};

}  // namespace

TEST(Fork, single_threaded_child_works) {
  EXPECT_CLEAN(run_in_child([] {
    checked_work(1, 2000);
    ExchangeSlots slots;
    for (uint64_t i = 0; i < 20; ++i) CHILD_REQUIRE(fork_and_work(i, slots));
    slots.free_all();
    return 0;
  }));
}

TEST(Fork, child_of_eight_busy_threads_works) {
  const ChildResult result =
      run_program({beside_test("fork_many"), "--runs", "60", "--threads", "8"}, {.timeout_seconds = 150});
  EXPECT_TRUE(result.clean()) << result.describe();
  EXPECT_EQ(result.out, "runs=60 failures=0\n");
}

TEST(Fork, concurrent_forks_of_several_threads) {
  EXPECT_CLEAN(run_in_child([] {
    BusyThreads busy(3);
    std::atomic<int> failures{0};
    run_threads(5, [&](size_t thread) {
      for (uint64_t i = 0; i < 12; ++i) {
        if (!fork_and_work(thread * 100 + i, busy.slots(), 0)) failures.fetch_add(1);
      }
    });
    busy.stop();
    return failures.load();
  }));
}

TEST(Fork, parent_goes_on_unharmed) {
  EXPECT_CLEAN(run_in_child([] {
    std::atomic<bool> stop{false};
    std::vector<Thread> workers;
    for (uint64_t i = 0; i < 4; ++i) {
      workers.emplace_back([&stop, i] {
        for (uint64_t round = 0; !stop.load(); ++round) checked_work(i * 1000 + round, 2000);
      });
    }
    for (int i = 0; i < 200; ++i) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      CHILD_REQUIRE(child > 0 && wait_ended_well(child));
    }
    stop = true;
    for (Thread& worker : workers) worker.join();
    return 0;
  }));
}

TEST(Fork, beside_starting_and_ending_threads) {
  EXPECT_CLEAN(run_in_child([] {
    std::atomic<bool> stop{false};
    std::vector<Thread> starters;
    for (uint64_t i = 0; i < 3; ++i) {
      starters.emplace_back([&stop, i] {
        while (!stop.load()) run_threads(2, [i](size_t j) { checked_work(i + j, 100); });
      });
    }
    ExchangeSlots slots;
    for (uint64_t i = 0; i < 60; ++i) CHILD_REQUIRE(fork_and_work(i, slots, 0));
    stop = true;
    for (Thread& starter : starters) starter.join();
    return 0;
  }));
}

TEST(Fork, beside_statistics_and_trim) {
  EXPECT_CLEAN(run_in_child([] {
    std::atomic<bool> stop{false};
    Thread statistics([&] {
      FILE* stream = fopen("/dev/null", "we");
      while (!stop.load()) {
        (void)mallinfo2();
        malloc_info(0, stream);
        malloc_trim(0);
      }
      fclose(stream);
    });
    BusyThreads busy(2);
    for (uint64_t i = 0; i < 40; ++i) CHILD_REQUIRE(fork_and_work(i, busy.slots(), 0));
    stop = true;
    statistics.join();
    busy.stop();
    return 0;
  }));
}

TEST(Fork, handlers_of_any_library_may_allocate) {
  const std::string plugin = beside_test("atfork_allocates_plugin.so");
  for (bool in_front : {true, false}) {
    const ChildResult result = run_program({beside_test("fork_many"), "--runs", "10", "--threads", "3"},
                                           {.environment = {preload_with(plugin, in_front)}});
    EXPECT_CLEAN(result);
    EXPECT_NE(result.out.find("failures=0"), std::string::npos) << result.out;
  }
}

TEST(Fork, chain_of_generations) {
  EXPECT_CLEAN(run_in_child([] {
    BusyThreads busy(4);
    for (uint64_t i = 0; i < 5; ++i) CHILD_REQUIRE(fork_and_work(i, busy.slots(), 6));
    busy.stop();
    return 0;
  }));
}

TEST(Fork, memory_of_a_forking_process_stays_bounded) {
  EXPECT_CLEAN(run_in_child([] {
    // A daemon that forks from its child again and again inherits what each generation strands.
    BusyThreads busy(4);
    const size_t before = resident_bytes();
    size_t depth = 0;
    for (; depth < 60; ++depth) {
      const pid_t child = fork();
      CHILD_REQUIRE(child >= 0);
      if (child != 0) {
        const bool well = wait_ended_well(child);
        if (depth == 0) busy.stop();
        _exit(well ? 0 : 1);
      }
      CHILD_REQUIRE(run_threads(3, [](size_t i) { checked_work(i, 300); }) == 3);
    }
    CHILD_REQUIRE(resident_bytes() < before + 128 * kMiB);
    return 0;
  }));
}

// What deadlocks here does so at once.
const ChildOptions kHandlerOptions{.timeout_seconds = 25};

TEST(ForkInSignalHandler, of_one_thread_that_allocates) {
  SKIP_WITHOUT_LIBRARY("deadlocks when the handler interrupts an arena's lock");
  EXPECT_CLEAN(run_in_child(
      [] {
        install_handler();
        const itimerval every_millisecond{{0, 1000}, {0, 1000}};
        CHILD_REQUIRE(setitimer(ITIMER_PROF, &every_millisecond, nullptr) == 0);
        std::atomic<bool> stop{false};
        Thread stopper([&] {
          sigset_t all;
          sigfillset(&all);
          pthread_sigmask(SIG_SETMASK, &all, nullptr);
          while (handler_forks.load() < 200) sleep_milliseconds(1);
          stop = true;
        });
        churn(stop);
        const itimerval off{};
        setitimer(ITIMER_PROF, &off, nullptr);
        stopper.join();
        return handler_failures.load();
      },
      kHandlerOptions));
}

TEST(ForkInSignalHandler, of_several_busy_threads) {
  SKIP_WITHOUT_LIBRARY("deadlocks when the handler interrupts an arena's lock");
  EXPECT_CLEAN(run_in_child(
      [] {
        install_handler();
        std::atomic<bool> stop{false};
        std::vector<pthread_t> handles(3);
        std::atomic<size_t> ready{0};
        std::vector<Thread> workers;
        for (size_t i = 0; i < handles.size(); ++i) {
          workers.emplace_back([&, i] {
            handles[i] = pthread_self();
            ready.fetch_add(1);
            churn(stop);
          });
        }
        while (ready.load() < handles.size()) sched_yield();
        for (int i = 0; i < 300; ++i) {
          const int before = handler_forks.load();
          pthread_kill(handles[static_cast<size_t>(i) % handles.size()], SIGUSR1);
          while (handler_forks.load() == before) sched_yield();
        }
        stop = true;
        for (Thread& worker : workers) worker.join();
        return handler_failures.load();
      },
      kHandlerOptions));
}

TEST(Exec, vfork_and_exec_under_load) {
  EXPECT_CLEAN(run_in_child([] {
    BusyThreads busy(4);
    for (int i = 0; i < 150; ++i) {
      const pid_t child = vfork();
      if (child == 0) {
        execv(kTrueArguments[0], kTrueArguments);
        _exit(127);
      }
      CHILD_REQUIRE(child > 0 && wait_ended_well(child));
    }
    busy.stop();
    return 0;
  }));
}

TEST(Exec, posix_spawn_under_load_from_several_threads) {
  EXPECT_CLEAN(run_in_child([] {
    BusyThreads busy(3);
    std::atomic<int> failures{0};
    run_threads(3, [&](size_t) {
      for (int i = 0; i < 50; ++i) {
        pid_t child = -1;
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        if (posix_spawnp(&child, "true", &actions, nullptr, kTrueArguments, environ) != 0 || !wait_ended_well(child)) {
          failures.fetch_add(1);
        }
        posix_spawn_file_actions_destroy(&actions);
      }
    });
    busy.stop();
    return failures.load();
  }));
}

TEST(Exec, clone_without_handlers_can_free_and_exec) {
  EXPECT_CLEAN(run_in_child([] {
    // No atfork handler runs: the child has whatever locks the dead threads held, and its own few free blocks.
    BusyThreads busy(4);
    for (int i = 0; i < 200; ++i) {
      void* blocks[] = {malloc(24), malloc(100), malloc(1000)};
      for (void* block : blocks) CHILD_REQUIRE(block != nullptr);
      const pid_t child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
      if (child == 0) {
        alarm(20);
        for (void* block : blocks) free(block);
        execv(kTrueArguments[0], kTrueArguments);
        _exit(127);
      }
      for (void* block : blocks) free(block);
      CHILD_REQUIRE(child > 0 && wait_ended_well(child));
    }
    busy.stop();
    return 0;
  }));
}

TEST(Exec, popen_and_system_under_load) {
  EXPECT_CLEAN(run_in_child([] {
    BusyThreads busy(3);
    for (int i = 0; i < 25; ++i) {
      FILE* pipe = popen("echo $((6 * 7))", "re");
      CHILD_REQUIRE(pipe != nullptr);
      int answer = 0;
      CHILD_REQUIRE(fscanf(pipe, "%d", &answer) == 1 && answer == 42);
      CHILD_REQUIRE(pclose(pipe) == 0);
      CHILD_REQUIRE(system("exit 0") == 0);
    }
    busy.stop();
    return 0;
  }));
}
