// Which limit is found in the files of control groups, as kernels and containers show them.
#include "hz3/control_group.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "hz3/settings.hpp"

namespace hz3 {
namespace {

class ControlGroup : public testing::Test {
 protected:
  void SetUp() override { root_ = mkdtemp(name_); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + file).parent_path());
    std::ofstream(root_ + "/" + file) << text;
  }
  // The limit of a process whose /proc/self/cgroup is this.
  size_t limit(const std::string& membership) {
    put("membership", membership);
    return control_group_limit((root_ + "/membership").c_str(), root_.c_str());
  }
  std::string root_;

 private:
  char name_[32] = "/tmp/hz3-group-XXXXXX";
};

TEST_F(ControlGroup, OfVersion2IsThatOfTheGroup) {
  put("a/memory.max", "300000000\n");
  put("a/b/memory.max", "max\n");
  EXPECT_EQ(limit("0::/a/b\n"), SIZE_MAX);
  put("a/b/memory.max", "200000000\n");
  EXPECT_EQ(limit("0::/a/b\n"), 200000000u);
}

TEST_F(ControlGroup, OfVersion1IsThatOfItsMemoryHierarchy) {
  put("memory/a/memory.limit_in_bytes", "400000000\n");
  put("memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("a/memory.max", "1\n");  // of another version
  EXPECT_EQ(limit("12:pids:/b\n4:memory:/a\n1:name=systemd:/\n"), 400000000u);
  EXPECT_EQ(limit("4:cpu,memory:/a\n"), 400000000u);
  EXPECT_EQ(limit("4:memory,cpu:/a/missing\n"), 400000000u);
  EXPECT_EQ(limit("4:memoryless,inmemory:/a\n"), SIZE_MAX);
}

TEST_F(ControlGroup, OfBothVersionsIsTheLesser) {
  put("memory/a/memory.limit_in_bytes", "400000000\n");
  put("u/memory.max", "300000000\n");
  EXPECT_EQ(limit("4:memory:/a\n0::/u\n"), 300000000u);
}

TEST_F(ControlGroup, OfAContainerIsFoundAtTheRoot) {
  put("memory.max", "500000000\n");
  EXPECT_EQ(limit("0::/\n"), 500000000u);
  EXPECT_EQ(limit("0::/system.slice/docker-0123456789abcdef.scope\n"), 500000000u);
  EXPECT_EQ(limit("0::/../../outside\n"), 500000000u);
  put("a/memory.max", "400000000\n");
  EXPECT_EQ(limit("0::/a/not/seen\n"), 400000000u);
}

TEST_F(ControlGroup, WithoutALimitThereIsNone) {
  put("memory.max", "max\n");
  EXPECT_EQ(limit("0::/\n"), SIZE_MAX);
  put("memory.max", "");
  EXPECT_EQ(limit("0::/\n"), SIZE_MAX);
  put("memory.max", "99999999999999999999999999\n");
  EXPECT_EQ(limit("0::/\n"), SIZE_MAX);
}

TEST_F(ControlGroup, WhatIsNoMembershipIsNone) {
  put("memory.max", "500000000\n");
  for (const char* text : {"", "\n", ":", "0:", "0:\n", "0", "zero\none\n\n", "4:memory"})
    EXPECT_EQ(limit(text), SIZE_MAX) << text;
  EXPECT_EQ(limit("0::"), 500000000u);
  EXPECT_EQ(limit("0::/" + std::string(3000, 'x') + "\n"), 500000000u) << "a path too long for the buffer is no file's";
  EXPECT_EQ(limit("0::/" + std::string(5000, 'x') + "\n"), 500000000u) << "the line's end is not read";
  EXPECT_EQ(control_group_limit((root_ + "/missing").c_str(), root_.c_str()), SIZE_MAX);
}

TEST_F(ControlGroup, LimitMakesTheSoftLimit) {
  const int before = settings::value(settings::kSoftLimitMib);
  put("membership", "0::/a\n");
  settings::values[settings::kSoftLimitMib] = 0;
  const auto take = [this] { settings::take_control_group((root_ + "/membership").c_str(), root_.c_str()); };
  take();
  EXPECT_EQ(settings::value(settings::kSoftLimitMib), 0);
  put("a/memory.max", std::to_string(80 << 20));
  take();
  EXPECT_EQ(settings::value(settings::kSoftLimitMib), 70);
  put("a/memory.max", "4096");
  take();
  EXPECT_EQ(settings::value(settings::kSoftLimitMib), 1) << "0 would be none";
  settings::values[settings::kSoftLimitMib] = before;
}

}  // namespace
}  // namespace hz3
