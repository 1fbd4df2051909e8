// Processes that may not have all they ask for: limits on address space and data, strict overcommit, locked memory, few
// mappings, sandboxes that forbid system calls.
#include <sys/mman.h>

#include <fstream>

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
