// peaks BYTES: fills so many bytes with blocks of one size, frees them all, does it again with another size, and so on.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

int main(int, char** argv) {
  const size_t bytes = strtoul(argv[1], nullptr, 10);
  for (int round = 0; round < 2; ++round) {
    for (size_t size : {3000000, 1000, 300000, 20000, 5000000, 500, 700000}) {
      std::vector<void*> blocks(bytes / size);
      for (void*& block : blocks) {
        block = malloc(size);
        if (block == nullptr) return 1;
        memset(block, 1, size);
      }
      for (void* block : blocks) free(block);
    }
  }
  return 0;
}
