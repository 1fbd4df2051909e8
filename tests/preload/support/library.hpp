// Which allocator is under test, and is it really the one in use?
//
// HZ3_EXPECT_LIBRARY holds the path of the library under test. A preload that silently does not take would turn every
// test into a test of glibc, so each test binary and each helper program asks here first. Without the variable the
// tests run on whatever malloc is there, which is how they are calibrated on glibc.
#pragma once

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <initializer_list>

// The resolved path of the library under test, "" if none is named. Not thread-safe; call it before threads start.
inline const char* expected_library() {
  static char path[PATH_MAX];
  const char* named = getenv("HZ3_EXPECT_LIBRARY");
  if (named == nullptr || named[0] == '\0') return "";
  if (realpath(named, path) == nullptr) snprintf(path, sizeof path, "%s", named);
  return path;
}

inline bool library_is_expected() { return expected_library()[0] != '\0'; }

inline bool is_mapped(const char* path_part) {
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  char line[PATH_MAX + 128];
  bool found = false;
  while (!found && fgets(line, sizeof line, maps) != nullptr) found = strstr(line, path_part) != nullptr;
  fclose(maps);
  return found;
}

// True if malloc and free resolve into the expected library, or if none is expected.
inline bool expected_library_serves_malloc() {
  if (!library_is_expected()) return true;
  if (!is_mapped(expected_library())) return false;
  for (const char* name : {"malloc", "free", "calloc", "realloc"}) {
    Dl_info info{};
    void* address = dlsym(RTLD_DEFAULT, name);
    if (address == nullptr || dladdr(address, &info) == 0) return false;
    char resolved[PATH_MAX];
    if (realpath(info.dli_fname, resolved) == nullptr || strcmp(resolved, expected_library()) != 0) return false;
  }
  return true;
}

// For helper programs: end at once if the library under test is not the one that serves malloc.
inline void require_expected_library() {
  if (expected_library_serves_malloc()) return;
  dprintf(2, "%s does not serve malloc in this program\n", expected_library());
  _exit(120);
}
