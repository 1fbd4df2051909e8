// Frees of what is no live block: where they are noticed the program ends with one line that says which pointer and why.
#include <cinttypes>
#include <csignal>
#include <string>

#include "hz3/bins.hpp"
#include "hz3/hot.hpp"
#include "tests/unit/blocks.hpp"

namespace hz3 {
namespace {

using test::Blocks;

constexpr const char* kNoBlock = "no block starts here: freed before, or never allocated";
constexpr const char* kNotStart = "not the start of a block";

// The whole of what is printed, as a regular expression.
std::string line(const char* call, const void* p, const char* fault) {
  char pointer[32];
  snprintf(pointer, sizeof pointer, "0x%" PRIxPTR, reinterpret_cast<uintptr_t>(p));
  return std::string("^hz3: ") + call + "\\(" + pointer + "\\): " + fault + "\n$";
}

// The same of a block in a bin, which the checks of a debug build look at before central does.
std::string line_when_flushed(const void* p, const char* fault) {
  return kDebugChecks ? "^hz3: invariant I1 broken: a bin holds what is no block\n$" : line("free", p, fault);
}

#define EXPECT_DIES(statement, expected) EXPECT_EXIT(statement, testing::KilledBySignal(SIGABRT), expected)

class InvalidPointer : public testing::Test {
 protected:
  void SetUp() override {
    test::no_ticks();
    tc = test::my_cache();
    flush_cache(tc);
  }
  void TearDown() override { EXPECT_NOTHING_LOST(); }
  ThreadCache* tc = nullptr;
};

// A small block's bin takes any address; central looks when the bin is flushed. But of a run of one block no page has a tag but
// the first.
TEST_F(InvalidPointer, InteriorOfASmallBlockIsNoticedByCentral) {
  for (size_t bytes : {32, 64, 1000, 3000, 4096, 8192, 32768}) {
    char* p = static_cast<char*>(malloc_hot(bytes));
    const bool alone = run_of(p)->capacity == 1;
    EXPECT_TRUE(alone || bytes < 32768);
    char* inside = p + (alone ? kPageSize : class_bytes(slot_of(bytes))) - 16;
    if (alone && bytes > kPageSize) {
      EXPECT_DIES(free_hot(p + bytes - 16), line("free", p + bytes - 16, kNoBlock));
    }
    EXPECT_DIES(
        {
          free_hot(inside);
          api::trim();
        },
        line_when_flushed(inside, kNotStart));
    free_hot(p);
  }
}

TEST_F(InvalidPointer, BlockOfARunThatWasNeverHandedOut) {
  const Slot slot = slot_of(512);
  void* p = test::blocks_of(tc->shard, slot, 1).front();
  const hz3::Run* run = run_of(p);
  ASSERT_LT(run->carved, run->capacity);
  char* next = run->start + run->carved * class_bytes(slot);
  EXPECT_DIES(
      {
        free_hot(next);
        flush_cache(tc);
      },
      line("free", next, "never allocated"));
  test::give_back({p});
}

TEST_F(InvalidPointer, BlockOfASpareRun) {
  void* p = malloc_hot(64);
  free_hot(p);
  flush_cache(tc);
  ASSERT_NE(tag_of(p), 0u) << "the run is the spare of its class";
  EXPECT_DIES(
      {
        free_hot(p);
        flush_cache(tc);
      },
      line("free", p, "freed twice: its run has more blocks back than it gave"));
}

TEST_F(InvalidPointer, BlockOfARunThatIsGone) {
  for (size_t bytes : {64, 3000, 20000}) {
    void* p = malloc_hot(bytes);
    free_hot(p);
    api::trim();
    void* anchor = malloc_hot(16);
    ASSERT_EQ(tag_of(p), 0u);
    EXPECT_DIES(free_hot(p), line("free", p, kNoBlock));
    EXPECT_DIES(api::realloc(p, 100), line("realloc", p, kNoBlock));
    EXPECT_DIES(api::usable_size(p), line("malloc_usable_size", p, kNoBlock));
    free_hot(anchor);
  }
}

TEST_F(InvalidPointer, LargeBlockFreedTwice) {
  for (size_t bytes : {kMaxBinBytes + 1, kSpanMinBytes, kSpanMinBytes + 1, size_t{5} << 20}) {
    void* p = malloc_hot(bytes);
    free_hot(p);
    EXPECT_DIES(free_hot(p), line("free", p, kNoBlock));
    EXPECT_DIES(api::realloc(p, 100), line("realloc", p, kNoBlock));
    EXPECT_DIES(api::usable_size(p), line("malloc_usable_size", p, kNoBlock));
    api::trim();
  }
}

TEST_F(InvalidPointer, LargeBlockFreedTwiceByAThreadWithoutACache) {
  void* p = malloc_hot(300000);
  free_hot(p);
  EXPECT_DIES(
      {
        tls_cache = &ended_cache;
        free_hot(p);
      },
      line("free", p, kNoBlock));
  void* binned = malloc_hot(100000);
  EXPECT_DIES(
      {
        tls_cache = &ended_cache;
        free_hot(binned);
        free_hot(binned);
      },
      line("free", binned, kNoBlock));
  free_hot(binned);
}

TEST_F(InvalidPointer, InteriorOfALargeBlock) {
  for (size_t bytes : {kMaxBinBytes + 1, kSpanMinBytes + 1}) {
    char* p = static_cast<char*>(malloc_hot(bytes));
    for (size_t offset : {size_t{16}, kPageSize - 16}) {
      EXPECT_DIES(free_hot(p + offset), line("free", p + offset, kNotStart));
      EXPECT_DIES(api::realloc(p + offset, 100), line("realloc", p + offset, kNotStart));
      EXPECT_DIES(api::usable_size(p + offset), line("malloc_usable_size", p + offset, kNotStart));
    }
    EXPECT_DIES(free_hot(p + kPageSize), line("free", p + kPageSize, kNoBlock));
    free_hot(p);
  }
}

// A pointer into the first page of a large block of a bin is taken for the block, as with smaller ones; no page behind is
// tagged.
TEST_F(InvalidPointer, InteriorOfALargeBlockOfABin) {
  for (size_t bytes : {size_t{40000}, kMaxBinBytes}) {
    char* p = static_cast<char*>(malloc_hot(bytes));
    for (size_t offset : {size_t{16}, kPageSize - 16}) {
      char* inside = p + offset;
      EXPECT_DIES(
          {
            free_hot(inside);
            api::trim();
          },
          line_when_flushed(inside, kNotStart));
      EXPECT_DIES(
          {
            tls_cache = &ended_cache;
            free_hot(inside);
          },
          line("free", inside, kNotStart));
      for (size_t to : {size_t{100}, class_bytes(slot_of(bytes)) + 1, 2 * kMaxBinBytes})
        EXPECT_DIES(api::realloc(inside, to), line("realloc", inside, kNotStart));
    }
    for (char* inside : {p + kPageSize, p + kPageSize + 16, p + bytes - 16}) {
      EXPECT_DIES(free_hot(inside), line("free", inside, kNoBlock));
      EXPECT_DIES(api::realloc(inside, 100), line("realloc", inside, kNoBlock));
      EXPECT_DIES(api::usable_size(inside), line("malloc_usable_size", inside, kNoBlock));
    }
    free_hot(p);
  }
}

// At the latest when the bin is flushed; after that no block starts there.
TEST_F(InvalidPointer, LargeBlockOfABinFreedTwice) {
  for (size_t bytes : {size_t{40000}, kMaxBinBytes}) {
    void* p = malloc_hot(bytes);
    EXPECT_DIES(
        {
          free_hot(p);
          free_hot(p);
          api::trim();
        },
        line("free", p, "freed twice: its run has more blocks back than it gave"));
    free_hot(p);
    flush_cache(tc);
    void* anchor = malloc_hot(16);
    EXPECT_DIES(free_hot(p), line("free", p, kNoBlock));
    EXPECT_DIES(api::realloc(p, 100), line("realloc", p, kNoBlock));
    EXPECT_DIES(api::usable_size(p), line("malloc_usable_size", p, kNoBlock));
    free_hot(anchor);
    flush_cache(tc);
  }
}

TEST_F(InvalidPointer, LargeBlockOfABinFreedWronglyByAThreadOfAnotherShard) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  drop_grants(tc);
  reset_bins(tc);  // so that it keeps none
  char* p = static_cast<char*>(test::blocks_of(other, slot_of(100000), 1).front());
  EXPECT_DIES(free_hot(p + 16), line("free", p + 16, kNotStart));
  EXPECT_DIES((free_hot(p), free_hot(p)), line("free", p, kNoBlock));
  test::give_back({p});
}

TEST_F(InvalidPointer, LargeBlockThatReallocMoved) {
  void* p = malloc_hot(3 << 20);
  void* behind = malloc_hot(3 << 20);
  void* moved = api::realloc(p, 9 << 20);
  ASSERT_NE(moved, p);
  EXPECT_DIES(free_hot(p), line("free", p, kNoBlock));
  free_hot(moved);
  free_hot(behind);
}

TEST_F(InvalidPointer, FreePagesOfASegment) {
  void* p = malloc_hot(64);
  char* page = run_of(p)->segment->page(kSegmentPages - 1);
  ASSERT_EQ(tag_of(page), 0u);
  EXPECT_DIES(free_hot(page), line("free", page, kNoBlock));
  EXPECT_DIES(free_hot(page + 100), line("free", page + 100, kNoBlock));
  free_hot(p);
}

TEST_F(InvalidPointer, InteriorFreedByAThreadOfAnotherShard) {
  if constexpr (kShards < 2) GTEST_SKIP();
  const unsigned other = (tc->shard + 1) % kShards;
  char* p = static_cast<char*>(test::blocks_of(other, slot_of(48), 1).front());
  EXPECT_DIES(
      {
        free_hot(p + 16);
        flush_cache(tc);
        remote::drain_to_central(other);
      },
      line("free", p + 16, kNotStart));
  test::give_back({p});
}

class Checkers : public InvalidPointer {
 protected:
  void SetUp() override {
    if constexpr (!kDebugChecks) GTEST_SKIP() << "the checks are not compiled in";
    InvalidPointer::SetUp();
  }
};

TEST_F(Checkers, ABlockThatComesThroughADoorNotItsOwn) {
  if constexpr (kShards < 2) GTEST_SKIP();
  for (size_t bytes : {64, 3000, 8192}) {
    const Blocks blocks = test::blocks_of(0, slot_of(bytes), 1);
    set_link(blocks[0], nullptr);
    remote::Sorter sorter;
    sorter.add(blocks[0], tag_slot(tag_of(blocks[0])));
    EXPECT_DIES(sorter.pass_on(1), "^hz3: invariant I3 broken: a block came through a door that is not its own\n$");
    test::give_back(blocks);
  }
}

// central's own check, which tests and debug builds call.
class CentralCheck : public InvalidPointer {
 protected:
  void SetUp() override {
    InvalidPointer::SetUp();
    blocks = test::blocks_of(0, slot_of(512), 6);
    test::give_back({blocks.begin() + 1, blocks.end()});
    run = run_of(blocks[0]);
    ASSERT_GE(run->free_count, 2u);
  }
  void TearDown() override {
    test::give_back({blocks[0]});
    InvalidPointer::TearDown();
  }
  Blocks blocks;
  hz3::Run* run = nullptr;
};

TEST_F(CentralCheck, FindsAListThatIsNotAsLongAsItsCount) {
  EXPECT_DIES((run->free_count--, Central::of(0).check()),
              "^hz3: invariant I5 broken: a run's free count is not the length of its list\n$");
  EXPECT_DIES((run->free_count++, Central::of(0).check()),
              "^hz3: invariant I5 broken: a run's free count is not the length of its list\n$");
}

TEST_F(CentralCheck, FindsForeignBlocksOnAList) {
  EXPECT_DIES((run->free = static_cast<char*>(run->free) + 16, Central::of(0).check()),
              "^hz3: invariant I1 broken: a run's free list holds a block that is not of it\n$");
  EXPECT_DIES((run->free = run->start + run->carved * size_t{512}, Central::of(0).check()),
              "^hz3: invariant I1 broken: a run's free list holds a block that is not of it\n$");
}

TEST_F(CentralCheck, FindsColdPagesThatDoNotHaveTheBlocksThatAreCounted) {
  EXPECT_DIES((run->cold_count++, run->free_count++, run->carved++, Central::of(0).check()),
              "^hz3: invariant I5 broken: a run's cold pages do not have as many blocks as are counted\n$");
  EXPECT_DIES((run->cold = 1, Central::of(0).check()),
              "^hz3: invariant I1 broken: a run's free list holds a block that is not of it\n$");
}

TEST_F(CentralCheck, FindsRunsOnWrongListsAndWithWrongTags) {
  EXPECT_DIES((run->list ^= 1, Central::of(0).check()), "^hz3: invariant I5 broken: a run is on a wrong list\n$");
  EXPECT_DIES(
      (run->carved = run->free_count, Central::of(0).check()),
      "^hz3: invariant I(1|5) broken: a run('s free list holds a block that is not of it| whose blocks are all free did not "
      "return to its segment)\n$");
  EXPECT_DIES((run->segment->arena->label(run->start, 1, make_tag(3, 0), run), Central::of(0).check()),
              "^hz3: invariant I13 broken: a run's tag is not its owner's\n$");
}

}  // namespace
}  // namespace hz3
