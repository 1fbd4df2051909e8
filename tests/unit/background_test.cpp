// The background thread, beside a program that does nothing: it starts when there is something to give back, sleeps when there
// is not, and is no thread of the program's.
#include "hz3/background.hpp"

#include <dirent.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;

// The ids of the threads of this process that have a name.
std::vector<std::string> threads_named(const std::string& name) {
  std::vector<std::string> found;
  DIR* folder = opendir("/proc/self/task");
  while (const dirent* entry = readdir(folder)) {
    std::string comm;
    std::ifstream(std::string("/proc/self/task/") + entry->d_name + "/comm") >> comm;
    if (comm == name) found.push_back(entry->d_name);
  }
  closedir(folder);
  return found;
}

std::string status_of(const std::string& id, const std::string& field) {
  std::ifstream status("/proc/self/task/" + id + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field)) return line.substr(line.find_first_not_of(" \t", field.size()));
  return "";
}

// Waits for what has to come about, however busy the machine is; the test runner ends a test that hangs.
template <typename F>
void until(F holds) {
  while (!holds()) usleep(5000);
}

class Background : public testing::Test {
 protected:
  static constexpr const char* kName = "hz3-purge";
  void SetUp() override {
    settings::values[settings::kDecayMs] = 200;
    settings::reserve = size_t{64} << (20 - kPageShift);
    tick(~uint64_t{0});  // after the end of time the next one is due at its beginning
    api::trim();
    switch_to(true);
  }
  void TearDown() override {
    switch_to(false);
    until([] { return threads_named(kName).empty(); });
    settings::values[settings::kDecayMs] = kPurgeDecayMs;
    settings::reserve = kPurgeReservePages;
    test::no_ticks();
    EXPECT_NOTHING_LOST();
  }
  static void switch_to(bool on) {
    settings::values[settings::kBackgroundThread] = on;
    background::settings_changed();
  }
  // Frees so much that bins overflow, and leaves it to others to do anything about it.
  static void free_much() {
    Blocks blocks;
    for (int i = 0; i < 400; i++) blocks.push_back(memset(malloc_hot(20000), 1, 20000));
    for (void* b : blocks) free_hot(b);
  }
  static bool all_is_given_back() { return PageHeap::dirty_pages() == 0 && large::cached_span_bytes() == 0; }
};

TEST_F(Background, StartsWhenThereIsSomethingToGiveBack) {
  background::attend();
  EXPECT_TRUE(threads_named(kName).empty()) << "there is nothing";
  free_much();
  EXPECT_GT(PageHeap::dirty_pages(), 0u);
  until(all_is_given_back);
  EXPECT_EQ(threads_named(kName).size(), 1u);
}

TEST_F(Background, SleepsWhenThereIsNothingAndWakes) {
  free_much();
  until([] { return all_is_given_back() && !anything_waits(); });
  const std::string id = threads_named(kName).at(0);
  // Asleep it is not scheduled any more: the same count after more than a tick.
  std::string before, now = "?";
  until([&] {
    before = now;
    now = status_of(id, "voluntary_ctxt_switches:");
    usleep(static_cast<useconds_t>(3000 * settings::tick_ms()));
    return before == now;
  });
  free_much();
  until(all_is_given_back);
  EXPECT_EQ(threads_named(kName), std::vector<std::string>{id}) << "the same one";
}

TEST_F(Background, IsNoThreadOfTheProgram) {
  const size_t threads = thread_registry.threads(), caches = thread_registry.caches();
  free_much();
  until(all_is_given_back);
  ASSERT_EQ(threads_named(kName).size(), 1u);
  EXPECT_EQ(thread_registry.threads(), threads);
  EXPECT_EQ(thread_registry.caches(), caches);
}

TEST_F(Background, BlocksAllSignalsThatCanBe) {
  sigset_t before, now;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  free_much();
  until([] { return !threads_named(kName).empty(); });
  const uint64_t blocked = std::stoull(status_of(threads_named(kName)[0], "SigBlk:"), nullptr, 16);
  // All but SIGKILL and SIGSTOP, and the two that the C library keeps for itself.
  for (int signal = 1; signal <= 64; signal++) {
    const bool never = signal == SIGKILL || signal == SIGSTOP || signal == 32 || signal == 33;
    EXPECT_EQ((blocked >> (signal - 1)) & 1, never ? 0u : 1u) << signal;
  }
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  for (int signal = 1; signal <= 64; signal++) EXPECT_EQ(sigismember(&before, signal), sigismember(&now, signal)) << signal;
}

TEST_F(Background, ServesInboxesOfThreadsThatSleep) {
  const ThreadCache* tc = test::my_cache();
  const unsigned other = (tc->shard + 1) % kShards;
  test::push_to_inbox(other, test::blocks_of(other, slot_of(80), 40));
  background::attend();
  until([&] { return remote::Inbox::of(other).empty(); });
  until([&] { return !anything_waits(); });
}

TEST_F(Background, IsSwitchedOffAndOnAgain) {
  for (int i = 0; i < 20; i++) {
    free_much();
    until([] { return !threads_named(kName).empty(); });
    switch_to(false);
    if (i % 2 == 0) until([] { return threads_named(kName).empty(); });
    switch_to(true);
  }
  free_much();
  until([] { return all_is_given_back() && threads_named(kName).size() == 1; });
}

TEST_F(Background, StartingItLeavesTheCacheOfTheThreadAlone) {
  ThreadCache* tc = test::my_cache();
  for (int i = 0; i < 200; i++) {
    switch_to(false);
    switch_to(true);
    PageHeap::free(PageHeap::allocate(0, 4, 1, 4), 4);
    const size_t in_bins = test::blocks_in_bins(tc);
    errno = 4321;
    background::attend();
    EXPECT_EQ(errno, 4321);
    EXPECT_EQ(tls_cache, tc);
    ASSERT_EQ(test::blocks_in_bins(tc), in_bins);
  }
}

}  // namespace
}  // namespace hz3
