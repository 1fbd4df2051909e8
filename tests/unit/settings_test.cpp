// What can be set at run time: what the environment and mallopt may say, and what follows from it.
#include "hz3/settings.hpp"

#include <malloc.h>

#include "hz3/bins.hpp"
#include "hz3/info.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using settings::value;

class Settings : public testing::Test {
 protected:
  void SetUp() override {
    for (unsigned i = 0; i < settings::kSettings; i++) before_[i] = settings::values[i];
    reserve_ = settings::reserve;
    test::no_ticks();
    api::trim();
  }
  void TearDown() override {
    for (unsigned i = 0; i < settings::kSettings; i++) settings::values[i] = before_[i];
    settings::reserve = reserve_;
    EXPECT_NOTHING_LOST();
  }
  // What is told when the environment is this.
  static std::string read(std::vector<const char*> environment, bool secure = false) {
    environment.push_back(nullptr);
    testing::internal::CaptureStderr();
    settings::read_environment(environment.data(), secure);
    return testing::internal::GetCapturedStderr();
  }
  static hz3::Run* written(unsigned pages) {
    hz3::Run* run = PageHeap::allocate(0, pages, 1, pages);
    memset(run->start, 1, size_t{pages} << kPageShift);
    return run;
  }

 private:
  int before_[settings::kSettings];
  size_t reserve_ = 0;
};

TEST_F(Settings, TheEnvironmentIsTaken) {
  EXPECT_EQ(read({"PATH=/bin", "HZ3_DECAY_MS=1234", "HZ3_BACKGROUND_THREAD=1", "HOME=/"}), "");
  EXPECT_EQ(value(settings::kDecayMs), 1234);
  EXPECT_EQ(settings::decay_ms(), 1234u);
  EXPECT_TRUE(settings::background_thread());
  settings::values[settings::kBackgroundThread] = 0;
  EXPECT_EQ(read({"HZ3_DECAY_MS=0"}), "");
  EXPECT_EQ(settings::decay_ms(), 0u);
  EXPECT_EQ(read({"HZ3_DECAY_MS=600000"}), "");
  EXPECT_EQ(settings::decay_ms(), 600000u);
  EXPECT_EQ(read({"HZ3_DECAY_MS=-1"}), "");
  EXPECT_EQ(settings::decay_ms(), settings::kNever);
}

TEST_F(Settings, AWrongValueIsToldInOneLineAndTheDefaultStays) {
  for (const char* text : {"x", "12x", "1.5", " 1", "-", "-2", "600001", "99999999999999999999", "0x10", "1 ", "+1"}) {
    const std::string entry = std::string("HZ3_DECAY_MS=") + text;
    EXPECT_EQ(read({entry.c_str()}), "hz3: " + entry + ": ignored; allowed: -1..600000\n");
    EXPECT_EQ(value(settings::kDecayMs), static_cast<int>(kPurgeDecayMs));
  }
  EXPECT_EQ(read({"HZ3_BACKGROUND_THREAD=2"}), "hz3: HZ3_BACKGROUND_THREAD=2: ignored; allowed: 0..1\n");
}

TEST_F(Settings, HugePagesAreNamedInTheEnvironment) {
  const HugePages modes[] = {HugePages::System, HugePages::Never, HugePages::Dense, HugePages::Always};
  const char* entries[] = {"HZ3_HUGE_PAGES=system", "HZ3_HUGE_PAGES=never", "HZ3_HUGE_PAGES=dense", "HZ3_HUGE_PAGES=always"};
  for (int i = 0; i < 4; i++) {
    EXPECT_EQ(read({entries[i]}), "");
    EXPECT_EQ(settings::huge_pages(), modes[i]);
    settings::values[settings::kHugePages] = 0;
    EXPECT_EQ(info::mallopt(M_HZ3_HUGE_PAGES, i), 1);
    EXPECT_EQ(settings::huge_pages(), modes[i]);
  }
  EXPECT_EQ(info::mallopt(M_HZ3_HUGE_PAGES, 4), 0);
  EXPECT_EQ(read({"HZ3_HUGE_PAGES=3"}), "hz3: HZ3_HUGE_PAGES=3: ignored; allowed: system, never, dense, always\n");
}

TEST_F(Settings, OtherVariablesAndEmptyOnesAreNobodysBusiness) {
  EXPECT_EQ(read({"HZ3_DECAY_MS=", "HZ3_DECAY_MSX=7", "HZ3_DECAY_M=7", "HZ3_DECAY_MS", "XHZ3_DECAY_MS=7", "", "HZ3_NO_SUCH=x"}),
            "");
  EXPECT_EQ(value(settings::kDecayMs), static_cast<int>(kPurgeDecayMs));
  settings::read_environment(nullptr, false);
}

TEST_F(Settings, OfTwoTheFirstCounts) {
  EXPECT_EQ(read({"HZ3_DECAY_MS=7", "HZ3_DECAY_MS=8"}), "");
  EXPECT_EQ(value(settings::kDecayMs), 7);
}

TEST_F(Settings, ASecureProgramIgnoresTheEnvironment) {
  EXPECT_EQ(read({"HZ3_DECAY_MS=7", "HZ3_BACKGROUND_THREAD=x"}, true), "");
  EXPECT_EQ(value(settings::kDecayMs), static_cast<int>(kPurgeDecayMs));
}

TEST_F(Settings, MalloptTakesWhatIsInRange) {
  EXPECT_EQ(info::mallopt(M_HZ3_DECAY_MS, 77), 1);
  EXPECT_EQ(value(settings::kDecayMs), 77);
  EXPECT_EQ(info::mallopt(M_HZ3_DECAY_MS, -2), 0);
  EXPECT_EQ(info::mallopt(M_HZ3_DECAY_MS, 600001), 0);
  EXPECT_EQ(value(settings::kDecayMs), 77);
  EXPECT_EQ(info::mallopt(M_HZ3_BACKGROUND_THREAD, 2), 0);
  EXPECT_EQ(info::mallopt(0x687a33ff, 1), 1) << "unknown ones are accepted, as by the C library";
  for (int parameter : {M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX}) EXPECT_EQ(info::mallopt(parameter, 100000), 1);
  EXPECT_EQ(settings::reserve_pages(), kPurgeReservePages) << "these have no effect";
}

TEST_F(Settings, TheTrimThresholdIsTheReserve) {
  EXPECT_EQ(info::mallopt(M_TRIM_THRESHOLD, 128 << 20), 1);
  EXPECT_EQ(settings::reserve_pages(), (size_t{128} << 20) >> kPageShift);
  EXPECT_EQ(info::mallopt(M_TRIM_THRESHOLD, 1000), 1);
  EXPECT_EQ(settings::reserve_pages(), settings::kLeastReservePages);
  EXPECT_EQ(settings::decay_ms(), kPurgeDecayMs);
  EXPECT_EQ(info::mallopt(M_TRIM_THRESHOLD, -1), 1);
  EXPECT_EQ(settings::decay_ms(), settings::kNever);
}

// The least reserve that it may leave, whatever had been in use: more than that goes on the spot once nothing swings.
TEST_F(Settings, ALowTrimThresholdBoundsWhatIsKept) {
  settings::values[settings::kDecayMs] = 500;
  info::mallopt(M_TRIM_THRESHOLD, 0);
  std::vector<hz3::Run*> runs;
  for (int i = 0; i < 40; i++) runs.push_back(written(kSegmentPages / 4));
  PageHeap::most_dirty_pages(test::later());  // long after those were taken
  PageHeap::most_dirty_pages(test::later());
  for (hz3::Run* run : runs) {
    PageHeap::free(run, run->pages);
    EXPECT_LE(PageHeap::dirty_pages(), 8 * settings::kLeastReservePages + kSegmentPages);
  }
}

TEST_F(Settings, TheDecayTimeChangesWhileItRuns) {
  settings::reserve = size_t{64} << (20 - kPageShift);
  settings::values[settings::kDecayMs] = 60000;
  hz3::Run* anchor = written(1);
  PageHeap::free(written(16), 16);
  const uint64_t now = os::now_ms();
  PageHeap::purge_all(now + 20000, false);
  PageHeap::purge_all(now + 25000, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 16u) << "not within the half of it";
  EXPECT_EQ(settings::tick_ms(), 1000u) << "inboxes do not wait for so long";
  settings::values[settings::kDecayMs] = 2000;
  EXPECT_EQ(settings::tick_ms(), 500u);
  PageHeap::purge_all(now + 26000, false);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  PageHeap::free(anchor, 1);
}

TEST_F(Settings, NothingGoesBackByItselfWhenTheDecayTimeIsEndless) {
  settings::values[settings::kDecayMs] = -1;
  hz3::Run* anchor = written(1);
  constexpr unsigned kRuns = 300;  // more than any reserve
  std::vector<hz3::Run*> runs;
  for (unsigned i = 0; i < kRuns; i++) runs.push_back(PageHeap::allocate(0, kSegmentPages / 2, 1, 1));
  for (hz3::Run* run : runs) PageHeap::free(run, kSegmentPages / 2);
  bool zero = false;
  void* span = large::allocate(0, 2 * kSegmentBytes, 1, &zero);
  large::free(span, tag_of(span));
  for (int i = 0; i < 4; i++) tick(test::later());
  EXPECT_EQ(PageHeap::dirty_pages(), kRuns * kSegmentPages / 2);
  EXPECT_FALSE(anything_waits()) << "a background thread would never sleep";
  EXPECT_EQ(api::trim(), 1) << "but when it is asked for";
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  EXPECT_EQ(large::cached_span_bytes(), 0u);
  PageHeap::free(anchor, 1);
}

TEST_F(Settings, EverythingGoesAtOnceWhenTheDecayTimeIsZero) {
  settings::values[settings::kDecayMs] = 0;
  hz3::Run* anchor = written(1);
  PageHeap::free(written(16), 16);
  EXPECT_EQ(PageHeap::dirty_pages(), 0u);
  PageHeap::free(anchor, 1);
}

}  // namespace
}  // namespace hz3
