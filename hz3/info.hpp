// Figures about the heap as a whole, computed from its structures when somebody asks: mallinfo, malloc_stats, malloc_info.
// Blocks that sit in other threads' caches count as in use.
#pragma once

#include <malloc.h>
#include <cstdio>

namespace hz3::info {

// 1 when the parameter is known and taken, 0 otherwise. The thresholds of the C library's allocator are accepted and have
// no effect, as programs set them and expect success.
int mallopt(int parameter, int value);
struct mallinfo mallinfo();
struct mallinfo2 mallinfo2();
// A few lines for people, to a file descriptor.
void stats(int fd);
// An XML document as of malloc_info(3): 0, or EINVAL when `options` is not 0.
int xml(int options, FILE* stream);

}  // namespace hz3::info
