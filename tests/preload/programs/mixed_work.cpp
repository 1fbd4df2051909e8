// An ordinary program: threads, strings, containers, exceptions, files, all entry points; checks what it computes.
// Used wherever a test wants "a program" run in some special surroundings. Prints "work done".
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../support/child.hpp"
#include "../support/library.hpp"
#include "../support/pattern.hpp"
#include "../support/threads.hpp"

namespace {

void containers(uint64_t seed) {
  Random random{seed};
  std::map<std::string, std::vector<int>> map;
  for (int i = 0; i < 20000; ++i) map[std::to_string(random.below(3000))].push_back(i);
  size_t total = 0;
  for (const auto& [key, values] : map) total += values.size();
  CHILD_REQUIRE(total == 20000);
  try {
    throw std::runtime_error(std::string(1000, 'x'));
  } catch (const std::exception& caught) {
    CHILD_REQUIRE(strlen(caught.what()) == 1000);
  }
}

void raw_blocks(uint64_t seed, ExchangeSlots& slots) {
  Random random{seed};
  for (int i = 0; i < 40000; ++i) {
    const size_t size = mixed_size(random);
    char* block = static_cast<char*>(random.below(4) == 0 ? memalign(size_t{16} << random.below(9), size) : malloc(size));
    CHILD_REQUIRE(block != nullptr);
    fill_pattern(block, size, seed);
    if (random.below(4) == 0) {
      block = static_cast<char*>(realloc(block, size + 100));
      CHILD_REQUIRE(block != nullptr);
    }
    CHILD_REQUIRE(find_mismatch(block, size / 8 * 8, seed) == kNoMismatch);
    free(slots.swap(random.next(), block));
  }
}

}  // namespace

int main() {
  require_expected_library();
  ExchangeSlots& slots = *std::make_unique<ExchangeSlots>().release();
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 3; ++i) {
    threads.emplace_back([i, &slots] {
      containers(i);
      raw_blocks(i, slots);
    });
  }
  for (std::thread& thread : threads) thread.join();
  slots.free_all();
  delete &slots;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  size_t lines = 0;
  while (std::getline(maps, line)) ++lines;
  CHILD_REQUIRE(lines > 5);
  puts("work done");
  return 0;
}
