// Run with a small address space. Fills it through operator new; the new_handler frees some blocks each time that memory
// is out, and new must then succeed: it comes back with memory, again and again.
#include <errno.h>

#include <new>
#include <vector>

#include "../support/child.hpp"
#include "../support/library.hpp"

namespace {

constexpr size_t kBlock = 1 << 20;
std::vector<void*> held;
int handler_calls = 0;

void free_some() {
  ++handler_calls;
  for (int i = 0; i < 16 && !held.empty(); ++i) {
    ::operator delete(held.back());
    held.pop_back();
  }
}

}  // namespace

int main() {
  require_expected_library();
  held.reserve(100000);
  std::set_new_handler(free_some);
  for (int i = 0; i < 100000 && handler_calls < 20; ++i) {
    void* block = ::operator new(kBlock);
    CHILD_REQUIRE(block != nullptr);
    held.push_back(block);
  }
  CHILD_REQUIRE(handler_calls == 20);
  for (void* block : held) ::operator delete(block);
  return 0;
}
