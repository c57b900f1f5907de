# The doors of the project: make run, make test, make check, make bench.
# Everything is cargo underneath; CARGO_TARGET_DIR is respected.

.DEFAULT_GOAL := help
.PHONY: help run test test-sim test-browser test-loom sim check bench deps

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

help: ## show the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build it and serve the demo on 127.0.0.1:7070 (shop: 7071)
	$(CARGO) run --release -p stampede-net --bin stampede -- serve --demo

deps: ## install what the tests need and the machine lacks (Debian, Ubuntu)
	.ci/install-test-deps

test: deps ## run every test: the workspace's, the simulation's, the browser's, loom's
	$(CARGO) test --workspace
	@$(MAKE) --no-print-directory test-sim
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-loom

# Other seeds each day; what it finds is repeated with SEED=… make sim.
test-sim: ## run only the simulation, a fixed number of histories
	$(CARGO) test -p stampede-net --test sim -- --histories 4000

# SEED= with nothing else tells that one history in full.
sim: ## simulate the whole engine with faults, SECONDS=60 on all cores; SEED=… tells one history
	$(CARGO) test --release -p stampede-net --test sim -- \
		$(if $(SEED),--seed $(SEED) --histories 1,--seconds $(or $(SECONDS),60))

# A browser under a loaded machine was seen to hang for good, which says nothing of the page:
# the whole suite gets one more try, said aloud. What is wrong with the page fails twice.
test-browser: deps ## run only the tests in a real browser
	@$(CARGO) test -p stampede-net --test browser || \
		{ echo "test-browser: failed once, see above; once more"; $(CARGO) test -p stampede-net --test browser; }

# The lock-free parts under loom, which tries their interleavings. `--cfg loom` makes
# another program of every crate, hence a target directory of its own; optimised,
# because there are many interleavings; without LTO, because it would not pay.
test-loom: ## run only the loom tests
	RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$(TARGET)/loom \
		$(CARGO) test --release -p stampede-core -p stampede-persist --lib loom

check: ## format and lints, as the gate wants them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Every bench of the workspace in its small mode, in a few minutes; the engine's own comes
# last, because its table of figures and targets is what docs/BENCHMARKS.md records.
bench: ## run the benchmarks; results keep date and machine (docs/BENCHMARKS.md)
	$(CARGO) bench --workspace --bench core --bench log_speed --bench export_drain --bench generator
	@date; uname -srm; nproc
	$(CARGO) bench --workspace --bench serve
