// The C++ half of a C program: allocations that fail, in every way in which operator new tells so.
#include <stddef.h>

#include <new>

namespace {

int handler_calls = 0;

void give_up_at_once() {
  handler_calls++;
  std::set_new_handler(nullptr);
}

}  // namespace

// 0: all was as it should be; else which was not.
extern "C" int fail_to_allocate() {
  volatile size_t too_much = size_t{1} << 62;
  try {
    delete[] new char[too_much];
    return 1;
  } catch (const std::bad_alloc&) {
  }
  if (new (std::nothrow) char[too_much] != nullptr) return 2;
  std::set_new_handler(give_up_at_once);
  if (new (std::nothrow) char[too_much] != nullptr || handler_calls != 1) return 3;
  std::set_new_handler(give_up_at_once);
  try {
    delete[] new char[too_much];
    return 4;
  } catch (const std::bad_alloc&) {
  }
  return handler_calls == 2 ? 0 : 5;
}
