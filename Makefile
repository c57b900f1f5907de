# The targets of the project: make run, make quick, make test, make check, make bench.
# Everything is cargo underneath; CARGO_TARGET_DIR is respected.

.DEFAULT_GOAL := help
.PHONY: help run quick deps test test-user contained test-contained test-epoll test-browser test-sim test-torture test-disk test-fuzz test-loom test-tsan tsan \
	sim rig torture mutants mutants-tree mutants-refresh fuzz fuzz-build fuzz-minimise check advisories bench figures

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Without `-p`: selecting a package enables fewer features of its dependencies, and
# `cargo build --release` would then compile those again.
run: ## build the server and serve the demo on 127.0.0.1:7070 (merchant: 7071)
	$(CARGO) run --release --bin stampede -- serve --demo

# Needs neither root nor a service. The test kit is left out because it starts Postgres and Redis.
quick: ## run the unit tests and the tests of the core (two minutes after the build)
	$(CARGO) test -p stampede-core
	$(CARGO) test --workspace --exclude stampede-testkit --lib --test docs

deps: ## install packages that the tests need (Debian, Ubuntu)
	.ci/install-test-deps

# docs/TESTING.md explains each part.
test: deps ## run all tests
	STAMPEDE_BEDS=epoll $(CARGO) test --workspace
	@$(MAKE) --no-print-directory test-user
	@$(MAKE) --no-print-directory test-contained
	@$(MAKE) --no-print-directory test-sim
	@$(MAKE) --no-print-directory test-torture
	@$(MAKE) --no-print-directory test-disk
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-tsan
	@$(MAKE) --no-print-directory test-loom

# `make test` runs the end-to-end tests as root on epoll, then here as an ordinary user, whose locked memory
# is limited, on io_uring if there is one. The tests of the transports themselves (`transport`) always run on both.
test-user: ## run only the end-to-end tests, as an ordinary user with Debian's default limits
	$(CARGO) --config 'target."cfg(all())".runner = "$(CURDIR)/.ci/as-user"' test -p stampede-net --test it e2e_

# docs/TESTING.md says what has been run this way.
contained: deps ## run a command (RUN='make run') in a container like Docker's default; needs root
	STAMPEDE_CONTAINED='$(or $(RUN),make run)' $(CARGO) --config 'target."cfg(all())".runner = "$(CURDIR)/.ci/in-container"' \
		test -p stampede-net --test it in_a_container -- --ignored --nocapture

# Shows that the container is one, and that nothing is rebuilt in it.
test-contained: ## run only one sale in a container
	@if [ "$$(id -u)" -ne 0 ]; then .ci/skip root "only root can make a container"; \
	elif ! unshare --mount --pid --ipc --uts --cgroup --fork true; then .ci/skip mounts "no container can be made inside this one"; \
	else $(MAKE) --no-print-directory contained RUN='! unshare --mount true && $(CARGO) test -p stampede-net --test it e2e_sandbox_like'; fi

test-epoll: ## run only the end-to-end tests, on epoll
	STAMPEDE_TRANSPORT=epoll $(CARGO) test -p stampede-net --test it e2e_

# New seeds each day; `SEED=… make sim` repeats a failure.
test-sim: ## run only the simulation, with a fixed number of histories
	$(CARGO) test -p stampede-net --test sim -- --histories 60000

# With SEED= it runs that one history and prints every step.
sim: ## simulate the engine with faults for SECONDS=60 on all cores; SEED=… replays one history
	$(CARGO) test --release -p stampede-net --test sim -- \
		$(if $(SEED),--seed $(SEED) --histories 1,--seconds $(or $(SECONDS),60))

# SEED= repeats the conditions, not the interleaving, so a red run saves what it saw.
rig: ## cut the power while real threads write the log, for SECONDS=60; SEED=
	RIG_SECONDS=$(or $(SECONDS),60) RIG_SEED=$(SEED) $(CARGO) test -p stampede-persist --test rig

# On a loaded machine the browser sometimes hangs forever, which says nothing about the page. So the
# suite is tried a second time, with a message. A fault of the page fails twice.
test-browser: deps ## run only the tests in a real browser
	@$(CARGO) test -p stampede-net --test browser || \
		{ echo "test-browser: failed once, see above; trying again"; $(CARGO) test -p stampede-net --test browser; }

# Real crashes of the real binary: each kind of fault once.
test-torture: deps ## run only the torture, each fault once
	$(CARGO) test -p stampede-net --test torture

# Needs root, loop devices and /dev/fuse; without them tests print SKIPPED.
test-disk: deps ## run only the faults below the file system
	$(CARGO) test -p stampede-net --test disk

# The release binary with thousands of connections, for as long as you like.
torture: deps ## kill the release binary again and again for SECONDS=300; SEED= repeats a schedule, ONLY= selects faults
	$(CARGO) build --release --bin stampede
	TORTURE_BINARY=$(abspath $(TARGET))/release/stampede TORTURE_SECONDS=$(or $(SECONDS),300) \
		TORTURE_SEED=$(SEED) TORTURE_ONLY='$(ONLY)' $(CARGO) test -p stampede-net --test torture

# Loom tries the interleavings of the lock-free parts. `--cfg loom` changes every crate, hence a target
# directory of its own. Optimised, because there are many interleavings; without LTO, because that would
# take longer than it saves.
test-loom: ## run only the loom tests
	RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$(TARGET)/loom \
		$(CARGO) test --release -p stampede-core -p stampede-persist --lib loom

# ThreadSanitizer watches real threads where there are too many interleavings for loom: the whole
# log at work. RUSTC_BOOTSTRAP makes the stable compiler accept the option. The standard library is
# not instrumented, hence the list of suppressions with reasons. If addresses are randomised by more
# than 30 bits, ThreadSanitizer has to restart itself without randomisation.
test-tsan: ## run only the unit tests of core and persist under ThreadSanitizer
	@if [ "$$(cat /proc/sys/vm/mmap_rnd_bits)" -gt 30 ] && ! setarch -R true; then \
		.ci/skip personality "ThreadSanitizer needs fixed addresses"; else $(MAKE) --no-print-directory tsan; fi

tsan:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg tsan -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/.ci/tsan-suppressions" CARGO_TARGET_DIR=$(TARGET)/tsan \
		$(CARGO) test --target $(HOST) -p stampede-core -p stampede-persist --lib

# All mutations are patched into a copy of the tree, $(TARGET)/planted/tree, which is built once. Then each is
# active in turn, until one of its hunters notices. No mutated program is built where the good one belongs.
MUTANTS = $(CARGO) run -q -p stampede-mutants --
mutants: deps ## check that tests notice every mutation; BUG= selects by name, EACH=1 runs all hunters, ALL=1 all tests
	$(MUTANTS) run $(TARGET)/planted $(if $(ALL),--all) $(if $(EACH),--each) $(if $(JOBS),--jobs $(JOBS)) $(BUG)

mutants-tree: ## make the mutated copy of the tree, to edit mutations there
	$(MUTANTS) tree $(TARGET)/planted

mutants-refresh: ## rewrite net/tests/mutants/patches from the edited copy
	$(MUTANTS) refresh $(TARGET)/planted

# Coverage-guided fuzzing with libFuzzer on the stable compiler: LLVM's pass counts edges and
# traces comparisons; no sanitizer is on. The flags change every crate, hence a target directory
# of its own; `--target` keeps them away from build scripts.
FUZZ_TARGETS := batch conn json seal log snapshot
FUZZ_DIR := net/fuzz
FUZZ_BIN = $(TARGET)/fuzz/$(HOST)/debug
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

fuzz-build: deps
	RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$(TARGET)/fuzz \
		$(CARGO) build -p stampede-fuzz --features libfuzzer --target $(HOST) $(FUZZ_TARGETS:%=--bin fuzz-%)

fuzz: fuzz-build ## run every fuzz target for SECONDS=60 each
	@$(FUZZ_DIR)/run $(FUZZ_BIN) $(TARGET)/fuzz/found $(or $(SECONDS),60) $(FUZZ_TARGETS)

test-fuzz: fuzz-build ## replay the corpora, then fuzz each target for a few seconds
	@$(FUZZ_DIR)/run $(FUZZ_BIN) $(TARGET)/fuzz/found 3 $(FUZZ_TARGETS)

fuzz-minimise: fuzz-build ## add findings to the corpora, and drop inputs that add no coverage
	@rm -rf $(TARGET)/fuzz/seeds
	@$(CARGO) run -q -p stampede-fuzz --bin fuzz-seeds $(TARGET)/fuzz/seeds
	@$(FUZZ_DIR)/minimise $(FUZZ_BIN) $(TARGET)/fuzz/seeds $(TARGET)/fuzz/found $(FUZZ_TARGETS)

# Programs that `--all-targets` leaves out, because `cargo test` alone does not run them.
APART := browser disk sim torture
check: ## check format, lints, dependencies (deny.toml), and that all mutations compile
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p stampede-net $(APART:%=--test %) -- -D warnings
	$(CARGO) clippy -p stampede-fuzz --features libfuzzer --bins -- -D warnings
	@$(MUTANTS) tree $(TARGET)/mutated
	cd $(TARGET)/mutated/tree && CARGO_TARGET_DIR=$(abspath $(TARGET)) $(CARGO) check --workspace
	.ci/deny

advisories: ## check dependencies against RustSec's database on GitHub; fails on findings, and if it is out of reach
	.ci/deny --strict

ifdef RECORD
bench: export STAMPEDE_RECORDS := $(CURDIR)/docs/benchmarks
endif

# Every bench of the workspace in its small mode, in a few minutes. The engine's own comes last, because its
# table has the targets.
bench: ## run the benchmarks (docs/BENCHMARKS.md); RECORD=1 stores the run in docs/benchmarks
	$(CARGO) bench --workspace --bench core --bench primitives --bench log_speed --bench export_drain --bench generator
	@date; uname -srm; nproc
	$(CARGO) bench --workspace --bench serve

# A test fails if they differ.
figures: ## write the tables of the docs from the records
	UPDATE_FIGURES=1 $(CARGO) test -q -p stampede-records --test docs the_docs_show
