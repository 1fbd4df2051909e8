// What can be set while a program runs, by the environment and by mallopt: docs/settings.md. Nothing is timed: where memory is
// to go back the allocator has ten seconds.
#include <sys/stat.h>

#include "hz3/hz3.h"
#include "support.hpp"

namespace {

ChildResult quiet(const std::string& who, std::vector<std::string> environment, const char* guard_seconds = "10") {
  return run_program({beside_test("quiet"), who, guard_seconds}, {.environment = std::move(environment)});
}

// The percentages that the program printed.
std::vector<int> percents(const std::string& out) {
  std::vector<int> found;
  for (size_t at = out.find(" %"); at != std::string::npos; at = out.find(" %", at + 1))
    found.push_back(atoi(out.c_str() + out.rfind(' ', at - 1) + 1));
  return found;
}

// Frees 100 MiB in this process, from all kinds of blocks, and lets time pass; how much more is resident then.
size_t left_after_free_and_ticks() {
  const size_t before = resident_bytes();
  std::vector<void*> blocks;
  blocks.reserve(100 * kMiB / 1000);
  for (size_t size : {1000, 20000, 100000, 600000})
    for (size_t held = 0; held < 25 * kMiB; held += size) blocks.push_back(memset(malloc(size), 1, size));
  for (void* block : blocks) free(block);
  for (int i = 0; i < 150; ++i) tick();
  const size_t after = resident_bytes();
  return after > before ? after - before : 0;
}

}  // namespace

class BackgroundThread : public testing::TestWithParam<const char*> {};

TEST_P(BackgroundThread, gives_back_98_percent_of_a_process_that_goes_quiet) {
  SKIP_WITHOUT_LIBRARY("has none");
  const ChildResult result = quiet(GetParam(), {"HZ3_BACKGROUND_THREAD=1"});
  EXPECT_TRUE(result.clean()) << result.describe();
  const std::vector<int> left = percents(result.out);
  EXPECT_FALSE(left.empty()) << result.out;
  // Threads that sleep keep what fits into their bins: four of them, 7 sizes.
  for (int percent : left) EXPECT_LT(percent, GetParam() == std::string("sleeping") ? 5 : 2) << result.out;
  EXPECT_NE(result.out.find("threads at first: 1\n"), std::string::npos) << "it starts late\n" << result.out;
  EXPECT_NE(result.out.find("threads at last: 2\n"), std::string::npos) << result.out;
}
INSTANTIATE_TEST_SUITE_P(quiet, BackgroundThread, testing::Values("main", "sleeping", "ended", "fork"));

TEST(BackgroundThread, is_not_there_unless_asked_for) {
  SKIP_WITHOUT_LIBRARY("has none");
  for (const char* value : {"HZ3_BACKGROUND_THREAD", "HZ3_BACKGROUND_THREAD=0"}) {
    const ChildResult result = quiet("ended", {value}, "1");
    EXPECT_TRUE(result.clean()) << result.describe();
    EXPECT_NE(result.out.find("threads at last: 1\n"), std::string::npos) << result.out;
  }
}

TEST(BackgroundThread, is_not_there_in_a_program_that_has_nothing_to_give_back) {
  SKIP_WITHOUT_LIBRARY("has none");
  const ChildResult result = quiet("nothing", {"HZ3_BACKGROUND_THREAD=1"});
  EXPECT_TRUE(result.clean()) << result.describe();
  EXPECT_NE(result.out.find("threads at last: 1\n"), std::string::npos) << result.out;
}

TEST(BackgroundThread, keeps_no_process_alive) {
  SKIP_WITHOUT_LIBRARY("has none");
  // With this decay time it has work for ten minutes when the last thread of the program ends.
  EXPECT_CLEAN(quiet("exit", {"HZ3_BACKGROUND_THREAD=1", "HZ3_DECAY_MS=600000"}));
  EXPECT_CLEAN(quiet("exit", {"HZ3_BACKGROUND_THREAD=1"}));
}

TEST(BackgroundThread, beside_threads_that_fork) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_program({beside_test("fork_many"), "--runs", "3"},
                           {.environment = {"HZ3_BACKGROUND_THREAD=1", "HZ3_DECAY_MS=10"}, .timeout_seconds = 150}));
}

TEST(BackgroundThread, is_switched_by_mallopt) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_HZ3_BACKGROUND_THREAD, 1) == 1);
    CHILD_REQUIRE(mallopt(M_HZ3_BACKGROUND_THREAD, 2) == 0);
    const size_t before = resident_bytes();
    std::vector<void*> blocks(100 * kMiB / 1000);
    for (void*& block : blocks) block = memset(malloc(1000), 1, 1000);
    for (void* block : blocks) free(block);
    for (int i = 0; i < 1000 && resident_bytes() > before + 3 * kMiB; ++i) sleep_milliseconds(10);
    CHILD_REQUIRE(resident_bytes() < before + 4 * kMiB);
    CHILD_REQUIRE(mallopt(M_HZ3_BACKGROUND_THREAD, 0) == 1);
    return 0;
  }));
}

TEST(DecayTime, endless_keeps_what_is_free_until_it_is_asked_for) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_HZ3_DECAY_MS, -1) == 1);
    CHILD_REQUIRE(left_after_free_and_ticks() > 80 * kMiB);
    const size_t before = resident_bytes();
    CHILD_REQUIRE(malloc_trim(0) == 1);
    CHILD_REQUIRE(resident_bytes() + 80 * kMiB < before);
    return 0;
  }));
}

TEST(DecayTime, is_changed_while_the_program_runs) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_HZ3_DECAY_MS, 600001) == 0);
    CHILD_REQUIRE(mallopt(M_HZ3_DECAY_MS, 0) == 1);
    CHILD_REQUIRE(left_after_free_and_ticks() < 8 * kMiB);
    CHILD_REQUIRE(mallopt(M_HZ3_DECAY_MS, 100) == 1);
    CHILD_REQUIRE(left_after_free_and_ticks() < 8 * kMiB);
    return 0;
  }));
}

TEST(TrimThreshold, of_minus_one_keeps_what_is_free) {
  SKIP_WITHOUT_LIBRARY("trims the top of its heap alone");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_TRIM_THRESHOLD, -1) == 1);
    CHILD_REQUIRE(left_after_free_and_ticks() > 80 * kMiB);
    CHILD_REQUIRE(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    CHILD_REQUIRE(left_after_free_and_ticks() < 8 * kMiB);
    return 0;
  }));
}

TEST(Environment, a_wrong_value_is_one_line_and_the_program_runs) {
  SKIP_WITHOUT_LIBRARY("reads other variables");
  for (const char* entry : {"HZ3_DECAY_MS=soon", "HZ3_BACKGROUND_THREAD=yes"}) {
    const ChildResult result = quiet("nothing", {entry});
    EXPECT_EQ(result.exit_code, 0) << result.describe();
    EXPECT_EQ(result.err.find(std::string("hz3: ") + entry + ": ignored; allowed: "), 0u) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

// A copy that runs as somebody else, as any set-uid program, and opens the library itself: the loader would not preload it.
TEST(Environment, is_ignored_by_set_uid_programs) {
  SKIP_WITHOUT_LIBRARY("reads other variables");
  if (getuid() != 0) GTEST_SKIP() << "only root can make a program of somebody else's";
  char folder[] = "/tmp/hz3-set-uid-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  ASSERT_EQ(chmod(folder, 0755), 0);
  const std::string program = std::string(folder) + "/program", library = std::string(folder) + "/library.so";
  ASSERT_EQ(
      system(("cp " + beside_test("dlopen_library") + " " + program + " && cp " + expected_library() + " " + library).c_str()),
      0);
  // A library that counts its lines writes what it counted, and somebody else may not where it was built.
  const auto run = [&](const std::string& counts) {
    return run_program({program, library},
                       {.environment = {"LD_PRELOAD", "HZ3_EXPECT_LIBRARY", "HZ3_DECAY_MS=soon", "GCOV_PREFIX=" + counts}});
  };
  const std::string counts = std::string(folder) + "/counts";
  ASSERT_EQ(mkdir(counts.c_str(), 0700) | chmod(counts.c_str(), 0777), 0);
  const ChildResult plain = run("");
  EXPECT_EQ(plain.exit_code, 0) << plain.describe();
  EXPECT_EQ(plain.err.find("hz3: HZ3_DECAY_MS=soon"), 0u) << plain.err;
  EXPECT_EQ(chown(program.c_str(), 65534, 65534) | chmod(program.c_str(), 04755), 0);
  EXPECT_CLEAN(run(counts));
  EXPECT_EQ(system(("rm -r " + std::string(folder)).c_str()), 0);
}
