# The doors of the project: make run, make test, make check, make bench.
# Everything is cargo underneath; CARGO_TARGET_DIR is respected.

.DEFAULT_GOAL := help
.PHONY: help run test test-browser test-fuzz test-loom fuzz fuzz-build fuzz-minimise check bench deps

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

help: ## show the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build it and serve the demo on 127.0.0.1:7070 (shop: 7071)
	$(CARGO) run --release -p stampede-net --bin stampede -- serve --demo

deps: ## install what the tests need and the machine lacks (Debian, Ubuntu)
	.ci/install-test-deps

test: deps ## run every test: the workspace's, then loom's
	$(CARGO) test --workspace
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-fuzz
	@$(MAKE) --no-print-directory test-loom

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

# Coverage-guided fuzzing with libFuzzer, on the stable compiler: LLVM's pass counts edges and
# traces comparisons, no sanitizer is on. The flags make another program of every crate, hence a
# target directory of its own; `--target` keeps them away from build scripts.
FUZZ_TARGETS := conn json seal log snapshot
FUZZ_DIR := net/fuzz
FUZZ_HOST := $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_BIN := $(TARGET)/fuzz/$(FUZZ_HOST)/debug
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
SECONDS ?= 60

fuzz-build: deps
	RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$(TARGET)/fuzz \
		$(CARGO) build -p stampede-fuzz --features libfuzzer --target $(FUZZ_HOST) \
		$(FUZZ_TARGETS:%=--bin fuzz-%)

fuzz: fuzz-build ## run every fuzz target for SECONDS=60 each
	@$(FUZZ_DIR)/run $(FUZZ_BIN) $(TARGET)/fuzz/found $(SECONDS) $(FUZZ_TARGETS)

test-fuzz: fuzz-build ## replay the corpora, then fuzz each target for a few seconds
	@$(FUZZ_DIR)/run $(FUZZ_BIN) $(TARGET)/fuzz/found 3 $(FUZZ_TARGETS)

fuzz-minimise: fuzz-build ## put what was found into the corpora, and drop what adds no coverage
	@rm -rf $(TARGET)/fuzz/seeds
	@$(CARGO) run -q -p stampede-fuzz --bin fuzz-seeds $(TARGET)/fuzz/seeds
	@$(FUZZ_DIR)/minimise $(FUZZ_BIN) $(TARGET)/fuzz/seeds $(TARGET)/fuzz/found $(FUZZ_TARGETS)

check: ## format and lints, as the gate wants them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p stampede-fuzz --features libfuzzer --bins -- -D warnings

# Every bench of the workspace in its small mode, in a few minutes; the engine's own comes
# last, because its table of figures and targets is what docs/BENCHMARKS.md records.
bench: ## run the benchmarks; results keep date and machine (docs/BENCHMARKS.md)
	$(CARGO) bench --workspace --bench core --bench log_speed --bench export_drain --bench generator
	@date; uname -srm; nproc
	$(CARGO) bench --workspace --bench serve
