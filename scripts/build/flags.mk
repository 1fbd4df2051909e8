# Every flag of the compiler and the linker. What a distribution may switch on by default is spelt out.

toolchain-machine := $(or $(word 1,$(subst -, ,$(filter x86_64-% aarch64-%,$(notdir $(firstword $(CXX)))))),$(shell uname -m))

# -- the library --
lang-flags := -std=c++20 -fno-exceptions -fno-rtti -fno-threadsafe-statics
code-flags := -O2 $(if $(filter x86_64,$(toolchain-machine)),-march=x86-64 -mtune=generic -fcf-protection=none) \
	-fPIC -fvisibility=hidden -fvisibility-inlines-hidden -ftls-model=initial-exec -fno-plt -fno-semantic-interposition \
	-fno-stack-protector -fno-stack-clash-protection -fasynchronous-unwind-tables -fno-math-errno -U_FORTIFY_SOURCE
# The functions that this library defines are no builtins to it: no call of them may be removed or turned into another.
builtin-flags := -fno-builtin-malloc -fno-builtin-free -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-memalign \
	-fno-builtin-aligned_alloc -fno-builtin-posix_memalign
# Identical functions stay apart: GCC would make one of them jump to the other.
no-folding := $(if $(findstring clang,$(CXX)),,-fno-ipa-icf)
warn-flags := -Wall -Wextra -Wundef -Werror -Werror=date-time
repro-flags := -ffile-prefix-map=$(abs_srctree)/= -ffile-prefix-map=$(abs_objtree)=.
include-flags := -I$(obj)include/generated -I$(or $(src),.)
link-flags := -shared -nodefaultlibs -fuse-ld=bfd -Wl,--no-undefined -Wl,--as-needed -Wl,--hash-style=gnu -Wl,--build-id=sha1 \
	-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,-z,initfirst -Wl,-z,separate-code
link-libs := -lc -lgcc

# -- as configured --
# Objects that throw are left out: the linker would give all code their exceptions. The objects hold ordinary code beside the
# intermediate one, which the white-box tests are linked with; clang has no such objects.
ifeq ($(CONFIG_HZ3_LTO),y)
  lto-flags := -flto $(if $(findstring clang,$(CXX)),,-ffat-lto-objects)
  lto-link-flags := -flto -O2 $(if $(findstring clang,$(CXX)),,-flto-partition=one -frandom-seed=library $(no-folding))
  lto-test-link-flags := $(if $(findstring clang,$(CXX)),-flto,-fno-lto)
endif

# -- on request --
ifneq ($(SANITIZE)$(COVERAGE),)
  ifneq ($(in-tree)$(filter $(build-goals),$(goals)),$(in-tree))
    ifneq ($(in-tree),)
      $(error SANITIZE= and COVERAGE= need a folder of their own: add O=build/<name>)
    endif
  endif
endif
instrument-flags :=
ifneq ($(SANITIZE),)
  instrument-flags += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -g1 -O1 -fno-omit-frame-pointer
  ifneq ($(findstring undefined,$(SANITIZE)),)
    # The linker turns the `add` of an initial-exec access into a `lea`, but gcc's test for null asks for the flags of that `add`.
    instrument-flags += -fno-sanitize=vptr -ftls-model=local-exec
  endif
endif
ifneq ($(COVERAGE),)
  instrument-flags += --coverage -fprofile-update=atomic -O1 -g
  link-libs := -lgcov $(link-libs)
endif
ifneq ($(findstring 1,$(W)),)
  extra-warnings := shadow old-style-cast cast-qual cast-align conversion sign-conversion null-dereference duplicated-cond \
	logical-op useless-cast redundant-decls non-virtual-dtor
  ifneq ($(findstring clang,$(CXX)),)
    extra-warnings := $(filter-out duplicated-cond logical-op useless-cast,$(extra-warnings))
  endif
  warn-flags += $(addprefix -W,$(extra-warnings)) $(if $(findstring e,$(W)),,$(addprefix -Wno-error=,$(extra-warnings)))
endif

# What all objects are compiled with; what one object is, $(1).
common-cxxflags = $(lang-flags) $(code-flags) $(builtin-flags) $(warn-flags) $(repro-flags) $(instrument-flags) $(include-flags)
more-cxxflags-of = $(CXXFLAGS_$(patsubst $(obj)%,%,$(basename $(1)).o))
hz3-cxxflags-of = $(common-cxxflags) $(if $(filter -fexceptions,$(more-cxxflags-of)),,$(lto-flags)) $(more-cxxflags-of) $(EXTRA_CXXFLAGS)
seed-of = -frandom-seed=$(patsubst $(obj)%,%,$(1))
# What the library $(1) is linked of and with; its objects are $(2).
link-flags-of = $(lto-link-flags) $(instrument-flags) $(link-flags) -Wl,-soname,$(notdir $(1)) -Wl,--version-script=$(src)scripts/exports.map -o $(1) $(2) \
	$(link-libs) $(EXTRA_LDFLAGS)

# -- the tests: ordinary programs. Calls of malloc are what they are about, so the compiler keeps them all. --
test-cxxflags-of = -std=c++20 -fsized-deallocation -O1 -g1 -Wall -Wextra -Wundef -Werror $(if $(findstring clang,$(CXX)),,-Wno-alloc-size-larger-than) -fno-builtin -pthread \
	$(repro-flags) $(if $(filter $(obj)tests/unit/% %_whitebox.o,$(1)),$(instrument-flags)) $(include-flags) $(EXTRA_CXXFLAGS)
test-cflags = -std=gnu11 -O1 -g1 -Wall -Wextra -Werror -fno-builtin -pthread $(repro-flags) $(include-flags)
test-libs := -lgmock -lgtest_main -lgtest -pthread -ldl
