# Goals beside the library itself.
defconfigs := $(sort $(notdir $(wildcard $(src)configs/*_defconfig)))
fragments := $(sort $(notdir $(wildcard $(src)configs/*.config)))
lanes := $(patsubst %_defconfig,%,$(defconfigs))
clean-make = $(MAKE) -f $(src)Makefile KCONFIG_CONFIG=.config

# -- lanes --
PHONY += lanes $(addprefix lane-,$(lanes))
lanes: $(addprefix lane-,$(lanes))
$(addprefix lane-,$(lanes)): lane-%:
	@mkdir -p $(obj)build/lanes
	+$(Q)$(clean-make) -s O=$(abs_objtree)/build/$* $*_defconfig
	+$(Q)$(clean-make) O=$(abs_objtree)/build/$* all
	$(Q)for library in $(obj)build/$*/libhakozuna_hz3_*.so; do cmp -s $$library $(obj)build/lanes/$${library##*/} || \
		{ cp -f $$library $(obj)build/lanes/ && $(call say,COPY,$(obj)build/lanes/)$${library##*/}; }; done

# -- frozen lanes --
PHONY += flags frozen-check frozen-record frozen-bump
flags:
	@printf '%s\n' 'compile $(call escsq,$(common-cxxflags) $(lto-flags) $(call seed-of,OBJECT))' $(foreach object,$(patsubst $(obj)%,%,$(all-objs)), \
		$(if $(CXXFLAGS_$(object)),'object $(object) $(call escsq,$(CXXFLAGS_$(object)))')) \
		'link $(call escsq,$(call link-flags-of,$(library),$(patsubst $(obj)%,%,$(all-objs))))'
frozen-is-given := $(strip $(foreach name,EXTRA_CXXFLAGS EXTRA_LDFLAGS SANITIZE COVERAGE KCONFIG_CONFIG,$(if \
	$(filter command,$(firstword $(origin $(name)))),$(name))))
frozen-check frozen-record frozen-bump:
	$(if $(frozen-is-given),$(error $@ builds the lanes as they are: it takes no $(frozen-is-given)))
	+$(Q)CXX='$(CXX)' OUT='$(abs_objtree)/build/frozen' $(python) $(src)scripts/frozen/frozen.py $(@:frozen-%=%)$(frozen-verdict)
# UNVERIFIED has an exit code of its own.
frozen-check: frozen-verdict = $(if $(filter 1,$(FROZEN_STRICT)),, || test $$? = 3)

# -- memory that the library needs for itself --
PHONY += info info-lanes
ifneq ($(build-goals),)
info: $(obj)$(library) $(thread-state)
	@$(memory-table) $(obj)$(library) $(abspath $(thread-state))
endif
memory-table = $(python) $(src)scripts/build/memory.py
lane-states = $(foreach lane,$(lanes),$(wildcard $(obj)build/$(lane)/libhakozuna_hz3_*.so) $(abs_objtree)/build/$(lane)/tests/bin/thread_state)
PHONY += $(addprefix info-of-,$(lanes))
$(addprefix info-of-,$(lanes)): info-of-%: lane-%
	+@$(clean-make) -s O=$(abs_objtree)/build/$* info >/dev/null
info-lanes: $(addprefix info-of-,$(lanes))
	@$(memory-table) $(lane-states)

# -- install --
PHONY += install
install: all
	$(Q)mkdir -p '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(PREFIX)/include'
	$(Q)install -m 755 $(obj)$(library) '$(DESTDIR)$(LIBDIR)/$(library)'
	$(Q)install -m 644 $(abs_srctree)/hz3/hz3.h '$(DESTDIR)$(PREFIX)/include/hz3.h'
	@$(call say,INSTALL,$(DESTDIR)$(LIBDIR)/$(library))

# -- help for editors --
source-files = $(shell cd $(abs_srctree) && find hz3 tests -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.c' | sort)
PHONY += tags cscope compile_commands.json
tags:
	@$(call say,TAGS,tags)
	$(Q)$(CTAGS) -f $(obj)tags --languages=C++,C $(addprefix $(src),$(source-files))
cscope:
	@$(call say,CSCOPE,cscope.out)
	$(Q)printf '%s\n' $(addprefix $(src),$(source-files)) > $(obj)cscope.files
	$(Q)cscope -b -q -k -i $(obj)cscope.files -f $(obj)cscope.out

ifneq ($(filter compile_commands.json,$(goals)),)
compile_commands.json:
	@$(call say,GEN,$@)
	$(Q)$(python) $(src)scripts/build/compile_commands.py $(obj)compile_commands.json $(CURDIR) \
		$(foreach object,$(all-objs),'$(call compile-command,hz3-cxxflags-of,$(object))') \
		$(foreach object,$(test-cxx-objs),'$(call compile-command,test-cxxflags-of,$(object))')
endif
# The command for an object outside its rule.
compile-command = $(call escsq,$(CXX) $(call $(1),$(2)) -c -o $(2) $(patsubst $(obj)%.o,$(src)%.cpp,$(2)))

# -- format --
format-files = $(addprefix $(src),$(source-files))
PHONY += format format-check
format:
	$(Q)$(CLANG_FORMAT) -i $(format-files)
format-check:
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(format-files)

# -- documentation that is made --
PHONY += docs docs-check docs-memory docs-memory-check
docs:
	$(Q)$(kconf-docs) > $(obj)docs-configuration.tmp && mkdir -p $(obj)docs && mv $(obj)docs-configuration.tmp $(obj)docs/configuration.md
docs-check:
	$(Q)$(kconf-docs) | cmp -s - $(src)docs/configuration.md || { echo "docs/configuration.md is out of date: run \`make docs\`" >&2; exit 1; }
# The page of every lane's memory: the lanes are built for it.
docs-memory: $(addprefix info-of-,$(lanes))
	$(Q)mkdir -p $(obj)docs && $(memory-table) --page $(lane-states) > $(obj)docs-memory.tmp && mv $(obj)docs-memory.tmp $(obj)docs/memory.md
docs-memory-check: $(addprefix info-of-,$(lanes))
	$(Q)$(memory-table) --page $(lane-states) | cmp -s - $(src)docs/memory.md || \
		{ echo "docs/memory.md is out of date: run \`make docs-memory\`" >&2; exit 1; }
kconf-docs = srctree='$(abs_srctree)' $(python) $(src)scripts/build/document_config.py

# -- measuring: docs/benchmarks.md; the variables of the command line are the scripts' settings --
PHONY += perf-stat report report-picture memory-report
perf-stat:
	+$(Q)$(python) $(src)scripts/bench/perf_stat.py
report:
	+$(Q)$(python) $(src)scripts/bench/report.py
report-picture:
	$(Q)$(python) $(src)scripts/bench/picture.py
memory-report:
	+$(Q)$(python) $(src)scripts/bench/memory_report.py

# -- coverage --
PHONY += coverage
coverage:
	+$(Q)$(clean-make) -s O=$(abs_objtree)/build/coverage fast_defconfig debug.config
	+$(Q)$(clean-make) O=$(abs_objtree)/build/coverage COVERAGE=1 all tests-unit $(if $(COVERAGE_PROGRAMS),,tests-preload)
	$(Q)find $(obj)build/coverage -name '*.gcda' -delete
	$(Q)status=0; $(python) $(src)scripts/run_tests.py --no-build -j"$$(nproc)" --objtree $(abs_objtree)/build/coverage \
		$(if $(COVERAGE_PROGRAMS),--programs $(abspath $(COVERAGE_PROGRAMS))) unit preload || status=1; \
	cd $(abs_srctree) && gcovr --root . --filter 'hz3/' --exclude-throw-branches --fail-under-line 90 $(GCOVR_FLAGS) \
		$(abs_objtree)/build/coverage || status=1; exit $$status

# -- cleaning --
made-in := $(addprefix $(obj),hz3 tests)
PHONY += $(clean-goals)
clean:
	@$(call say,CLEAN,$(or $(obj),.))
	$(Q)rm -f $(obj)libhakozuna_hz3_*.so $(obj)libhz3_whitebox.a $(obj).*.cmd $(obj)tests/tests.list
	$(Q)rm -rf $(obj)tests/bin $(obj)tests/variants
	$(Q)if test -d $(obj)hz3; then find $(wildcard $(made-in)) \( -name '*.o' -o -name '*.s' -o -name '*.i' -o -name '.*.cmd' \
		-o -name '.*.d' -o -name '*.gcno' -o -name '*.gcda' \) -type f -delete; fi
mrproper: clean
	$(Q)rm -rf $(obj)include/config $(obj)include/generated $(obj)build
	$(Q)rm -f $(kconfig) $(kconfig).old $(obj)defconfig
	$(Q)rmdir $(obj)include 2>/dev/null || true
	$(if $(in-tree),,$(Q)rm -f $(obj)Makefile; find $(or $(obj),.) -mindepth 1 -type d -empty -delete)
distclean: mrproper
	$(Q)rm -f $(addprefix $(obj),tags cscope.files cscope.out cscope.out.in cscope.out.po compile_commands.json)
	$(if $(in-tree),$(Q)find . \( -name .git -prune \) -o \( -name '*~' -o -name '*.orig' -o -name '*.rej' -o -name '#*#' \) -type f -exec rm -f {} +)

# -- help --
PHONY += help
help:
	@cat $(src)scripts/build/help.txt
	@echo
	@echo 'Configurations (configs/):'
	@for file in $(defconfigs) $(fragments); do \
		printf '  %-22s %s\n' $$file "$$(sed -n '1s/^# *//p' $(src)configs/$$file)"; done
