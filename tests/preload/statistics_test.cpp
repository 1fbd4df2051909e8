// mallinfo, mallinfo2, mallopt, malloc_trim, malloc_stats, malloc_info: their form, and that their figures follow what
// the program did.
#include <thread>

#include "support.hpp"

namespace {

std::string malloc_info_text() {
  char* text = nullptr;
  size_t length = 0;
  FILE* stream = open_memstream(&text, &length);
  if (stream == nullptr) return "";
  const int result = malloc_info(0, stream);
  fclose(stream);
  std::string copy(text, length);
  free(text);
  return result == 0 ? copy : "";
}

// Whether a text is one XML element with properly nested elements inside, which is as much as malloc_info needs.
testing::AssertionResult is_well_formed_xml(const std::string& text) {
  auto failure = [&](const std::string& what) { return testing::AssertionFailure() << what << " in:\n" << text; };
  std::vector<std::string> open;
  size_t roots = 0;
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at)) {
    const size_t end = text.find('>', at);
    if (end == std::string::npos) return failure("unclosed tag");
    std::string tag = text.substr(at + 1, end - at - 1);
    at = end;
    if (tag.starts_with("?") || tag.starts_with("!--")) continue;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return failure("unbalanced quotes in <" + tag + ">");
    const std::string name =
        tag.substr(tag.starts_with("/") ? 1 : 0, tag.find_first_of(" /\n", 1) - (tag.starts_with("/") ? 1 : 0));
    if (name.empty() || !isalpha(static_cast<unsigned char>(name[0]))) return failure("no name in <" + tag + ">");
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != name) return failure("</" + name + "> closes nothing");
      open.pop_back();
    } else {
      if (open.empty()) ++roots;
      if (!tag.ends_with("/")) open.push_back(name);
    }
  }
  if (!open.empty()) return failure("<" + open.back() + "> is not closed");
  if (roots != 1) return failure(std::to_string(roots) + " root elements");
  return testing::AssertionSuccess();
}

size_t bytes_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Blocks of one size that together hold `bytes`, written to.
std::vector<void*> hold(size_t bytes, size_t size) {
  std::vector<void*> blocks(bytes / size);
  for (void*& block : blocks) {
    block = malloc(size);
    memset(block, 1, size);
  }
  return blocks;
}

}  // namespace

TEST(Mallinfo2, follows_what_is_in_use) {
  for (size_t size : {100, 3000, 20000, 100000, 4000000, 40000000}) {
    const size_t before = bytes_in_use();
    std::vector<void*> blocks = hold(80 * kMiB, size);
    const size_t during = bytes_in_use();
    const size_t held = blocks.size() * size;
    EXPECT_GE(during + kMiB, before + held) << size;
    EXPECT_LE(during, before + held + held / 4 + 8 * kMiB) << size;
    for (void* block : blocks) free(block);
    EXPECT_LE(bytes_in_use(), before + 16 * kMiB) << size;
  }
}

TEST(Mallinfo2, total_covers_what_is_in_use) {
  std::vector<void*> blocks = hold(64 * kMiB, 1000);
  const struct mallinfo2 info = mallinfo2();
  EXPECT_GE(info.arena + info.hblkhd, info.uordblks);
  EXPECT_GE(info.arena + info.hblkhd, 60 * kMiB);
  for (void* block : blocks) free(block);
}

TEST(Mallinfo, agrees_with_mallinfo2) {
  std::vector<void*> blocks = hold(64 * kMiB, 1000);
  const struct mallinfo2 wide = mallinfo2();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
  EXPECT_NEAR(static_cast<double>(narrow.uordblks), static_cast<double>(wide.uordblks), 1.0 * kMiB);
  EXPECT_NEAR(static_cast<double>(narrow.hblkhd), static_cast<double>(wide.hblkhd), 1.0 * kMiB);
  for (void* block : blocks) free(block);
}

TEST(Mallopt, known_parameters_are_accepted_and_malloc_works) {
  for (auto [parameter, value] : {std::pair{M_MMAP_THRESHOLD, 1 << 20},
                                  {M_TRIM_THRESHOLD, 1 << 20},
                                  {M_TOP_PAD, 65536},
                                  {M_MMAP_MAX, 65536},
                                  {M_ARENA_MAX, 4},
                                  {M_TRIM_THRESHOLD, -1},  // never
                                  {M_MXFAST, 64}}) {
    EXPECT_EQ(mallopt(parameter, value), 1) << parameter;
    void* block = malloc(5000);
    ASSERT_NE(block, nullptr);
    free(block);
  }
}

TEST(MallocTrim, gives_back_what_was_freed_and_says_so) {
  const size_t before = resident_bytes();
  std::vector<void*> blocks = hold(200 * kMiB, 500);
  void* last = malloc(500);  // keeps glibc from trimming by itself
  for (void* block : blocks) free(block);
  const int returned = malloc_trim(0);
  EXPECT_TRUE(returned == 0 || returned == 1);
  EXPECT_LT(resident_bytes(), before + 20 * kMiB);
  free(last);
}

TEST(MallocTrim, is_safe_beside_busy_threads) {
  BusyThreads busy(4);
  for (int i = 0; i < 200; ++i) {
    const int returned = malloc_trim(i % 2 == 0 ? 0 : kMiB);
    ASSERT_TRUE(returned == 0 || returned == 1);
  }
  busy.stop();
}

TEST(MallocInfo, is_well_formed_xml) {
  std::vector<void*> blocks = hold(kMiB, 300);
  const std::string text = malloc_info_text();
  EXPECT_TRUE(text.find("<malloc") != std::string::npos) << text;
  EXPECT_TRUE(is_well_formed_xml(text));
  for (void* block : blocks) free(block);
}

TEST(MallocInfo, unknown_options_are_refused) {
  FILE* stream = fopen("/dev/null", "we");
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(malloc_info(1, stream), EINVAL);
  fclose(stream);
}

TEST(MallocInfo, is_safe_beside_busy_threads) {
  BusyThreads busy(4);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(is_well_formed_xml(malloc_info_text()));
  busy.stop();
}

TEST(MallocStats, writes_to_stderr_only) {
  const ChildResult result = run_in_child([] {
    std::vector<void*> blocks = hold(kMiB, 300);
    malloc_stats();
    return 0;
  });
  EXPECT_EQ(result.exit_code, 0) << result.describe();
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err, "");
}

TEST(Statistics, figures_are_safe_beside_busy_threads) {
  BusyThreads busy(4);
  for (int i = 0; i < 300; ++i) {
    const struct mallinfo2 info = mallinfo2();
    ASSERT_LT(info.uordblks, 4 * kGiB) << "a figure wrapped around";
    ASSERT_LT(info.fordblks, 64 * kGiB) << "a figure wrapped around";
  }
  busy.stop();
}
