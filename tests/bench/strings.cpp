// strings threads steps
//
// What C++ programs do with the standard library: reads lines of words into vectors of strings, counts the words in a hash map,
// keeps the lines in an ordered map from which old ones are erased, joins them again. An operation is one word. The number of
// words that were counted is checked at the end.
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench.hpp"

namespace {

constexpr uint32_t kKept = 2000;    // lines
constexpr uint32_t kWords = 20000;  // different ones

std::string word(bench::Random& random) {
  // Some fit into the string itself, most do not.
  return "word-" + std::to_string(random.below(kWords)) + std::string(random.below(24), 'x');
}

using Counts = std::unordered_map<std::string, uint64_t>;

// How often all words together were counted.
uint64_t clear(Counts& counts) {
  uint64_t sum = 0;
  for (const auto& [text, count] : counts) sum += count;
  counts.clear();
  return sum;
}

uint64_t work(uint64_t steps, unsigned id) {
  bench::Random random(id + 1);
  std::map<std::string, std::vector<std::string>> lines;
  Counts counts;
  uint64_t words = 0, counted = 0;
  for (uint64_t number = 0; words < steps; ++number) {
    std::vector<std::string> line;
    for (uint32_t left = random.within(1, 24); left > 0; --left) line.push_back(word(random));
    std::string joined;
    for (const std::string& each : line) {
      counts[each]++;
      joined += each + ' ';
    }
    words += line.size();
    lines.emplace(std::to_string(number) + ": " + joined.substr(0, 40), std::move(line));
    if (lines.size() > kKept) lines.erase(std::next(lines.begin(), random.below(16)));
    if (counts.size() > kWords) counted += clear(counts);
  }
  counted += clear(counts);
  if (counted != words) bench::die(bench::kFailed, "%lu words were counted as %lu", words, counted);
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(argc, argv,
                                   "C++ with the standard library: maps, vectors and strings of text that is read and counted",
                                   {{"threads", 1, 1, 4096}, {"steps", 600'000, 1, 1'000'000'000'000}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);

  bench::in_threads(threads, [&](unsigned id) {
    barrier.wait();
    laps[id].begin = bench::now();
    laps[id].ops = work(arguments[1], id);
    laps[id].end = bench::now();
  });
  bench::report(laps, threads);
}
