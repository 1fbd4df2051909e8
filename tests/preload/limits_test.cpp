// Processes that may not have all they ask for: limits on address space and data, strict overcommit, locked memory, few
// mappings, sandboxes that forbid system calls.
#include <sys/mman.h>
#include <sys/personality.h>

#include <fstream>

#include "hz3/hz3.h"

#include "support.hpp"

namespace {

// On glibc, blocks that are many to the limit: it does not merge its large mappings again.
void expect_exhausts(size_t limit, int resource, size_t block, const char* threads) {
  SCOPED_TRACE(testing::Message() << (limit / kMiB) << " MiB, blocks of " << block);
  if (!library_is_expected() && block > limit / 100) return;
  if (!library_is_expected()) threads = "0";  // glibc reserves 64 MiB a thread, and strands them
  const ChildResult result = run_program({beside_test("exhaust"), std::to_string(block), std::to_string(limit), threads},
                                         {.limits = {{resource, limit}}});
  EXPECT_TRUE(result.clean()) << result.describe();
}

// Sets a file under /proc/sys for as long as it lives.
class SystemSetting {
 public:
  SystemSetting(std::string path, const std::string& value) : path_(std::move(path)) {
    std::ifstream(path_) >> before_;
    std::ofstream(path_) << value << std::flush;
    std::string now;
    std::ifstream(path_) >> now;
    is_set_ = now == value;
  }
  ~SystemSetting() { std::ofstream(path_) << before_; }
  bool is_set() const { return is_set_; }

 private:
  std::string path_;
  std::string before_;
  bool is_set_ = false;
};

// Bytes that strict overcommit would count for this process: private and writable.
size_t writable_bytes() {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  size_t total = 0;
  while (std::getline(maps, line)) {
    size_t begin = 0;
    size_t end = 0;
    char flags[5] = {};
    if (sscanf(line.c_str(), "%zx-%zx %4s", &begin, &end, flags) == 3 && flags[1] == 'w' && flags[3] == 'p')
      total += end - begin;
  }
  return total;
}

void allocate_and_free(size_t rounds) {
  Random random{2};
  std::vector<void*> blocks(2000);
  for (size_t i = 0; i < rounds; ++i) {
    void*& block = blocks[random.below(blocks.size())];
    free(block);
    const size_t size = mixed_size(random);
    block = malloc(size);
    CHILD_REQUIRE(block != nullptr);
    memset(block, 1, size);
  }
  for (void* block : blocks) free(block);
}

}  // namespace

TEST(AddressSpaceLimit, of_64_mib) {
  for (size_t block : {400, 3000, 20000, 300000, 5000000}) expect_exhausts(64 * kMiB, RLIMIT_AS, block, "2");
}

TEST(AddressSpaceLimit, of_256_mib) {
  for (size_t block : {1000, 100000, 20000000}) expect_exhausts(256 * kMiB, RLIMIT_AS, block, "4");
}

TEST(AddressSpaceLimit, of_1_gib) {
  for (size_t block : {30000, 1000000}) expect_exhausts(kGiB, RLIMIT_AS, block, "4");
}

TEST(AddressSpaceLimit, of_4_gib) {
  for (size_t block : {1000000, 100000000}) expect_exhausts(4 * kGiB, RLIMIT_AS, block, "4");
}

TEST(AddressSpaceLimit, ordinary_program_in_little) {
  const ChildResult result = run_program({beside_test("mixed_work")}, {.limits = {{RLIMIT_AS, 256 * kMiB}}});
  EXPECT_TRUE(result.clean()) << result.describe();
}

TEST(AddressSpaceLimit, set_while_running) {
  EXPECT_CLEAN(run_in_child([] {
    allocate_and_free(20000);
    const size_t now = status_bytes("VmSize:");
    const rlimit limit{now + 32 * kMiB, now + 32 * kMiB};
    CHILD_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    std::vector<void*> blocks;
    blocks.reserve(100000);
    void* block = nullptr;
    while ((block = malloc(4 * kMiB)) != nullptr && blocks.size() < 5000) blocks.push_back(block);
    CHILD_REQUIRE(blocks.size() == 5000 || errno == ENOMEM);
    for (void* each : blocks) free(each);
    allocate_and_free(20000);
    return 0;
  }));
}

// Of blocks that several would fit into a segment of, the first leaves the rest of its own untouched.
TEST(AddressSpaceLimit, rests_of_segments_are_used) { expect_exhausts(256 * kMiB, RLIMIT_AS, 600000, "2"); }

// What the allocator has reserved, and may use one day, is the program's to use until then.
TEST(AddressSpaceLimit, set_while_running_leaves_the_rest_to_the_program) {
  EXPECT_CLEAN(run_in_child([] {
    allocate_and_free(20000);
    const size_t now = status_bytes("VmSize:");
    CHILD_REQUIRE(now < 2 * kGiB);
    const rlimit limit{now + 256 * kMiB, now + 256 * kMiB};
    CHILD_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    void* mapped = mmap(nullptr, 64 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHILD_REQUIRE(mapped != MAP_FAILED);
    CHILD_REQUIRE(run_threads(8, [](size_t) { allocate_and_free(2000); }) == 8);
    std::vector<void*> blocks;
    blocks.reserve(1000);
    for (int round = 0; round < 3; ++round) {
      while (void* block = malloc(kMiB)) blocks.push_back(memset(block, 1, kMiB));
      CHILD_REQUIRE(errno == ENOMEM && blocks.size() > 64);
      for (void* each : blocks) free(each);
      blocks.clear();
    }
    munmap(mapped, 64 * kMiB);
    return 0;
  }));
}

// Where new mappings are placed from the bottom of a free stretch upwards nothing is left to others.
TEST(AddressSpaceLimit, in_the_old_layout_of_addresses) {
  const int before = personality(0xffffffff);
  ASSERT_NE(personality(static_cast<unsigned long>(before) | ADDR_COMPAT_LAYOUT), -1);  // children inherit it
  const ChildResult result = run_program({beside_test("mixed_work")});
  EXPECT_TRUE(result.clean()) << result.describe();
  expect_exhausts(kGiB, RLIMIT_AS, 20000, "2");
  expect_exhausts(kGiB, RLIMIT_AS, 5000000, "2");
  EXPECT_NE(personality(static_cast<unsigned long>(before)), -1);
}

TEST(HardLimit, exhaustion_is_survived) {
  SKIP_WITHOUT_LIBRARY("has none");
  for (const char* block : {"400", "3000", "20000", "300000", "5000000"}) {
    const ChildResult result =
        run_program({beside_test("exhaust"), block, "134217728", "2"}, {.environment = {"HZ3_HARD_LIMIT_MIB=128"}});
    EXPECT_TRUE(result.clean()) << block << result.describe();
  }
}

TEST(HardLimit, lets_operator_new_call_its_handler) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_program({beside_test("new_handler_frees")}, {.environment = {"HZ3_HARD_LIMIT_MIB=256"}}));
}

TEST(HardLimit, is_set_and_lifted_while_the_program_runs) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_HZ3_HARD_LIMIT_MIB, -1) == 0);
    CHILD_REQUIRE(mallopt(M_HZ3_HARD_LIMIT_MIB, 300) == 1);
    CHILD_REQUIRE(malloc(301 * kMiB) == nullptr && errno == ENOMEM);
    std::vector<void*> blocks;
    blocks.reserve(1000);
    while (void* block = malloc(kMiB)) blocks.push_back(memset(block, 1, kMiB));
    CHILD_REQUIRE(errno == ENOMEM && blocks.size() > 200 && blocks.size() < 300);
    CHILD_REQUIRE(mallopt(M_HZ3_HARD_LIMIT_MIB, 0) == 1);
    void* block = malloc(301 * kMiB);
    CHILD_REQUIRE(block != nullptr);
    free(block);
    for (void* each : blocks) free(each);
    return 0;
  }));
}

TEST(SoftLimit, above_it_what_is_free_goes_back_at_once) {
  SKIP_WITHOUT_LIBRARY("has none");
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(mallopt(M_HZ3_DECAY_MS, 600000) == 1);
    CHILD_REQUIRE(mallopt(M_HZ3_SOFT_LIMIT_MIB, 64) == 1);
    const size_t before = resident_bytes();
    for (size_t size : {1000, 20000, 300000, 3000000}) {
      std::vector<void*> blocks(200 * kMiB / size);
      for (void*& block : blocks) block = memset(malloc(size), 1, size);
      CHILD_REQUIRE(resident_bytes() > before + 150 * kMiB);
      for (void* block : blocks) free(block);
      free(malloc(300000));  // an event
      CHILD_REQUIRE(resident_bytes() < before + 72 * kMiB);
    }
    return 0;
  }));
}

// A control group with so much memory; programs can be started in it.
class ControlGroup {
 public:
  explicit ControlGroup(size_t bytes) {
    const std::string name = "/hz3-test-" + std::to_string(getpid());
    const char* const kinds[][2] = {{"/sys/fs/cgroup", "/memory.max"}, {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes"}};
    for (const auto& [root, file] : kinds) {
      path_ = root + name;
      if (mkdir(path_.c_str(), 0700) != 0) continue;
      if (access((path_ + file).c_str(), W_OK) == 0 && (std::ofstream(path_ + file) << bytes << std::flush).good()) {
        is_there_ = true;
        std::ofstream(path_ + "/memory.swap.max") << 0;
        return;
      }
      rmdir(path_.c_str());
    }
  }
  ~ControlGroup() {
    for (int i = 0; is_there_ && rmdir(path_.c_str()) != 0 && i < 100; ++i) sleep_milliseconds(10);
  }
  bool is_there() const { return is_there_; }
  ChildResult run(const std::string& command, std::vector<std::string> environment) const {
    const std::string line = "echo $$ > " + path_ + "/cgroup.procs && exec " + command;
    return run_program({"/bin/sh", "-c", line}, {.environment = std::move(environment)});
  }

 private:
  std::string path_;
  bool is_there_ = false;
};

TEST(ControlGroup, what_is_free_goes_back_before_its_memory_is_used_up) {
  SKIP_WITHOUT_LIBRARY("knows nothing of control groups");
  const ControlGroup group(200 * kMiB);
  if (!group.is_there()) GTEST_SKIP() << "no control group can be made here";
  const std::string command = beside_test("peaks") + " " + std::to_string(150 * kMiB);
  // Free memory waits for long: only the limit makes it go.
  const ChildResult result = group.run(command, {"HZ3_DECAY_MS=600000"});
  EXPECT_TRUE(result.clean()) << result.describe();
  EXPECT_FALSE(group.run(command, {"HZ3_DECAY_MS=600000", "HZ3_SOFT_LIMIT_MIB=0"}).clean()) << "it shows nothing";
}

// RLIMIT_DATA counts what strict overcommit counts, for one process alone: making reserved memory writable can fail.
TEST(DataLimit, exhaustion_is_survived) {
  for (size_t block : {400, 3000, 20000, 300000, 5000000}) expect_exhausts(128 * kMiB, RLIMIT_DATA, block, "2");
}

TEST(StrictOvercommit, an_idle_process_commits_little) {
  const ChildResult result = run_in_child([] {
    free(malloc(100));
    free(malloc(100000));
    dprintf(1, "%zu", writable_bytes());
    return 0;
  });
  EXPECT_LT(strtoul(result.out.c_str(), nullptr, 10), 256 * kMiB) << "a reservation must be PROT_NONE: it is counted else";
}

TEST(StrictOvercommit, programs_run_under_it) {
  // It is a setting of the whole machine, and other programs may fail while it is on: only where that was asked for.
  if (getenv("HZ3_TEST_STRICT_OVERCOMMIT") == nullptr) GTEST_SKIP() << "HZ3_TEST_STRICT_OVERCOMMIT is not set";
  const SystemSetting strict("/proc/sys/vm/overcommit_memory", "2");
  if (!strict.is_set()) GTEST_SKIP() << "vm.overcommit_memory cannot be set here";
  EXPECT_CLEAN(run_program({beside_test("exhaust"), "5000000", "134217728", "2"}, {.limits = {{RLIMIT_DATA, 128 * kMiB}}}));
  const ChildResult result = run_program({beside_test("mixed_work")});
  EXPECT_TRUE(result.clean()) << result.describe();
}

TEST(Mappings, stay_few_in_a_mixed_workload) {
  EXPECT_CLEAN(run_in_child([] {
    CHILD_REQUIRE(run_threads(8, [](size_t seed) {
                    Random random{seed};
                    std::vector<char*> blocks(600);
                    for (int i = 0; i < 30000; ++i) {
                      char*& block = blocks[random.below(blocks.size())];
                      free(block);
                      const size_t size = i % 20 == 0 ? random.between(30000, 4000000) : mixed_size(random);
                      block = static_cast<char*>(malloc(size));
                      if (size > 0) block[0] = block[size - 1] = 1;
                    }
                    if (seed % 2 == 0) CHILD_REQUIRE(mapping_count() < 3000);
                    for (char* block : blocks) free(block);
                  }) == 8);
    CHILD_REQUIRE(mapping_count() < 2000);
    return 0;
  }));
}

TEST(Mappings, stay_few_with_holes_everywhere) {
  SKIP_WITHOUT_LIBRARY("has one mapping for each large block");
  EXPECT_CLEAN(run_in_child([] {
    // Every second block of several sizes goes: returning each hole by munmap or mprotect would split a mapping each time.
    std::vector<void*> kept;
    for (size_t size : {5000, 40000, 140000, 300000, 1200000}) {
      std::vector<void*> going;
      for (size_t i = 0; i < 800 * kMiB / size && i < 6000; ++i) {
        void* block = malloc(size);
        memset(block, 1, 64);
        (i % 2 == 0 ? going : kept).push_back(block);
      }
      for (void* block : going) free(block);
      for (int i = 0; i < 30; ++i) tick();
    }
    CHILD_REQUIRE(mapping_count() < 2500);
    for (void* block : kept) free(block);
    return 0;
  }));
}

TEST(LockedMemory, free_of_large_blocks_and_calloc_after) {
  const ChildResult result = run_in_child([] {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
    for (int round = 0; round < 5; ++round) {
      for (size_t size : {1000, 30000, 300000, 3000000, 40000000}) {
        std::vector<char*> blocks(std::max<size_t>(1, 8 * kMiB / size));
        for (char*& block : blocks) {
          block = static_cast<char*>(calloc(1, size));
          CHILD_REQUIRE(block != nullptr && find_nonzero(block, size) == kNoMismatch);
          memset(block, 0x99, size);
          block = static_cast<char*>(realloc(block, size / 2));
          block = static_cast<char*>(realloc(block, size));
        }
        for (char* block : blocks) {
          errno = 2222;
          free(block);
          CHILD_REQUIRE(errno == 2222);
        }
      }
      malloc_trim(0);
    }
    return 0;
  });
  if (result.exit_code == 77) GTEST_SKIP() << "mlockall is not allowed here";
  EXPECT_TRUE(result.clean()) << result.describe();
}

TEST(Seccomp, nothing_but_memory_calls_after_start) {
  SKIP_WITHOUT_LIBRARY("calls brk");
  const ChildResult result = run_program({beside_test("sandboxed"), "kill"});
  EXPECT_TRUE(result.clean()) << result.describe();
  EXPECT_EQ(result.out, "survived\n");
}

TEST(Seccomp, failing_madvise_and_munmap_are_survived) {
  const ChildResult result = run_program({beside_test("sandboxed"), "no_return"});
  EXPECT_TRUE(result.clean()) << result.describe();
  EXPECT_EQ(result.out, "survived\n");
}
