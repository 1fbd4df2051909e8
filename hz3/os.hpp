// The one door to the kernel, but for the write(2) of a message. Every call that gives or takes memory goes through the table
// `os::calls`, which a test can replace to inject failures. Raw system calls, so that a program that hooks mmap is not entered;
// errno is left as it was.
// Owner: process-wide constant after start; only tests write it, before threads exist.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hz3/platform.hpp"

namespace hz3::os {

// What the kernel is told about pages; the meaning of each is madvise(2)'s.
enum class Advice { DontNeed, Free, Cold, HugePage, NoHugePage, Collapse };

// How a move ended. Lost: it did not happen, and the target's addresses may be somebody else's by now.
enum class Moved { Yes, No, Lost };

struct Calls {
  // Reserves `bytes` of address space without memory or commit charge. nullptr on failure.
  void* (*reserve)(size_t bytes);
  // Maps usable memory, zero-filled on first touch, at [p, p + bytes), where nothing is. False when something is, or when the
  // kernel refuses.
  bool (*claim)(void* p, size_t bytes);
  // Makes [p, p + bytes) of a reservation usable, zero-filled on first touch. False when the kernel refuses.
  bool (*commit)(void* p, size_t bytes);
  // Drops the contents and the commit charge of [p, p + bytes); the addresses stay reserved. False when refused.
  bool (*decommit)(void* p, size_t bytes);
  // Gives the addresses back to the kernel.
  void (*release)(void* p, size_t bytes);
  // madvise(2). False when the kernel refuses (a locked mapping, an unknown advice).
  bool (*advise)(void* p, size_t bytes, Advice advice);
  // Moves the pages of [from, from + bytes) to `to` (usable, same size, disjoint); `from` stays usable and reads as zero.
  Moved (*move)(void* from, void* to, size_t bytes);
};
HZ3_HIDDEN extern Calls calls;

// How many of the kernel's pages of [p, p + bytes) are in memory, bytes at most 512 of them: 0 when it does not tell.
unsigned resident_pages(const void* p, size_t bytes);
// The kernel's page size in bytes, read once.
size_t page_size();
// Whether the kernel places new mappings from the top of a free stretch of addresses downwards, as it does unless a program
// asks for the old layout: then nobody comes near the bottom of [p, p + bytes), where nothing is mapped now.
bool fills_from_top(const void* p, size_t bytes);
// A coarse monotonic clock in milliseconds.
uint64_t now_ms();
// The limit on address space in bytes (RLIMIT_AS), read once: a sandbox may forbid the call later. SIZE_MAX when there is none.
size_t address_space_limit();
// Reads the beginning of a file by one call, `size` bytes at most. How many there were; 0 when it cannot be read.
size_t read_file(const char* path, char* buffer, size_t size);
// The number of this process. Asked of the kernel each time, so that a child knows that it is one whatever made it.
int process_id();
// Names the calling thread, as tools show it: 15 characters at most.
void name_thread(const char* name);

// Sleeps while *word == expected, or so many milliseconds; wakes at most `count` sleepers.
void futex_wait(uint32_t* word, uint32_t expected);
void futex_wait_for(uint32_t* word, uint32_t expected, uint64_t ms);
void futex_wake(uint32_t* word, int count);

}  // namespace hz3::os
