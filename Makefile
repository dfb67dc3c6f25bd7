# SPDX-License-Identifier: MIT
# Two commands are enough to begin with: `make run` shows what Holdfast is, `make check` tests it.
# Behind them stands meson (meson.build); the work is done by the scripts in tools/.
#
# PREFIX, DESTDIR   where `make install` puts things            (default /usr/local, none)
# DEMO_ARGS         more arguments for `holdfast demo` in `make run`
# FUZZ_SECONDS      how long `make fuzz` runs, all targets together   (default 600)
# CHECK_ARGS        more arguments for tools/run-checks in `make check`, as CHECK_ARGS='--only gcc'

BUILD := build
PREFIX ?= /usr/local
DESTDIR ?=
DEMO_ARGS ?=
CHECK_ARGS ?=
FUZZ_SECONDS ?= 600

HOLDFAST := $(BUILD)/app/cli/holdfast
CONTROL := $(BUILD)/app/cli/holdfast-control

# Shows nothing of a command unless it fails; then the end of its log.
QUIET := tools/run-quietly

.DEFAULT_GOAL := build
.PHONY: help build run check soak fuzz bench bench-scale install format clean setup-packages

help: ## this list
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

# What every target that compiles begins with. Reconfiguring an unchanged build costs nothing.
$(BUILD)/build.ninja: | packages-run
	@$(QUIET) $(BUILD)/setup.log "configuring" meson setup --prefix "$(abspath $(PREFIX))" $(BUILD)

.PHONY: packages-run packages-check configure-tests
packages-run:
	@tools/setup-packages run

packages-check:
	@tools/setup-packages check

configure-tests: packages-check $(BUILD)/build.ninja
	@$(QUIET) $(BUILD)/setup.log "configuring the tests" meson configure -Dtests=enabled $(BUILD)

build: packages-run $(BUILD)/build.ninja ## compile everything into build/ (needs the packages of `make setup-packages`)
	@$(QUIET) $(BUILD)/build.log "building" ninja -C $(BUILD)

run: packages-run $(BUILD)/build.ninja ## install what is missing, build, and run the demo: under a minute
	@$(QUIET) $(BUILD)/build.log "building" ninja -C $(BUILD) app/cli/holdfast app/cli/holdfast-control \
		app/preload/libholdfast-preload.so
	@$(HOLDFAST) demo --control $(CONTROL) $(DEMO_ARGS)

check: packages-check ## all tests in all builds (gcc, clang, ASan+UBSan, TSan) and all static checks
	@tools/run-checks $(CHECK_ARGS)

soak: configure-tests ## the stress test, a million operations in several configurations; longer runs of other tests
	@$(QUIET) $(BUILD)/build.log "building" ninja -C $(BUILD)
	@tests/stress/soak.sh $(BUILD)/tests/stress/stress

fuzz: packages-check ## the fuzz targets for FUZZ_SECONDS (600), with libFuzzer, ASan and UBSan
	@tools/run-fuzz --seconds $(FUZZ_SECONDS)

bench: configure-tests ## the benchmarks
	@$(QUIET) $(BUILD)/build.log "building" ninja -C $(BUILD)
	@bench/run.sh $(BUILD)

bench-scale: configure-tests ## benchmarks of size: SCALE_FILES=100000 files, volumes, extents (needs 6 GB in BENCH_DISK)
	@$(QUIET) $(BUILD)/build.log "building" ninja -C $(BUILD)
	@$(BUILD)/bench/scale

install: build ## install library, headers, pkg-config file and command: PREFIX=/usr/local DESTDIR=
	@$(QUIET) $(BUILD)/setup.log "configuring" meson configure --prefix "$(abspath $(PREFIX))" $(BUILD)
	@$(QUIET) $(BUILD)/install.log "installing" env DESTDIR="$(DESTDIR)" meson install -C $(BUILD)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig
	@echo "installed below $(DESTDIR)$(abspath $(PREFIX))"

format: ## let clang-format rewrite the sources
	@tools/check-format --fix

setup-packages: ## only install the packages that building and checking need
	@tools/setup-packages check

clean: ## remove build/
	@rm -rf $(BUILD)
