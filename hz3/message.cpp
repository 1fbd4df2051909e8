// See hz3/message.hpp.
#include "hz3/message.hpp"

#include <unistd.h>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

namespace hz3 {

Line& Line::text(const char* s) {
  while (*s != '\0' && length_ < sizeof buffer_ - 1) buffer_[length_++] = *s++;
  return *this;
}

Line& Line::number(size_t value) {
  char digits[24];
  char* p = digits + sizeof digits;
  *--p = '\0';
  do {
    *--p = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  return text(p);
}

Line& Line::pointer(const void* pointer) {
  char digits[24];
  char* p = digits + sizeof digits;
  *--p = '\0';
  uintptr_t value = reinterpret_cast<uintptr_t>(pointer);
  do {
    *--p = "0123456789abcdef"[value % 16];
    value /= 16;
  } while (value != 0);
  return text("0x").text(p);
}

void Line::print(int fd) {
  const int saved = errno;
  buffer_[length_] = '\n';
  if (write(fd, buffer_, length_ + 1) < 0) {
    // stderr is closed: there is nobody to tell
  }
  errno = saved;
}

void die(const char* call, const void* pointer, const char* fault) {
  Line().text("hz3: ").text(call).text("(").pointer(pointer).text("): ").text(fault).print();
  abort();
}

void invariant_failed(const char* id, const char* what) {
  Line().text("hz3: invariant ").text(id).text(" broken: ").text(what).print();
  abort();
}

}  // namespace hz3
