# Commands, and when they run: if a prerequisite is newer, or if the command itself differs from the one that made the target.

targets :=

# A change of compiler rebuilds. It shows in the size and time of its file; the compiler itself is not started for that.
toolchain-file := $(obj)include/config/toolchain
ifneq ($(build-goals),)
toolchain-id := $(shell for word in $(CXX); do stat -L -c '%n %s %Y' $$(command -v $$word) 2>/dev/null; done)
ifneq ($(file <$(toolchain-file)),$(toolchain-id))
  $(file >$(toolchain-file),$(toolchain-id))
endif
$(toolchain-file): ;
endif

depfile = $(dir $@).$(notdir $@).d
tidy = $(if $(filter 1,$(C)),$(if $(filter %.cpp,$<),; $(call say,TIDY,$<); $(CLANG_TIDY) --quiet $< -- $(tidy-flags)))
tidy-flags = $(filter -std=% -I% -D% -f%exceptions -f%rtti,$(call hz3-cxxflags-of,$@)) -Wall -Wextra

quiet_cmd_cxx = CXX
      cmd_cxx = $(CXX) $(call hz3-cxxflags-of,$@) $(call seed-of,$@) -MD -MF $(depfile) -c -o $@ $<
quiet_cmd_cxx_s = CXX -S
      cmd_cxx_s = $(CXX) $(call hz3-cxxflags-of,$@) $(call seed-of,$@) -MD -MF $(depfile) -S -fverbose-asm -o $@ $<
quiet_cmd_cxx_i = CXX -E
      cmd_cxx_i = $(CXX) $(call hz3-cxxflags-of,$@) $(call seed-of,$@) -MD -MF $(depfile) -E -o $@ $<
quiet_cmd_link = LINK
      cmd_link = $(CXX) $(call link-flags-of,$@,$(all-objs))
quiet_cmd_ar = AR
      cmd_ar = rm -f $@; $(AR) rcsD $@ $(lib-objs)

# The command as text that make reads back as the same command.
make-cmd = $(call escsq,$(subst $(pound),$$(pound),$(subst $$,$$$$,$(cmd_$(1)))))
newer = $(filter-out $(PHONY),$?)
differs = $(if $(filter-out x$(subst $(space),_,$(strip $(savedcmd_$@))),x$(subst $(space),_,$(strip $(cmd_$(1))))),yes)
why = $(if $(wildcard $@),$(if $(newer),newer: $(newer),$(if $(savedcmd_$@),the command differs,no record of its command)),not there)
announce = $(if $(findstring 1,$(verbose)),printf '%s\n' '$(call escsq,$(cmd_$(1)))',$(call say,$(quiet_cmd_$(1)),$@$(if \
	$(findstring 2,$(verbose)), - $(why))))
record = printf '%s\n' 'savedcmd_$@ := $(make-cmd)'

if_changed = $(if $(newer)$(differs),@set -e; $(announce); $(cmd_$(1)); \
	$(record) > $(dir $@).$(notdir $@).cmd,@:)
if_changed_dep = $(if $(newer)$(differs),@set -e; $(announce); $(cmd_$(1))$(tidy); \
	{ $(record); $(python) -S $(src)scripts/build/fixdep.py $(depfile) $@ '$(obj)'; } > $(dir $@).$(notdir $@).cmd,@:)
