// Figures about the heap as a whole, computed from its structures when somebody asks: mallinfo, malloc_stats, malloc_info.
// Blocks that sit in other threads' caches count as in use.
#pragma once

#include <malloc.h>
#include <cstdio>

namespace hz3::info {

// 0 when a value is out of range, else 1, also for what has no effect here: programs set parameters of the C library's
// allocator and expect success. Those that have one are listed in docs/settings.md.
int mallopt(int parameter, int value);
struct mallinfo mallinfo();
struct mallinfo2 mallinfo2();
// A few lines for people, to a file descriptor.
void stats(int fd);
// An XML document as of malloc_info(3): 0, or EINVAL when `options` is not 0.
int xml(int options, FILE* stream);

}  // namespace hz3::info
