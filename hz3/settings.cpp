// See hz3/settings.hpp.
#include "hz3/settings.hpp"

#include <malloc.h>
#include <sys/auxv.h>
#include <climits>
#include <cstring>

#include "hz3/control_group.hpp"
#include "hz3/message.hpp"

namespace hz3::settings {
namespace {

struct Description {
  const char* name;  // of the variable
  int parameter;     // of mallopt
  int least, most;
  const char* const* words;  // in the environment instead of numbers, from 0; nullptr where it is numbers
};
constexpr size_t kNotHeapsPart = 8;  // of a control group's memory is for stacks, page tables and other processes
constexpr const char* kHugePageWords[] = {"system", "never", "dense", "always"};
constexpr Description kDescriptions[kSettings] = {
    {"HZ3_DECAY_MS", M_HZ3_DECAY_MS, -1, 600000, nullptr},
    {"HZ3_BACKGROUND_THREAD", M_HZ3_BACKGROUND_THREAD, 0, 1, nullptr},
    {"HZ3_SOFT_LIMIT_MIB", M_HZ3_SOFT_LIMIT_MIB, 0, 1 << 30, nullptr},
    {"HZ3_HARD_LIMIT_MIB", M_HZ3_HARD_LIMIT_MIB, 0, 1 << 30, nullptr},
    {"HZ3_HUGE_PAGES", M_HZ3_HUGE_PAGES, 0, 3, kHugePageWords},
};

// A plain decimal number. False when the text is none, or out of range.
bool parse_number(const char* text, int least, int most, int* value) {
  const bool negative = *text == '-';
  if (negative) text++;
  long number = 0;
  if (*text == '\0') return false;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9' || number > INT_MAX) return false;
    number = number * 10 + (*text - '0');
  }
  if (negative) number = -number;
  if (number < least || number > most) return false;
  *value = static_cast<int>(number);
  return true;
}

bool parse(const Description& d, const char* text, int* value) {
  if (d.words == nullptr) return parse_number(text, d.least, d.most, value);
  for (int i = d.least; i <= d.most; i++)
    if (strcmp(text, d.words[i]) == 0) return *value = i, true;
  return false;
}

void number(Line& line, int value) {
  if (value < 0) line.text("-");
  line.number(static_cast<size_t>(value < 0 ? -static_cast<long>(value) : value));
}

HZ3_SLOW void tell_of_wrong_value(const Description& d, const char* text) {
  Line line;
  line.text("hz3: ").text(d.name).text("=").text(text).text(": ignored; allowed: ");
  if (d.words == nullptr) {
    number(line, d.least);
    number(line.text(".."), d.most);
  } else {
    for (int i = d.least; i <= d.most; i++) line.text(i == d.least ? "" : ", ").text(d.words[i]);
  }
  line.print();
}

// The value in "NAME=value"; nullptr when that is of another name, or empty, which is as if it were not there.
const char* value_in(const char* entry, const char* name) {
  const size_t length = strlen(name);
  if (strncmp(entry, name, length) != 0 || entry[length] != '=' || entry[length + 1] == '\0') return nullptr;
  return entry + length + 1;
}

}  // namespace

constinit std::atomic<int> values[kSettings] = {kPurgeDecayMs, kBackgroundThreadDefault, 0, 0,
                                                static_cast<int>(kHugePagesDefault)};
constinit std::atomic<size_t> reserve{kPurgeReservePages};

void read_environment(const char* const* environment, bool secure) {
  if (environment == nullptr || secure) return;
  bool seen[kSettings] = {};  // as for getenv, the first one counts
  for (; *environment != nullptr; environment++)
    for (unsigned i = 0; i < kSettings; i++) {
      const Description& d = kDescriptions[i];
      const char* text = value_in(*environment, d.name);
      if (text == nullptr || seen[i]) continue;
      seen[i] = true;
      int value = 0;
      if (parse(d, text, &value)) {
        values[i].store(value, std::memory_order_relaxed);
      } else {
        tell_of_wrong_value(d, text);
      }
    }
}

void take_control_group(const char* membership, const char* root) {
  const size_t limit = control_group_limit(membership, root);
  if (limit == SIZE_MAX) return;
  const size_t mib = (limit - limit / kNotHeapsPart) >> 20;
  values[kSoftLimitMib].store(mib == 0 ? 1 : static_cast<int>(mib), std::memory_order_relaxed);
}

bool set(int parameter, int value) {
  if (parameter == M_TRIM_THRESHOLD) {
    const size_t pages = static_cast<size_t>(value) >> kPageShift;
    reserve.store(value < 0 ? kAllPages : pages < kLeastReservePages ? kLeastReservePages : pages, std::memory_order_relaxed);
  }
  for (unsigned i = 0; i < kSettings; i++) {
    const Description& d = kDescriptions[i];
    if (d.parameter != parameter) continue;
    if (value < d.least || value > d.most) return false;
    values[i].store(value, std::memory_order_relaxed);
  }
  return true;
}

namespace {
void at_start(int, char**, char** environment) {
  take_control_group("/proc/self/cgroup", "/sys/fs/cgroup");
  read_environment(environment, getauxval(AT_SECURE) != 0);
}

// Before the constructors of other libraries, which allocate. The loader passes the environment to all that is in this section;
// the C library's own pointer to it is not set yet. No [[gnu::constructor]]: LTO calls those from a function without
// parameters.
using Initializer = void (*)(int, char**, char**);
[[gnu::section(".init_array.00101"), gnu::used]] constinit Initializer initializer = at_start;
}  // namespace

}  // namespace hz3::settings
