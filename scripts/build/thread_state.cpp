// Prints how many bytes the parts of a thread's cache have, a line each: `make info` shows them.
#include <cstdio>

#include "hz3/thread_cache.hpp"

int main() {
  using hz3::ThreadCache;
  const size_t bins = sizeof(ThreadCache::head) + sizeof(ThreadCache::room) + sizeof(ThreadCache::at_most) +
                      sizeof(ThreadCache::second) + sizeof(ThreadCache::second_most) + sizeof(ThreadCache::limit) +
                      sizeof(ThreadCache::accepts) + sizeof(ThreadCache::overflowed) + sizeof(ThreadCache::seen_room);
  const size_t map = sizeof(ThreadCache::slot_map), stash = sizeof(ThreadCache::stash);
  printf("cache %zu\nbins %zu\nmap %zu\nstash %zu\nrest %zu\n", sizeof(ThreadCache), bins, map, stash,
         sizeof(ThreadCache) - bins - map - stash);
  printf("shards %u\nclasses %u\nheaps %u\n", hz3::kShards, hz3::kBins, hz3::kPageHeaps);
  return 0;
}
