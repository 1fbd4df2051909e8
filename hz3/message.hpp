// One-line messages on stderr without allocation, and the end of the program where going on would corrupt data.
#pragma once

#include <cstddef>

#include "hz3/platform.hpp"

namespace hz3 {

// Builds one line in a fixed buffer; what does not fit is cut.
class Line {
 public:
  Line& text(const char* s);
  Line& number(size_t value);
  Line& pointer(const void* p);
  // Writes the line and a newline to `fd` with one write(2); errno is kept.
  void print(int fd = 2);

 private:
  char buffer_[256];
  size_t length_ = 0;
};

// Prints "hz3: CALL(POINTER): FAULT" and aborts.
[[noreturn]] HZ3_SLOW void die(const char* call, const void* pointer, const char* fault);

// Checks of the debug build: cheap enough to leave in the source, gone where kDebugChecks is false.
[[noreturn]] HZ3_SLOW void invariant_failed(const char* id, const char* what);

}  // namespace hz3
