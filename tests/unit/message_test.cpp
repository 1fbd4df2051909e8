// One-line messages: what is printed, where it is cut, that errno survives.
#include "hz3/message.hpp"

#include <unistd.h>

#include <cerrno>
#include <string>

#include "tests/unit/support.hpp"

namespace hz3 {
namespace {

std::string printed(Line& line) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  line.print(fds[1]);
  close(fds[1]);
  char buffer[1024];
  const ssize_t n = read(fds[0], buffer, sizeof buffer);
  close(fds[0]);
  return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
}

TEST(Line, TextNumbersPointers) {
  Line line;
  line.text("a ").number(0).text(" ").number(SIZE_MAX).text(" ").pointer(nullptr).text(" ").pointer(
      reinterpret_cast<void*>(0xdeadbeef12));
  EXPECT_EQ(printed(line), "a 0 18446744073709551615 0x0 0xdeadbeef12\n");
}

TEST(Line, CutsWhatDoesNotFit) {
  Line line;
  for (int i = 0; i < 100; i++) line.text("0123456789");
  const std::string text = printed(line);
  EXPECT_EQ(text.size(), 256u);
  EXPECT_EQ(text.back(), '\n');
}

TEST(Line, KeepsErrnoWhenNobodyListens) {
  errno = 1234;
  Line line;
  line.text("x").print(-1);
  EXPECT_EQ(errno, 1234);
}

TEST(MessageDeathTest, DieNamesCallPointerAndFault) {
  EXPECT_DEATH(die("free", reinterpret_cast<void*>(0x10), "no good"), "^hz3: free\\(0x10\\): no good\n$");
  EXPECT_DEATH(invariant_failed("I0", "nothing holds"), "^hz3: invariant I0 broken: nothing holds\n$");
}

}  // namespace
}  // namespace hz3
