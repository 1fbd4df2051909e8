// What every black-box test binary includes: GoogleTest, the helpers, and the check that the library under test is
// really the one that serves malloc. The tests know nothing of hz3 but what malloc(3) and the compatibility table say.
#pragma once

#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "support/child.hpp"
#include "support/duration.hpp"
#include "support/library.hpp"
#include "support/memory.hpp"
#include "support/pattern.hpp"
#include "support/threads.hpp"

// For the few places where glibc differs from what hz3 promises: the test has nothing to say about glibc.
#define SKIP_WITHOUT_LIBRARY(difference) \
  if (!library_is_expected()) GTEST_SKIP() << "HZ3_EXPECT_LIBRARY is not set; glibc: " << (difference)

namespace support_detail {

// A test that hangs is killed instead of hanging the suite; the last "[ RUN ]" line names it. Long enough for a machine that is
// busy with other things, or stops the test for minutes.
constexpr unsigned kTestGuardSeconds = 600;

class HangGuard : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { alarm(kTestGuardSeconds + static_cast<unsigned>(3 * test_seconds())); }
  void OnTestEnd(const testing::TestInfo&) override { alarm(0); }
};

class LibraryCheck : public testing::Environment {
  void SetUp() override {
    testing::UnitTest::GetInstance()->listeners().Append(new HangGuard);
    ASSERT_TRUE(expected_library_serves_malloc()) << expected_library() << " does not serve malloc here";
  }
};

[[maybe_unused]] inline testing::Environment* const kLibraryCheck = testing::AddGlobalTestEnvironment(new LibraryCheck);

}  // namespace support_detail

// The path of a helper program or plugin, which the build puts beside the test binary.
inline std::string beside_test(const std::string& name) {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  std::string directory(path, length > 0 ? static_cast<size_t>(length) : 0);
  return directory.substr(0, directory.rfind('/') + 1) + name;
}

// LD_PRELOAD of this process with a plugin in front of or behind it.
inline std::string preload_with(const std::string& plugin, bool in_front) {
  const char* inherited = getenv("LD_PRELOAD");
  if (inherited == nullptr || inherited[0] == '\0') return "LD_PRELOAD=" + plugin;
  return in_front ? "LD_PRELOAD=" + plugin + ":" + inherited : std::string("LD_PRELOAD=") + inherited + ":" + plugin;
}
