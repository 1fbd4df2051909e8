// Which cache lines travel between processors: the run-time library that code compiled with -fsanitize=thread calls for each
// access, in place of ThreadSanitizer's. Threads are processors and take turns (turns.hpp), so nothing here is touched by two.
//
// A processor's cache is as large as can be, and lines leave it only when another one writes to them (MESI with one step): a
// read of a line that another processor wrote last, or a write to one that others have, is a transfer. A lock is what is
// taken by a strong compare-and-exchange with acquire order and given back by an exchange with release order (hz3/lock.hpp).
// A thread holds one lock at a time; what it does meanwhile is that lock's service.
//
// At the end it writes to the file HZ3_LINES:
//   program ACCESSES ATOMICS READS WRITES MODIFIES        by the code of the program; `allocator` by that of the library. The
//                                                         last three are transfers, by what they were for; modifies are atomic
//   line ADDRESS READS WRITES MODIFIES                    of a line of the library's own data, while no lock was held; the
//   address is relative
//                                                         to the library
//   lock ADDRESS TAKEN ACCESSES READS WRITES MODIFIES     while it was held
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "turns.hpp"

namespace {

using turns::kMostCores;
using turns::my_core;

constexpr unsigned kWords = kMostCores / 64;
constexpr size_t kLines = size_t{1} << 21;  // a power of two
constexpr int kAcquire = 2, kRelease = 3;   // of the interface, as in the C++ standard's order

enum Kind { kRead, kWrite, kModify, kKinds };
using Transfers = uint64_t[kKinds];

struct Line {
  uintptr_t key;  // address / 64 + 1; 0: unused
  uint64_t has[kWords];
  bool written;         // since it came to whoever has it: then that is one processor
  Transfers transfers;  // while no lock was held
  uint64_t taken, held_accesses;
  Transfers held_transfers;
};

struct Sums {
  uint64_t accesses, atomics;
  Transfers transfers;
};

Line* lines;
size_t line_count = 0;
Line* held[kMostCores];
Sums program, allocator;
uintptr_t library_begin, library_end;

Line& line_at(uintptr_t address) {
  const uintptr_t key = address / 64 + 1;
  for (size_t i = key * 0x9e3779b97f4a7c15u >> 43;; i++) {
    Line& line = lines[i % kLines];
    if (line.key == key) return line;
    if (line.key != 0) continue;
    if (++line_count > kLines / 2) {
      fputs("lines: too many cache lines\n", stderr);
      _Exit(1);
    }
    line.key = key;
    return line;
  }
}

// Whether the line has to come from another processor, or others have to give it up.
bool travels(Line& line, bool write) {
  uint64_t others = 0;
  for (unsigned i = 0; i < kWords; i++) others |= line.has[i] & ~(i == my_core / 64 ? uint64_t{1} << my_core % 64 : 0);
  uint64_t& mine = line.has[my_core / 64];
  const uint64_t me = uint64_t{1} << my_core % 64;
  const bool here = (mine & me) != 0;
  if (write && others != 0) memset(line.has, 0, sizeof line.has);
  mine |= me;
  const bool travelled = others != 0 && (write || (!here && line.written));
  line.written = write || (line.written && others == 0);
  return travelled;
}

void access(const void* caller, uintptr_t address, size_t bytes, Kind kind) {
  if (my_core == turns::kNone || lines == nullptr) return;
  const auto from = reinterpret_cast<uintptr_t>(caller);
  Sums& sums = from - library_begin < library_end - library_begin ? allocator : program;
  Line* const lock = held[my_core];
  sums.accesses++;
  sums.atomics += kind == kModify;
  if (lock != nullptr) lock->held_accesses++;
  for (uintptr_t at = address & ~uintptr_t{63}; at < address + bytes; at += 64) {
    Line& line = line_at(at);
    if (!travels(line, kind != kRead)) continue;
    sums.transfers[kind]++;
    (lock != nullptr ? lock->held_transfers : line.transfers)[kind]++;
  }
}

void take_lock(uintptr_t address) {
  if (my_core == turns::kNone || lines == nullptr) return;
  Line& line = line_at(address);
  line.taken++;
  held[my_core] = &line;
}
void release_lock(uintptr_t address) {
  if (my_core == turns::kNone || lines == nullptr) return;
  if (held[my_core] == &line_at(address)) held[my_core] = nullptr;
}

int find_library(dl_phdr_info* info, size_t, void*) {
  if (strstr(info->dlpi_name, "libhakozuna_hz3_") == nullptr) return 0;
  library_begin = info->dlpi_addr;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t end = library_begin + segment.p_vaddr + segment.p_memsz;
    if (segment.p_type == PT_LOAD && end > library_end) library_end = end;
  }
  return 1;
}

[[gnu::constructor]] void start() {
  dl_iterate_phdr(find_library, nullptr);
  void* memory =
      mmap(nullptr, kLines * sizeof(Line), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) lines = static_cast<Line*>(memory);
}

void print_transfers(FILE* file, const Transfers& each) {
  fprintf(file, " %lu %lu %lu\n", each[kRead], each[kWrite], each[kModify]);
}

void print_sums(FILE* file, const char* who, const Sums& sums) {
  fprintf(file, "%s %lu %lu", who, sums.accesses, sums.atomics);
  print_transfers(file, sums.transfers);
}

void print_line(FILE* file, const Line& line) {
  const uintptr_t offset = (line.key - 1) * 64 - library_begin;
  if (line.key == 0 || offset >= library_end - library_begin) return;
  fprintf(file, "line %lu", offset);
  print_transfers(file, line.transfers);
  if (line.taken == 0) return;
  fprintf(file, "lock %lu %lu %lu", offset, line.taken, line.held_accesses);
  print_transfers(file, line.held_transfers);
}

[[gnu::destructor]] void finish() {
  const char* path = getenv("HZ3_LINES");
  FILE* file = path == nullptr ? nullptr : fopen(path, "w");
  if (file == nullptr) return;
  print_sums(file, "program", program);
  print_sums(file, "allocator", allocator);
  for (size_t i = 0; i < kLines; i++) print_line(file, lines[i]);
  if (fclose(file) != 0) fputs("lines: the result cannot be written\n", stderr);
}

}  // namespace

#define CALLER __builtin_return_address(0)
#define ADDRESS reinterpret_cast<uintptr_t>(address)

#define PLAIN(bytes)                                                                          \
  void __tsan_read##bytes(void* address) { access(CALLER, ADDRESS, bytes, kRead); }           \
  void __tsan_write##bytes(void* address) { access(CALLER, ADDRESS, bytes, kWrite); }         \
  void __tsan_unaligned_read##bytes(void* address) { access(CALLER, ADDRESS, bytes, kRead); } \
  void __tsan_unaligned_write##bytes(void* address) { access(CALLER, ADDRESS, bytes, kWrite); }

#define READ_MODIFY_WRITE(bits, type, name)                                    \
  type __tsan_atomic##bits##_##name(volatile type* address, type value, int) { \
    access(CALLER, ADDRESS, sizeof(type), kModify);                            \
    return __atomic_##name(address, value, __ATOMIC_SEQ_CST);                  \
  }

#define COMPARE_EXCHANGE(bits, type, name, strong)                                                                        \
  int __tsan_atomic##bits##_compare_exchange_##name(volatile type* address, type* expected, type value, int order, int) { \
    if (strong && order == kAcquire) take_lock(ADDRESS);                                                                  \
    access(CALLER, ADDRESS, sizeof(type), kModify);                                                                       \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);              \
  }

#define ATOMIC(bits, type)                                                             \
  type __tsan_atomic##bits##_load(const volatile type* address, int) {                 \
    access(CALLER, ADDRESS, sizeof(type), kRead);                                      \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                 \
  }                                                                                    \
  void __tsan_atomic##bits##_store(volatile type* address, type value, int) {          \
    access(CALLER, ADDRESS, sizeof(type), kWrite);                                     \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                \
  }                                                                                    \
  type __tsan_atomic##bits##_exchange(volatile type* address, type value, int order) { \
    access(CALLER, ADDRESS, sizeof(type), kModify);                                    \
    const type old = __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);            \
    if (order == kRelease) release_lock(ADDRESS);                                      \
    return old;                                                                        \
  }                                                                                    \
  COMPARE_EXCHANGE(bits, type, strong, true)                                           \
  COMPARE_EXCHANGE(bits, type, weak, false)                                            \
  READ_MODIFY_WRITE(bits, type, fetch_add)                                             \
  READ_MODIFY_WRITE(bits, type, fetch_sub)                                             \
  READ_MODIFY_WRITE(bits, type, fetch_and)                                             \
  READ_MODIFY_WRITE(bits, type, fetch_or)

extern "C" {
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)
ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)
void __tsan_read_range(void* address, size_t bytes) { access(CALLER, ADDRESS, bytes, kRead); }
void __tsan_write_range(void* address, size_t bytes) { access(CALLER, ADDRESS, bytes, kWrite); }
void __tsan_atomic_signal_fence(int) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_init() {}
}
