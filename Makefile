# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Entry points. All work is done by tools/testing (dlr-box): this file only
# builds it and hands over. Nothing is written to the work tree.

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dlr
# The same name as cache::tree_name() gives this work tree.
TREE := $(CACHE)/trees/$(shell printf %s "$(realpath $(CURDIR))" | sha256sum | cut -c1-12)
# The first time cargo shows what it does: it takes a minute or two.
BOX = CARGO_TARGET_DIR="$(TREE)/host" $(CARGO) run \
	$$([ ! -x "$(TREE)/host/debug/dlr-box" ] || echo --quiet) --package dlr-testing --bin dlr-box --

# Data functions in the box of `make shell`.
FUNCTIONS ?= 2

.PHONY: help demo test fast fuzz fuzz-driver precopies test-one test-wide test-debug test-upstream mutants soak bench kunit shell rootfs kernel modules programs fmt clippy doc clean \
	distclean prerequisites

help:
	@echo 'make demo            live-migrate a guest with a passed-through NIC, and show what happened'
	@echo '                     (ARGS=--help lists what can be varied)'
	@echo 'make test            run every test (LAYER=style|host|module|native|native-debug|whole|bench|debug|'
	@echo '                     boxes|kunit|upstream for one layer)'
	@echo 'make fast            run what needs no host box: style, host tests, the tests of the driver'
	@echo '                     natively (LAYER=native: these only)'
	@echo 'make test-one NAME=  run the tests in host boxes whose name contains NAME'
	@echo 'make test-wide       run scenarios that take long or depend on bugs of QEMU'
	@echo 'make test-debug      run all tests without guests on a kernel with KASAN, lockdep and more (NAME= as above)'
	@echo 'make mutants         put known bugs into driver and NIC, one at a time: a named test must fail'
	@echo '                     (ID= only those whose id begins so)'
	@echo 'make soak            migrate natively, under traffic, with cancels and faults of the NIC, and compare all'
	@echo '                     memory (MIGRATIONS=$(MIGRATIONS); SEED= repeats one; an interrupted one goes on)'
	@echo 'make fuzz            look for strings that break the NIC, with libFuzzer (SECONDS=$(SECONDS) for each'
	@echo '                     of message, queues, state; TARGET= only one)'
	@echo 'make fuzz-driver     make random calls on the driver, natively, and compare with what VFIO says'
	@echo '                     (STEPS=$(STEPS); SEED= repeats one; DEBUG=1 on the kernel that checks itself; one'
	@echo '                     that was interrupted goes on)'
	@echo 'make precopies       count the boxes in which a guest dies in one of 200 pre-copies, each cancelled'
	@echo '                     (ARGS=--help lists what can be varied)'
	@echo 'make test-upstream   run the tests of the driver natively on a kernel with our patches for it'
	@echo 'make bench           measure what the driver costs beside C drivers (BASE=commit: that one too;'
	@echo '                     PART=native|idle|stream|nic|overflow|downtime|per-nic: these parts only;'
	@echo '                     SHORT=1: only to see that it works)'
	@echo 'make kunit           run the tests of the driver in a host box'
	@echo 'make shell           a host box with the NIC bound and vfio-mig in PATH, to play with'
	@echo '                     (FUNCTIONS=$(FUNCTIONS) data functions)'
	@echo 'make modules         build the driver for the kernel of the host box, or for the prepared'
	@echo '                     kernel build tree KDIR=/lib/modules/.../build'
	@echo 'make kernel          build the kernel of the host box'
	@echo 'make rootfs          build the root file system of the host box'
	@echo 'make programs        build the Rust programs (NIC, tool, agent, guest)'
	@echo 'make fmt             format all Rust code'
	@echo 'make clippy          lint user space'
	@echo 'make doc             build the documentation of the Rust code of user space'
	@echo 'make clean           remove what was built from this work tree'
	@echo 'make distclean       remove the whole cache: $(CACHE)'

# Names what only the machine can provide, before anything fails for want of it.
prerequisites:
	@command -v apt-get >/dev/null || { echo 'this needs a Debian-like machine (apt-get)' >&2; exit 1; }
	@command -v cc >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; \
		else echo 'missing: a C compiler. sudo apt-get install gcc libc6-dev' >&2; exit 1; fi; }
	@command -v $(CARGO) >/dev/null || { \
		echo 'missing: a Rust toolchain, 1.85 or later: see https://rustup.rs' >&2; exit 1; }

demo: prerequisites
	@$(BOX) cargo run --quiet --package dlr-testing --bin dlr-demo -- $(ARGS)

test: prerequisites
	@$(BOX) test $(addprefix --layer ,$(LAYER))

fast: prerequisites
	@$(BOX) test $(addprefix --layer ,$(or $(LAYER),style host native native-debug))

test-one: prerequisites
	@[ -n "$(NAME)" ] || { echo 'which test? make test-one NAME=...' >&2; exit 1; }
	@$(BOX) test --layer boxes --name "$(NAME)"

# See Documentation/testing.rst, "What the emulated processor gets wrong".
precopies: prerequisites
	@$(BOX) cargo run --quiet --package dlr-testing --bin dlr-precopies -- $(ARGS)

# See Documentation/scenarios.rst.
test-wide: prerequisites
	@DLR_WIDE=1 $(BOX) test --layer boxes --name wide

# See Documentation/testing.rst.
test-debug: prerequisites
	@$(BOX) test --debug --layer kunit --layer boxes $(if $(NAME),--name "$(NAME)")

# See Documentation/testing.rst.
mutants: prerequisites
	@$(BOX) mutants $(addprefix --id ,$(ID))

# See Documentation/testing.rst.
MIGRATIONS ?= 1000
soak: prerequisites
	@$(BOX) soak --migrations $(MIGRATIONS) $(if $(SEED),--seed $(SEED)) $(if $(SABOTAGE),--sabotage $(SABOTAGE))

# See Documentation/testing.rst. A stable rustc instruments code by LLVM's own pass.
SECONDS ?= 300
TARGET ?= message queues state
FUZZ = --config 'build.rustflags=["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4", \
	"-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table", \
	"-Cllvm-args=-sanitizer-coverage-trace-compares", "-Cdebug-assertions", "-Ccodegen-units=1"]' \
	--target $$(rustc -vV | sed -n 's/host: //p') --target-dir "$(TREE)/fuzz" --release

fuzz: prerequisites
	@command -v c++ >/dev/null || { echo 'missing: a C++ compiler, for libFuzzer (apt-get install g++)' >&2; exit 1; }
	@for target in $(TARGET); do \
		mkdir -p "$(TREE)/found/$$target" && \
		RUST_LOG=off $(BOX) cargo run --quiet $(FUZZ) --package dlr-nic-fuzz --features libfuzzer --bin $$target -- \
			-max_total_time=$(SECONDS) -max_len=800 -len_control=0 -timeout=20 \
			-artifact_prefix="$(TREE)/found/$$target-" -print_final_stats=1 \
			"$(TREE)/found/$$target" samples/dlr-nic/fuzz/corpus/$$target || exit 1; \
	done

# See Documentation/testing.rst.
STEPS ?= 1000000
fuzz-driver: prerequisites
	@$(BOX) fuzz-driver --steps $(STEPS) $(if $(SEED),--seed $(SEED)) $(if $(DEBUG),--debug)

# See Documentation/testing.rst.
test-upstream: prerequisites
	@$(BOX) test --layer upstream

# See Documentation/performance.rst.
bench: prerequisites
	@$(BOX) bench $(if $(BASE),--base "$(BASE)") $(addprefix --part ,$(PART)) $(if $(SHORT),--short)

kunit: prerequisites
	@$(BOX) test --layer kunit

shell: prerequisites
	@$(BOX) shell --functions $(FUNCTIONS) --huge-pages 320 --bind

rootfs kernel programs: prerequisites
	@$(BOX) build $@

modules: prerequisites
	@$(if $(KDIR),$(BOX) module --kdir "$(KDIR)",$(BOX) build module)

fmt: prerequisites
	$(CARGO) fmt --all
	@$(BOX) format-driver

clippy: prerequisites
	@$(BOX) cargo clippy --workspace --all-targets -- -D warnings

doc: prerequisites
	@$(BOX) cargo doc --workspace --no-deps
	@echo 'see $(TREE)/host/doc'

clean:
	rm -rf "$(TREE)"

distclean:
	@# Some folders of the root file system forbid writing even to their owner.
	[ ! -d "$(CACHE)" ] || find "$(CACHE)" -type d ! -perm -u+w -exec chmod u+w {} +
	rm -rf "$(CACHE)"
