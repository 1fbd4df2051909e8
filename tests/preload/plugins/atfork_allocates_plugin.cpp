// Fork handlers that allocate and free, much and before the allocator's own are due: a library of the program registers them
// in its constructor, whenever that runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

namespace {

void allocate_and_free() {
  constexpr size_t kBlocks = 2000;
  static void* blocks[kBlocks];
  for (size_t i = 0; i < kBlocks; i++) {
    const size_t bytes = 16 + i * 37 % 60000;
    blocks[i] = malloc(bytes);
    if (blocks[i] == nullptr) abort();
    memset(blocks[i], 1, 16);
  }
  for (void* block : blocks) free(block);
}

pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

void prepare() {
  pthread_mutex_lock(&one_at_a_time);
  allocate_and_free();
}

void afterwards() {
  allocate_and_free();
  pthread_mutex_unlock(&one_at_a_time);
}

__attribute__((constructor(101))) void register_handlers() { pthread_atfork(prepare, afterwards, afterwards); }

}  // namespace
