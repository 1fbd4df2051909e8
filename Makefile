# The build of hz3. `make help` lists what can be made. The ways of Linux' Kbuild, in one make process:
#
#   * Each folder's Makefile is a list of objects: `obj-y += os.o` and `obj-$(CONFIG_HZ3_REMOTE_DENSE) += dense_bank.o` are
#     compiled from the .cpp of the same name and linked in that order; `obj-y += remote/` is a subfolder; `entry-y` are the
#     objects that define malloc and the like, which the white-box tests are linked without.
#     `CXXFLAGS_hz3/entry.o += -fexceptions` adds flags for one object.
#   * A configuration (.config) becomes include/generated/autoconf.h and one empty file include/config/<symbol> for each
#     symbol, touched when its value changes. An object depends on the files of those symbols that its sources mention
#     (scripts/build/fixdep.py), and on the command that made it (.<object>.cmd).
#   * $(src) and $(obj) are the folders of sources and of everything that is made, with a slash at the end: empty for a build
#     in the source tree, absolute with O=.

MAKEFLAGS += -rR --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
PHONY :=
__default: all

# ---- where --------------------------------------------------------------------------------------------------------------

this-makefile := $(lastword $(MAKEFILE_LIST))
abs_srctree := $(realpath $(dir $(this-makefile)))
output := $(if $(filter command,$(firstword $(origin O))),$(O),$(or $(O),$(KBUILD_OUTPUT)))
objtree-wanted := $(or $(output),$(CURDIR))
# What make or a shell would take a path apart at; asked before anything is made there.
odd-signs := : = % $$ \# \ ' " ` ; & | ( ) < > * ? [ ]
path-is-odd = $(word 2,$(1))$(strip $(foreach sign,$(odd-signs),$(findstring $(sign),$(1))))
ifneq ($(call path-is-odd,$(abs_srctree)$(CURDIR)$(objtree-wanted)),)
  $(error the paths of the source and output folders must have no spaces, no colons, quotes or other signs of the shell)
endif
ifneq ($(call path-is-odd,$(KCONFIG_CONFIG)),)
  $(error KCONFIG_CONFIG must have no spaces, no colons, quotes or other signs of the shell)
endif
abs_objtree := $(realpath $(objtree-wanted))
ifeq ($(abs_objtree),)
  ifneq ($(shell mkdir -p '$(objtree-wanted)' 2>&1),)
    $(error the output folder $(objtree-wanted) cannot be made)
  endif
  abs_objtree := $(realpath $(objtree-wanted))
endif
in-tree := $(filter $(abs_srctree),$(abs_objtree))
# The same paths, and so the same commands, from wherever make is called.
src := $(if $(and $(in-tree),$(filter $(abs_srctree),$(CURDIR))),,$(abs_srctree)/)
obj := $(if $(src),$(abs_objtree)/)

kconfig-name := $(or $(KCONFIG_CONFIG),.config)
kconfig := $(if $(filter /%,$(kconfig-name)),,$(obj))$(kconfig-name)

# ---- how it is told -----------------------------------------------------------------------------------------------------

verbose := $(if $(filter command,$(firstword $(origin V))),$(V))
Q := $(if $(findstring 1,$(verbose)),,@)
W := $(if $(filter command,$(firstword $(origin W))),$(W))
C := $(if $(filter command,$(firstword $(origin C))),$(C))
quiet := $(findstring s,$(filter-out --%,$(firstword x$(MAKEFLAGS))))
say = $(if $(quiet),: ,printf '  %-8s%s\n' '$(1)' '$(patsubst $(obj)%,%,$(2))')
pound := \#
squote := '
empty :=
space := $(empty) $(empty)
define newline


endef
escsq = $(subst $(squote),'\$(squote)',$(1))

# Nothing of the caller's surroundings may reach what is built.
export LC_ALL := C
export TZ := UTC
export SOURCE_DATE_EPOCH := 0
unexport CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH OBJC_INCLUDE_PATH LIBRARY_PATH COMPILER_PATH GCC_EXEC_PREFIX LD_RUN_PATH
unexport LD_LIBRARY_PATH LD_PRELOAD LD_OPTIONS LDEMULATION GCC_COMPARE_DEBUG DEPENDENCIES_OUTPUT SUNPRO_DEPENDENCIES
unexport CCC_OVERRIDE_OPTIONS CLANG_CONFIG_FILE_SYSTEM_DIR CLANG_CONFIG_FILE_USER_DIR

# ---- tools --------------------------------------------------------------------------------------------------------------

ifneq ($(filter default undefined,$(origin CXX)),)
  CXX := g++
endif
ifneq ($(filter default undefined,$(origin CC)),)
  CC := gcc
endif
ifneq ($(filter default undefined,$(origin AR)),)
  AR := ar
endif
PYTHON3 ?= /usr/bin/python3
CLANG_TIDY ?= clang-tidy
CLANG_FORMAT ?= clang-format
CTAGS ?= ctags
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
python := $(PYTHON3) -I -B
kconf := srctree='$(abs_srctree)' objtree='$(or $(obj),./)' KCONFIG_CONFIG='$(abspath $(kconfig))' \
	KCONFIG_SEED='$(call escsq,$(KCONFIG_SEED))' KCONFIG_STYLE='$(if $(findstring c,$(W)),$(if $(findstring e,$(W)),error,warning))' $(python) $(src)scripts/build/kconf.py

# ---- what kind of goals -------------------------------------------------------------------------------------------------

goals := $(or $(MAKECMDGOALS),all)
interactive-goals := menuconfig nconfig guiconfig oldconfig
config-goals := $(interactive-goals) olddefconfig savedefconfig listnewconfig alldefconfig allyesconfig allnoconfig randconfig \
	%_defconfig %.config
config-goals-given := $(filter $(config-goals),$(goals))
clean-goals := clean mrproper distclean
# Goals that need no configuration, or bring their own.
free-goals := help lanes lane-% info-lanes info-of-% perf-stat report report-picture memory-report coverage format format-check \
	tags cscope docs docs-% frozen-check frozen-record frozen-bump $(clean-goals)
build-goals := $(filter-out $(config-goals) $(free-goals),$(goals))

one-by-one := $(and $(config-goals-given)$(filter $(clean-goals),$(goals)),$(filter-out 1,$(words $(goals))))
ifneq ($(one-by-one),)

# Goals that change the configuration, or clean, together with others: one after another, each with all its jobs.
PHONY += $(goals) __one-by-one
$(goals): __one-by-one
	@:
__one-by-one:
	@set -e; for goal in $(goals); do $(MAKE) -f $(src)Makefile $$goal; done

else ifneq ($(config-goals-given),)

# ---- configuration ------------------------------------------------------------------------------------------------------

include $(src)scripts/build/config.mk

else

# ---- the configuration as make sees it ----------------------------------------------------------------------------------

ifneq ($(build-goals),)
  ifeq ($(wildcard $(kconfig)),)
    $(error no configuration $(kconfig): make one with `make fast_defconfig` (others: $(filter-out \
      fast_defconfig,$(notdir $(wildcard $(src)configs/*_defconfig))), menuconfig))
  endif
  # The configuration is read again when its content, or a Kconfig file, differs from what was read last.
  config-is-read := $(shell cd $(or $(obj),.)/include/config 2>/dev/null && cmp -s '$(abspath $(kconfig))' seen.config && \
    changed=$$(find $$(cat kconfig.files) $(addprefix $(abs_srctree)/scripts/build/,kconf.py strict.py) -newer seen.config 2>&1) && \
    test -z "$$changed" && echo yes)
  ifneq ($(config-is-read)$(findstring c,$(W)),yes)
    config-answer := $(shell $(kconf) sync 2>&1)
    ifneq ($(.SHELLSTATUS),0)
      $(error $(config-answer))
    endif
    ifneq ($(config-answer),)
      $(info $(subst ;; ,$(newline),$(config-answer)))
    endif
    ifeq ($(in-tree)$(wildcard $(obj)Makefile),)
      $(file >$(obj)Makefile,# Made by the build: `make` works in this folder, too.$(newline)include $(abs_srctree)/Makefile)
    endif
  endif
  include $(obj)include/config/auto.conf
endif

include $(src)scripts/build/flags.mk
include $(src)scripts/build/rules.mk

# ---- the objects --------------------------------------------------------------------------------------------------------

lib-objs :=
entry-objs :=
spare-objs :=
# Reads the object lists of a folder and of its subfolders.
define read-folder
obj-y :=
obj-n :=
obj- :=
entry-y :=
include $(src)$(1)Makefile
$$(if $$(obj-),$$(error $(1)Makefile: $$(obj-) depends on a symbol that no Kconfig defines))
lib-objs += $$(addprefix $(1),$$(filter %.o,$$(obj-y)))
entry-objs += $$(addprefix $(1),$$(entry-y))
spare-objs += $$(addprefix $(1),$$(obj-n))
$$(foreach folder,$$(addprefix $(1),$$(filter %/,$$(obj-y))),$$(eval $$(call read-folder,$$(folder))))
endef

ifneq ($(build-goals),)
$(eval $(call read-folder,hz3/))
lib-objs := $(addprefix $(obj),$(lib-objs))
entry-objs := $(addprefix $(obj),$(entry-objs))
all-objs := $(lib-objs) $(entry-objs)
# What this configuration leaves out can still be looked at, one by one.
single-objs := $(all-objs) $(addprefix $(obj),$(spare-objs))

library := libhakozuna_hz3_$(CONFIG_HZ3_LANE_NAME).so
archive := $(obj)libhz3_whitebox.a

PHONY += all checkconfig
checkconfig:
	@:
all: $(if $(SANITIZE),$(archive),$(obj)$(library))

$(single-objs): $(obj)%.o: $(src)%.cpp $(toolchain-file) FORCE
	$(call if_changed_dep,cxx)
$(single-objs:.o=.s): $(obj)%.s: $(src)%.cpp $(toolchain-file) FORCE
	$(call if_changed_dep,cxx_s)
$(single-objs:.o=.i): $(obj)%.i: $(src)%.cpp $(toolchain-file) FORCE
	$(call if_changed_dep,cxx_i)
$(obj)$(library): $(all-objs) $(src)scripts/exports.map $(toolchain-file) FORCE
	$(call if_changed,link)
$(archive): $(lib-objs) FORCE
	$(call if_changed,ar)
# What `make info` asks for the sizes of what each thread has.
thread-state := $(obj)tests/bin/thread_state
quiet_cmd_cxx_tool = CXX
      cmd_cxx_tool = $(CXX) $(lang-flags) $(warn-flags) $(repro-flags) $(include-flags) -O1 -MD -MF $(depfile) -o $@ $<
$(thread-state): $(src)scripts/build/thread_state.cpp $(toolchain-file) FORCE
	$(call if_changed_dep,cxx_tool)
targets += $(thread-state) $(single-objs) $(single-objs:.o=.s) $(single-objs:.o=.i) $(obj)$(library) $(archive)

include $(src)tests/Makefile

# `make hz3/os.o O=build/x` means that folder's.
ifneq ($(obj),)
single-goals := $(filter $(patsubst $(obj)%,%,$(targets)),$(goals))
PHONY += $(single-goals)
$(single-goals): %: $(obj)%
endif

# What was made before knows its command and its dependencies.
make-folders := $(sort $(dir $(targets)))
missing-folders := $(filter-out $(wildcard $(make-folders)),$(make-folders))
ifneq ($(strip $(missing-folders)),)
  $(shell mkdir -p $(missing-folders))
endif
-include $(wildcard $(foreach target,$(targets),$(dir $(target)).$(notdir $(target)).cmd))
endif

include $(src)scripts/build/goals.mk

endif

PHONY += FORCE __default
FORCE:
.PHONY: $(PHONY)
