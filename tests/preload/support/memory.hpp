// What the kernel says about this process's memory. Nothing here allocates.
#pragma once

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

constexpr size_t kKiB = size_t{1} << 10;
constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kGiB = size_t{1} << 30;

// Resident bytes of this process.
inline size_t resident_bytes() {
  char text[128] = {};
  const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return 0;
  char* end = nullptr;
  strtoul(text, &end, 10);
  return strtoul(end, nullptr, 10) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Number of mappings of this process.
inline size_t mapping_count() {
  const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char buffer[4096];
  size_t lines = 0;
  ssize_t got = 0;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < got; ++i) lines += buffer[i] == '\n' ? 1 : 0;
  }
  close(fd);
  return lines;
}

// A field of /proc/self/status that is given in kB ("VmData:"), in bytes.
inline size_t status_bytes(const char* field) {
  static char text[8192];
  const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  text[got > 0 ? got : 0] = '\0';
  const char* found = strstr(text, field);
  return found == nullptr ? 0 : strtoul(found + strlen(field), nullptr, 10) * kKiB;
}

inline void sleep_milliseconds(long milliseconds) {
  const timespec wait{milliseconds / 1000, (milliseconds % 1000) * 1000000};
  nanosleep(&wait, nullptr);
}

// What a program does that is not fully idle: a few small requests now and then, and a large one, which always is an event.
inline void tick() {
  for (size_t size : {24, 100, 700, 3000, 9000, 60000, 300000}) free(malloc(size));
  sleep_milliseconds(10);
}

// Ticks until at most `limit` bytes are resident or the guard time is over; returns what is resident then.
inline size_t tick_until_resident_below(size_t limit, int guard_seconds = 10) {
  for (int i = 0; i < guard_seconds * 100; ++i) {
    if (resident_bytes() <= limit) break;
    tick();
  }
  return resident_bytes();
}
