// What malloc_stats() prints.
#pragma once

#include <unistd.h>

#include <string>

#include "hz3/info.hpp"
#include "tests/unit/support.hpp"

namespace hz3::test {

inline std::string stats_text() {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  info::stats(ends[1]);
  close(ends[1]);
  std::string text(10000, '\0');
  size_t length = 0;
  for (ssize_t n; (n = read(ends[0], text.data() + length, text.size() - length)) > 0;) length += static_cast<size_t>(n);
  close(ends[0]);
  text.resize(length);
  return text;
}

}  // namespace hz3::test
