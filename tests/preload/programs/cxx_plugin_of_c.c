// cxx_plugin_of_c PLUGIN: a C program that loads a C++ library for itself alone, and libstdc++ with it. The exit code is what
// the library's fail_to_allocate() returns.
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  if (argc != 2) return 90;
  if (dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv") != NULL) return 91;  // no test if everybody sees libstdc++
  void* plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (plugin == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 92;
  }
  int (*fail_to_allocate)(void) = (int (*)(void))dlsym(plugin, "fail_to_allocate");
  return fail_to_allocate != NULL ? fail_to_allocate() : 93;
}
