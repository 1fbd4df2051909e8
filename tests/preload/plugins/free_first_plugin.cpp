// Preloaded last, so that its constructor runs first: the process's first calls to the allocator are those that have
// nothing to allocate.
#include <malloc.h>
#include <stdlib.h>

namespace {

__attribute__((constructor(101))) void free_first() {
  void* volatile nothing = nullptr;
  free(nothing);
  if (malloc_usable_size(nothing) != 0) abort();
  free(realloc(nothing, 10));
}

}  // namespace
