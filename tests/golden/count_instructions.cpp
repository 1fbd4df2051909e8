// Prints how many instructions of the preloaded library the hot case of each entry point executes, a line for each:
//
//   NAME<tab>calls<tab>instructions of all calls<tab>fewest of one call<tab>most of one call
//
// Exit code 77 where processes cannot be stepped through. tests/golden/instructions.py compares the numbers with those on
// record.
//
// A case repeats one round. It has warmed up when the counted round comes, and stays far below the limits of the bins, so that
// no call takes a slow path: those read the clock and do what other threads left to do, which is not the same each time.
// Each case runs in a process of its own, so that none finds the bins as another one left them.
#include <stdio.h>

#if !defined(__x86_64__)

int main() {
  puts("instructions are counted on x86-64 alone");
  return 77;
}

#else

#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include <new>

#include "../preload/support/library.hpp"
#include "single_step.hpp"

// Four instructions, one of them repeated: what the counting itself is tested with.
extern "C" void known_path();
extern "C" const char known_path_end[];
__asm__(
    ".text\n"
    "known_path:\n"
    "  lea -16(%rsp), %rdi\n"
    "  mov $5, %ecx\n"
    "  rep stosb\n"
    "  ret\n"
    "known_path_end:\n");

namespace {

constexpr int kCalls = 4;   // of a case with one size: all go the same way
constexpr int kBatch = 64;  // of a case with mixed sizes
constexpr size_t kSize = 64;
constexpr std::align_val_t kAlignment{64};

void require(bool condition) {
  if (!condition) abort();
}

// Sizes evenly spaced from 16 to `most`.
void batch(size_t most) {
  void* blocks[kBatch];
  for (size_t i = 0; i < kBatch; ++i) blocks[i] = malloc(16 + i * (most - 16) / (kBatch - 1));
  for (void* block : blocks) free(block);
}

void repeat(void (*once)()) {
  for (int i = 0; i < kCalls; ++i) once();
}

void posix_memalign_once() {
  void* block;
  require(posix_memalign(&block, 64, kSize) == 0);
  free(block);
}

void* kept;
size_t kept_usable;
void keep_a_block() {
  require((kept = malloc(1000)) != nullptr);
  kept_usable = malloc_usable_size(kept);
}

// Blocks of another thread, of a class that this thread does not allocate from, and fewer of them than start a hand-over.
constexpr size_t kRemoteSize = 1792;
void* remote_blocks[kCalls * (kWarmUpRounds + 1)];
void** next_remote = remote_blocks;

void* allocate_remote(void*) {
  for (void*& block : remote_blocks) require((block = malloc(kRemoteSize)) != nullptr);
  return nullptr;
}

void have_remote_blocks() {
  free(malloc(kSize));  // this thread comes first, so that the other one gets another shard
  pthread_t thread;
  require(pthread_create(&thread, nullptr, allocate_remote, nullptr) == 0);
  require(pthread_join(thread, nullptr) == 0);
}

struct NamedSymbol {
  const char* name;
  const char* symbol;
};

struct Case {
  void (*round)();
  NamedSymbol entries[2];
  void (*prepare)() = nullptr;
};

const Case kCases[] = {
    {[] { repeat([] { free(malloc(kSize)); }); }, {{"malloc(64)", "malloc"}, {"free of malloc(64)", "free"}}},
    {[] { batch(2048); }, {{"malloc(16..2048)", "malloc"}, {"free of malloc(16..2048)", "free"}}},
    {[] { batch(32768); }, {{"malloc(16..32768)", "malloc"}, {"free of malloc(16..32768)", "free"}}},
    {[] { repeat([] { ::operator delete(::operator new(kSize), kSize); }); },
     {{"operator new(64)", "_Znwm"}, {"operator delete(p, 64)", "_ZdlPvm"}}},
    {[] { repeat([] { ::operator delete[](::operator new[](kSize)); }); },
     {{"operator new[](64)", "_Znam"}, {"operator delete[](p)", "_ZdaPv"}}},
    {[] { repeat([] { ::operator delete(::operator new(kSize, std::nothrow)); }); },
     {{"operator new(64, nothrow)", "_ZnwmRKSt9nothrow_t"}, {"operator delete(p)", "_ZdlPv"}}},
    {[] { repeat([] { ::operator delete(::operator new(kSize, kAlignment), kSize, kAlignment); }); },
     {{"operator new(64, align 64)", "_ZnwmSt11align_val_t"}, {"operator delete(p, 64, align 64)", "_ZdlPvmSt11align_val_t"}}},
    {[] { repeat([] { free(calloc(1, kSize)); }); }, {{"calloc(1, 64)", "calloc"}, {"free of calloc(1, 64)", "free"}}},
    {[] { repeat([] { free(aligned_alloc(64, kSize)); }); },
     {{"aligned_alloc(64, 64)", "aligned_alloc"}, {"free of aligned_alloc(64, 64)", "free"}}},
    {[] { repeat(posix_memalign_once); },
     {{"posix_memalign(64, 64)", "posix_memalign"}, {"free of posix_memalign(64, 64)", "free"}}},
    {[] { repeat([] { require(realloc(kept, kept_usable - 1) == kept); }); },
     {{"realloc within the usable size", "realloc"}},
     keep_a_block},
    {[] { repeat([] { require(malloc_usable_size(kept) == kept_usable); }); },
     {{"malloc_usable_size", "malloc_usable_size"}},
     keep_a_block},
    {[] { repeat([] { free(*next_remote++); }); }, {{"free of another thread's block", "free"}}, have_remote_blocks},
    {[] { repeat([] { free(nullptr); }); }, {{"free of a null pointer", "free"}}},
};

// The executable segment that holds an address.
struct Segment {
  uintptr_t address;
  Range range;
};

Range code_around(const void* address) {
  Segment wanted{reinterpret_cast<uintptr_t>(address), {0, 0}};
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* data) {
        Segment& segment = *static_cast<Segment*>(data);
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const ElfW(Phdr)& header = object->dlpi_phdr[i];
          const Range range{object->dlpi_addr + header.p_vaddr, object->dlpi_addr + header.p_vaddr + header.p_memsz};
          if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0 && range.holds(segment.address)) segment.range = range;
        }
        return 0;
      },
      &wanted);
  return wanted.range;
}

// 0 when the steps of a known path are counted right; otherwise what main returns.
int test_the_counting() {
  const Range path{reinterpret_cast<uintptr_t>(&known_path), reinterpret_cast<uintptr_t>(known_path_end)};
  SingleStepper stepper(path);
  Entry entry{"known path", path.begin, 0, 0, 0, 0};
  const int result = stepper.count(Work{nullptr, [] { repeat(known_path); }, &entry, 1});
  if (result != 0) {
    dprintf(1, "%s\n", stepper.problem());
    return result;
  }
  if (entry.calls == kCalls && entry.least == 4 && entry.most == 4) return 0;
  dprintf(1, "%lu calls of a path of 4 instructions counted as %lu\n", entry.calls, entry.instructions);
  return 1;
}

}  // namespace

// Prints without stdio, whose buffers would come from the allocator under test and so change what the children begin with.
int main() {
  require_expected_library();
  if (const int result = test_the_counting(); result != 0) return result;
  SingleStepper stepper(code_around(dlsym(RTLD_DEFAULT, "malloc")));
  int worst = 0;
  for (const Case& c : kCases) {
    Entry entries[2] = {};
    size_t count = 0;
    for (const NamedSymbol& entry : c.entries)
      if (entry.name != nullptr)
        entries[count++] = Entry{entry.name, reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, entry.symbol)), 0, 0, 0, 0};
    const int result = stepper.count(Work{c.prepare, c.round, entries, count});
    if (result != 0) {
      dprintf(1, "%s: %s\n", c.entries[0].name, stepper.problem());
      worst = 1;
      continue;
    }
    for (size_t i = 0; i < count; ++i) {
      const Entry& entry = entries[i];
      dprintf(1, "%s\t%lu\t%lu\t%lu\t%lu\n", entry.name, entry.calls, entry.instructions, entry.least, entry.most);
    }
  }
  return worst;
}

#endif
