// See hz3/control_group.hpp.
#include "hz3/control_group.hpp"

#include <cstring>

#include "hz3/os.hpp"

namespace hz3 {
namespace {

// Text in a fixed buffer; what does not fit makes it empty, which is no file's name.
class Path {
 public:
  Path& add(const char* text) { return add(text, strlen(text)); }
  Path& add(const char* text, size_t length) {
    if (length_ + length < sizeof text_) {
      memcpy(text_ + length_, text, length);
      length_ += length;
    } else {
      text_[0] = '\0';
      length_ = sizeof text_;
    }
    return *this;
  }
  const char* text() {
    if (length_ < sizeof text_) text_[length_] = '\0';
    return text_;
  }

 private:
  char text_[1024];
  size_t length_ = 0;
};

// The number that a file begins with. False when it cannot be read. SIZE_MAX when there is none, as in the "max" of version 2,
// or a larger one than memory can be, as where version 1 has no limit.
bool number_in(const char* path, size_t* number) {
  constexpr size_t kMost = size_t{1} << 50;
  char text[32];
  const size_t length = os::read_file(path, text, sizeof text);
  size_t sum = 0, i = 0;
  for (; i < length && text[i] >= '0' && text[i] <= '9' && sum < kMost; i++)
    sum = sum * 10 + static_cast<size_t>(text[i] - '0');
  *number = i == 0 || sum >= kMost ? SIZE_MAX : sum;
  return length != 0;
}

// The limit of a group; where that is not to be seen, of the next one above it that is.
size_t limit_of(const char* root, const char* hierarchy, const char* group, size_t length, const char* file) {
  size_t limit = SIZE_MAX;
  for (;;) {
    while (length != 0 && group[length - 1] == '/') length--;
    if (number_in(Path().add(root).add(hierarchy).add(group, length).add(file).text(), &limit) || length == 0) return limit;
    while (length != 0 && group[length - 1] != '/') length--;
  }
}

bool names_memory(const char* controllers, size_t length) {
  constexpr char kName[] = "memory";
  constexpr size_t kLength = sizeof kName - 1;
  for (size_t i = 0; i + kLength <= length; i++)
    if ((i == 0 || controllers[i - 1] == ',') && (i + kLength == length || controllers[i + kLength] == ',') &&
        strncmp(controllers + i, kName, kLength) == 0)
      return true;
  return false;
}

size_t find(const char* text, size_t length, char c) {
  size_t i = 0;
  while (i < length && text[i] != c) i++;
  return i;
}

}  // namespace

size_t control_group_limit(const char* membership, const char* root) {
  char text[4096];
  size_t length = os::read_file(membership, text, sizeof text);
  size_t least = SIZE_MAX;
  // A line for each hierarchy: its number, its controllers (none in version 2), the group.
  for (const char* line = text; length != 0;) {
    const size_t end = find(line, length, '\n');
    const size_t first = find(line, end, ':');
    const size_t second = first < end ? first + 1 + find(line + first + 1, end - first - 1, ':') : end;
    if (second < end) {
      const size_t controllers = second - first - 1;
      const char* group = line + second + 1;
      const size_t group_length = end - second - 1;
      size_t limit = SIZE_MAX;
      if (controllers == 0) {
        limit = limit_of(root, "", group, group_length, "/memory.max");
      } else if (names_memory(line + first + 1, controllers)) {
        limit = limit_of(root, "/memory", group, group_length, "/memory.limit_in_bytes");
      }
      if (limit < least) least = limit;
    }
    const size_t whole = end < length ? end + 1 : end;
    line += whole;
    length -= whole;
  }
  return least;
}

}  // namespace hz3
