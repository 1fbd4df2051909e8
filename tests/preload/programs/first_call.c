/* The first call to the allocator, from .preinit_array, before any library's constructors have run. The argument of the
 * environment variable FIRST_CALL says which it is. A plain C program: it must not get libstdc++ either. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char* what) {
  fprintf(stderr, "%s\n", what);
  _exit(1);
}

static void* in_thread(void* argument) {
  free(calloc(1, 1000));
  return argument;
}

static void first_call(int argc, char** argv, char** environment) {
  (void)argc;
  (void)argv;
  const char* which = "";
  for (char** entry = environment; *entry != NULL; ++entry) {
    if (strncmp(*entry, "FIRST_CALL=", 11) == 0) which = *entry + 11;
  }
  void* block = NULL;
  if (strcmp(which, "free_null") == 0) free(NULL);
  if (strcmp(which, "usable_null") == 0 && malloc_usable_size(NULL) != 0) fail("usable size of NULL");
  if (strcmp(which, "trim") == 0) malloc_trim(0);
  if (strcmp(which, "mallinfo") == 0) (void)mallinfo2();
  if (strcmp(which, "mallopt") == 0) mallopt(M_MMAP_THRESHOLD, 1 << 20);
  if (strcmp(which, "malloc") == 0) block = malloc(100);
  if (strcmp(which, "calloc") == 0) block = calloc(10, 10);
  if (strcmp(which, "realloc") == 0) block = realloc(NULL, 100);
  if (strcmp(which, "memalign") == 0) block = memalign(4096, 100);
  if (strcmp(which, "large") == 0) block = malloc(3000000);
  if (strcmp(which, "overflow") == 0) {
    volatile size_t huge = (size_t)-1;
    if (malloc(huge) != NULL || errno != ENOMEM) fail("overflow");
  }
  if (strcmp(which, "free_foreign") == 0) {
    static _Alignas(4096) char foreign[8192];
    void* volatile pointer = foreign + 64;
    memset(foreign, 0x3C, sizeof foreign);
    free(pointer);
    for (size_t i = 0; i < sizeof foreign; ++i) {
      if (foreign[i] != 0x3C) fail("a foreign block was written to");
    }
  }
  if (strcmp(which, "thread") == 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL) != 0) fail("pthread_create");
    pthread_join(thread, NULL);
  }
  if (block != NULL) memset(block, 1, malloc_usable_size(block));
  free(block);
}

__attribute__((section(".preinit_array"), used)) static void (*const run_first)(int, char**, char**) = first_call;

int main(void) {
  for (size_t size = 0; size < 100000; size += 333) {
    char* block = malloc(size);
    if (block == NULL) fail("malloc");
    memset(block, 2, size);
    block = realloc(block, size + 5000);
    if (block == NULL || (size > 0 && block[size - 1] != 2)) fail("realloc");
    free(block);
  }
  const char* expected = getenv("HZ3_EXPECT_LIBRARY");
  const char* name = expected == NULL ? NULL : strrchr(expected, '/');
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  int library_seen = name == NULL;
  while (fgets(line, sizeof line, maps) != NULL) {
    if (strstr(line, "libstdc++") != NULL) fail("libstdc++ was loaded into a C program");
    if (name != NULL && strstr(line, name) != NULL) library_seen = 1;
  }
  fclose(maps);
  if (!library_seen) fail("the library under test is not mapped");
  return 0;
}
