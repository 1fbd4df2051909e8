// How long a test that could go on for ever goes on.
#pragma once

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

// HZ3_TEST_SECONDS, for runs of a minute or an hour; 2 without it. The guard against hangs of such a test has to wait as long.
inline double test_seconds() {
  const char* text = getenv("HZ3_TEST_SECONDS");
  return text != nullptr ? strtod(text, nullptr) : 2;
}

inline double seconds_now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}
