// The calls to the kernel: what they promise, and that errno is as it was whatever happens.
#include "hz3/os.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/support.hpp"

namespace hz3::os {
namespace {

constexpr size_t kBytes = size_t{1} << 20;

class Os : public testing::Test {
 protected:
  void SetUp() override { errno = 4321; }
  void TearDown() override { EXPECT_EQ(errno, 4321); }
};

TEST_F(Os, ReservedThenCommittedIsZeroAndWritable) {
  char* p = static_cast<char*>(calls.reserve(kBytes));
  ASSERT_NE(p, nullptr);
  ASSERT_TRUE(calls.commit(p, kBytes));
  EXPECT_TRUE(test::all_bytes(p, kBytes, 0));
  memset(p, 1, kBytes);
  ASSERT_TRUE(calls.advise(p, kBytes, Advice::DontNeed));
  EXPECT_TRUE(test::all_bytes(p, kBytes, 0));
  calls.release(p, kBytes);
}

TEST_F(Os, DecommitDropsContentsAndKeepsTheAddresses) {
  char* p = static_cast<char*>(calls.reserve(kBytes));
  ASSERT_TRUE(calls.commit(p, kBytes));
  memset(p, 1, kBytes);
  ASSERT_TRUE(calls.decommit(p, kBytes));
  unsigned char seen[kBytes / 4096 + 1];
  EXPECT_EQ(mincore(p, kBytes, seen), 0) << "the range is mapped still";
  ASSERT_TRUE(calls.commit(p, kBytes));
  EXPECT_TRUE(test::all_bytes(p, kBytes, 0));
  calls.release(p, kBytes);
}

TEST_F(Os, MoveTakesThePagesAndLeavesZeros) {
  char* from = static_cast<char*>(calls.reserve(kBytes));
  char* to = static_cast<char*>(calls.reserve(kBytes));
  ASSERT_TRUE(calls.commit(from, kBytes) && calls.commit(to, kBytes));
  memset(from, 7, kBytes);
  if (calls.move(from, to, kBytes) != Moved::Yes) GTEST_SKIP() << "this kernel has no MREMAP_DONTUNMAP";
  EXPECT_TRUE(test::all_bytes(to, kBytes, 7));
  EXPECT_TRUE(test::all_bytes(from, kBytes, 0));
  calls.release(from, kBytes);
  calls.release(to, kBytes);
}

// As older kernels leave it: `from` is nothing that can be moved, and the target is unmapped.
TEST_F(Os, ARefusedMoveThatUnmappedItsTargetMapsItAnew) {
  char* from = static_cast<char*>(calls.reserve(kBytes));
  char* to = static_cast<char*>(calls.reserve(3 * kBytes)) + kBytes;
  ASSERT_TRUE(calls.commit(to - kBytes, 3 * kBytes));
  memset(to - kBytes, 7, 3 * kBytes);
  calls.release(from, kBytes);
  calls.release(to, kBytes);
  ASSERT_EQ(calls.move(from, to, kBytes), Moved::No);
  EXPECT_TRUE(test::all_bytes(to, kBytes, 0));
  memset(to, 1, kBytes);
  EXPECT_TRUE(test::all_bytes(to - kBytes, kBytes, 7) && test::all_bytes(to + kBytes, kBytes, 7));
  calls.release(to - kBytes, 3 * kBytes);
}

TEST_F(Os, ARefusedMoveLeavesWhatOthersMappedMeanwhile) {
  char* from = static_cast<char*>(calls.reserve(kBytes));
  char* to = static_cast<char*>(calls.reserve(kBytes));
  ASSERT_TRUE(calls.commit(to, kBytes));
  memset(to, 7, kBytes);
  calls.release(from, kBytes);
  EXPECT_EQ(calls.move(from, to, kBytes), Moved::Lost) << "nobody can tell whose it is";
  EXPECT_TRUE(test::all_bytes(to, kBytes, 7));
  calls.release(to, kBytes);
}

TEST_F(Os, RefusalsAreReported) {
  void* nowhere = reinterpret_cast<void*>(uintptr_t{1} << 60);
  EXPECT_EQ(calls.reserve(size_t{1} << 60), nullptr);
  EXPECT_FALSE(calls.commit(nowhere, kBytes));
  EXPECT_FALSE(calls.decommit(nowhere, kBytes));
  EXPECT_FALSE(calls.advise(nowhere, kBytes, Advice::DontNeed));
  EXPECT_EQ(calls.move(nowhere, nowhere, kBytes), Moved::No);
  calls.release(nowhere, kBytes);
}

TEST_F(Os, EveryAdviceIsTakenOrRefusedQuietly) {
  char* p = static_cast<char*>(calls.reserve(kBytes));
  ASSERT_TRUE(calls.commit(p, kBytes));
  for (Advice a : {Advice::DontNeed, Advice::Free, Advice::Cold}) calls.advise(p, kBytes, a);
  memset(p, 1, kBytes);
  calls.release(p, kBytes);
}

TEST_F(Os, ClockAndPageSize) {
  const uint64_t a = now_ms();
  usleep(20000);
  errno = 4321;
  EXPECT_GT(now_ms(), a);
  EXPECT_EQ(page_size(), static_cast<size_t>(sysconf(_SC_PAGESIZE)));
}

TEST(OsDeathTest, AddressSpaceLimitIsReadOnce) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old), 0);
  const size_t expected = old.rlim_cur == RLIM_INFINITY ? SIZE_MAX : old.rlim_cur;
  EXPECT_EQ(address_space_limit(), expected);
  EXPECT_EXIT(
      {
        rlimit limit = old;
        limit.rlim_cur = size_t{1} << 45;
        setrlimit(RLIMIT_AS, &limit);
        _exit(address_space_limit() == expected ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// Where the kernel put a mapping of one page says how it fills the addresses.
TEST_F(Os, FillsFromTopWhereASmallMappingIsNotFoundBelow) {
  static char* probe;
  char* const p = reinterpret_cast<char*>(uintptr_t{1} << 40);
  constexpr size_t kBytes = size_t{1} << 30;
  const Calls before = calls;
  calls.reserve = [](size_t) -> void* { return probe; };
  calls.release = [](void*, size_t) {};
  const auto fills_from_top = [&](char* at) {
    probe = at;
    return hz3::os::fills_from_top(p, kBytes);
  };
  EXPECT_TRUE(fills_from_top(p + kBytes - page_size()));
  EXPECT_TRUE(fills_from_top(p + 2 * kBytes)) << "in a hole above";
  EXPECT_FALSE(fills_from_top(p));
  EXPECT_FALSE(fills_from_top(p - page_size())) << "in a hole below";
  EXPECT_FALSE(fills_from_top(nullptr)) << "nowhere";
  calls = before;
}

}  // namespace
}  // namespace hz3::os
