# The targets that make or change .config.
PHONY += $(config-goals-given)

known := $(notdir $(wildcard $(src)configs/*_defconfig $(src)configs/*.config))
unknown := $(filter-out $(known) alldefconfig olddefconfig savedefconfig,$(filter %_defconfig %.config,$(config-goals-given)))
ifneq ($(unknown),)
  $(error no configs/$(firstword $(unknown)); there are: $(known))
endif

ifneq ($(filter %.config savedefconfig,$(config-goals-given)),)
  ifeq ($(wildcard $(kconfig)),)
    $(error no configuration $(kconfig) that $(firstword $(config-goals-given)) could work on: make one with `make fast_defconfig`)
  endif
endif

$(filter %_defconfig,$(config-goals-given)):
	$(Q)$(kconf) defconfig $(src)configs/$@

$(filter %.config,$(config-goals-given)):
	$(Q)$(kconf) merge $(src)configs/$@

nconfig: menuconfig
	@echo "nconfig is menuconfig here: there is one interface for the terminal."

$(filter-out %_defconfig %.config nconfig,$(config-goals-given) $(if $(filter nconfig,$(config-goals-given)),menuconfig)):
	$(Q)$(kconf) $@
