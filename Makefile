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

# Without `-p`: a package chosen by name is built with fewer features of its dependencies, and
# `cargo build --release` would then compile those once more.
run: ## build it and serve the demo on 127.0.0.1:7070 (shop: 7071)
	$(CARGO) run --release --bin stampede -- serve --demo

# Needs neither root nor a service. The test kit starts Postgres and Redis, so it is left out.
quick: ## run the unit tests and the core's, in less than two minutes once they are built
	$(CARGO) test -p stampede-core
	$(CARGO) test --workspace --exclude stampede-testkit --lib --test docs

deps: ## install what the tests need and the machine lacks (Debian, Ubuntu)
	.ci/install-test-deps

# docs/TESTING.md says what each part is for.
test: deps ## run every test: the workspace's, then those that need a program of their own
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

# The end-to-end tests: as root on epoll with all others, then as an ordinary user, whose locked memory is
# counted, on the ring where there is one. Those of the transports themselves (`transport`) run on both already.
test-user: ## run only the end-to-end tests, as an ordinary user within Debian's default limits
	$(CARGO) --config 'target."cfg(all())".runner = "$(CURDIR)/.ci/as-user"' test -p stampede-net --test it e2e_

# docs/TESTING.md says what was run so.
contained: deps ## run a command (RUN='make run') as in a container with Docker's default profile; needs root
	STAMPEDE_CONTAINED='$(or $(RUN),make run)' $(CARGO) --config 'target."cfg(all())".runner = "$(CURDIR)/.ci/in-container"' \
		test -p stampede-net --test it in_a_container -- --ignored --nocapture

# Enough to know that the container is one, and that what runs in it builds nothing anew.
test-contained: ## run only a sale in a container
	@if [ "$$(id -u)" -ne 0 ]; then .ci/skip root "only root makes a container of its own"; \
	elif ! unshare --mount --pid --ipc --uts --cgroup --fork true; then .ci/skip mounts "no container in this one"; \
	else $(MAKE) --no-print-directory contained RUN='! unshare --mount true && $(CARGO) test -p stampede-net --test it e2e_sandbox_like'; fi

test-epoll: ## run only the end-to-end tests, on epoll
	STAMPEDE_TRANSPORT=epoll $(CARGO) test -p stampede-net --test it e2e_

# Other seeds each day; what it finds is repeated with SEED=… make sim.
test-sim: ## run only the simulation, a fixed number of histories
	$(CARGO) test -p stampede-net --test sim -- --histories 60000

# SEED= with nothing else tells that one history in full.
sim: ## simulate the whole engine with faults, SECONDS=60 on all cores; SEED=… tells one history
	$(CARGO) test --release -p stampede-net --test sim -- \
		$(if $(SEED),--seed $(SEED) --histories 1,--seconds $(or $(SECONDS),60))

# Interleavings do not repeat with SEED=, which only draws the conditions; a red run saves what it saw.
rig: ## cut the power under real threads that write the log, for SECONDS=60; SEED=
	RIG_SECONDS=$(or $(SECONDS),60) RIG_SEED=$(SEED) $(CARGO) test -p stampede-persist --test rig

# A browser under a loaded machine was seen to hang for good, which says nothing of the page:
# the whole suite gets one more try, said aloud. What is wrong with the page fails twice.
test-browser: deps ## run only the tests in a real browser
	@$(CARGO) test -p stampede-net --test browser || \
		{ echo "test-browser: failed once, see above; once more"; $(CARGO) test -p stampede-net --test browser; }

# Real crashes of the real binary, one kind of fault after the other, each once.
test-torture: deps ## run only the short round of the torture
	$(CARGO) test -p stampede-net --test torture

# Faults below the file system need root, loop devices and /dev/fuse; what a machine cannot do is said.
test-disk: deps ## run only the faults below the file system
	$(CARGO) test -p stampede-net --test disk

# The released binary, thousands of connections, for as long as you like.
torture: deps ## kill the released binary for SECONDS=300; SEED= repeats a schedule, ONLY= picks faults by name
	$(CARGO) build --release --bin stampede
	TORTURE_BINARY=$(abspath $(TARGET))/release/stampede TORTURE_SECONDS=$(or $(SECONDS),300) \
		TORTURE_SEED=$(SEED) TORTURE_ONLY='$(ONLY)' $(CARGO) test -p stampede-net --test torture

# The lock-free parts under loom, which tries their interleavings. `--cfg loom` makes
# another program of every crate, hence a target directory of its own; optimised,
# because there are many interleavings; without LTO, because it would not pay.
test-loom: ## run only the loom tests
	RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$(TARGET)/loom \
		$(CARGO) test --release -p stampede-core -p stampede-persist --lib loom

# Real threads under ThreadSanitizer, where there are too many interleavings for loom: the whole
# log at work. The compiler takes the option on its stable channel only when told so. The
# standard library comes without it, hence the list of what is suppressed and why.
# Where addresses vary by more than 30 bits, it has to start itself again without that.
test-tsan: ## run only the unit tests of core and persist under ThreadSanitizer
	@if [ "$$(cat /proc/sys/vm/mmap_rnd_bits)" -gt 30 ] && ! setarch -R true; then \
		.ci/skip personality "ThreadSanitizer needs fixed addresses"; else $(MAKE) --no-print-directory tsan; fi

tsan:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg tsan -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
		TSAN_OPTIONS="suppressions=$(CURDIR)/.ci/tsan-suppressions" CARGO_TARGET_DIR=$(TARGET)/tsan \
		$(CARGO) test --target $(HOST) -p stampede-core -p stampede-persist --lib

# All mutations are patched into a copy of the tree, $(TARGET)/planted/tree, which is built once; one
# after the other is alive, until one of its hunters notices. No program with mutations lies where the good one should.
MUTANTS = $(CARGO) run -q -p stampede-mutants --
mutants: deps ## run the tests against every known mistake; BUG= tries some by name, EACH=1 asks all hunters, ALL=1 all tests
	$(MUTANTS) run $(TARGET)/planted $(if $(ALL),--all) $(if $(EACH),--each) $(if $(JOBS),--jobs $(JOBS)) $(BUG)

mutants-tree: ## make the mutated copy of the tree, to edit mutations there
	$(MUTANTS) tree $(TARGET)/planted

mutants-refresh: ## write net/tests/mutants/patches anew from the edited copy
	$(MUTANTS) refresh $(TARGET)/planted

# Coverage-guided fuzzing with libFuzzer, on the stable compiler: LLVM's pass counts edges and
# traces comparisons, no sanitizer is on. The flags make another program of every crate, hence a
# target directory of its own; `--target` keeps them away from build scripts.
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

fuzz-minimise: fuzz-build ## put what was found into the corpora, and drop what adds no coverage
	@rm -rf $(TARGET)/fuzz/seeds
	@$(CARGO) run -q -p stampede-fuzz --bin fuzz-seeds $(TARGET)/fuzz/seeds
	@$(FUZZ_DIR)/minimise $(FUZZ_BIN) $(TARGET)/fuzz/seeds $(TARGET)/fuzz/found $(FUZZ_TARGETS)

# Programs that `--all-targets` passes over, since they are not run by `cargo test` alone.
APART := browser disk sim torture
check: ## format, lints, and what dependencies may bring with them (deny.toml)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p stampede-net $(APART:%=--test %) -- -D warnings
	$(CARGO) clippy -p stampede-fuzz --features libfuzzer --bins -- -D warnings
	.ci/deny

advisories: ## ask RustSec's database about the dependencies; fails on what it finds, and without a way to GitHub
	.ci/deny --strict

ifdef RECORD
bench: export STAMPEDE_RECORDS := $(CURDIR)/docs/benchmarks
endif

# Every bench of the workspace in its small mode, in a few minutes; the engine's own comes last, because its
# table has the targets.
bench: ## run the benchmarks (docs/BENCHMARKS.md); RECORD=1 keeps the run in docs/benchmarks
	$(CARGO) bench --workspace --bench core --bench primitives --bench log_speed --bench export_drain --bench generator
	@date; uname -srm; nproc
	$(CARGO) bench --workspace --bench serve

# A test fails where they differ.
figures: ## write the tables of the docs from the records
	UPDATE_FIGURES=1 $(CARGO) test -q -p stampede-records --test docs the_docs_show
