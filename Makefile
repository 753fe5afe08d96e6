# One profile (release) and one cached target directory for everything: RocksDB, the chunk index, takes about a
# quarter of an hour to build on two cores, once.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/dbvault/target
PREFIX ?= $(HOME)/.local
FUZZ_SECONDS ?= 60

# A changed compiler would build RocksDB again, so all targets must agree on it.
ifneq ($(shell command -v ccache),)
ifeq ($(origin CC)/$(origin CXX),default/default)
export CC := ccache cc
export CXX := ccache g++
endif
endif

PROGRAM := $(CARGO_TARGET_DIR)/release/dbvault

.DEFAULT_GOAL := help
.PHONY: help demo test torture mutants build install lint doc deny bench bench-quick bench-micro bench-databases bench-files bench-mount bench-prune bench-scale fuzz clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## back up, damage, check and restore real databases, in a temporary directory
	@scripts/install-deps demo
	@$(MAKE) --no-print-directory build
	@scripts/demo "$(PROGRAM)"

test: ## run all tests
	@scripts/install-deps test
	@scripts/test $(TEST_LOG)

torture: ## try ten times what the proofs in the tests try, in less than two hours; DBVAULT_SEED replays
	@scripts/install-deps test
	@scripts/torture $(TEST_LOG)

mutants: ## leave out one step after the other: each time a test must fail; half an hour
	@scripts/install-deps test
	@scripts/mutants

build: ## build the program
	@scripts/install-deps build
	cargo build --release --locked

install: build ## install program, manual pages and completions to PREFIX, by default ~/.local
	scripts/install "$(PROGRAM)" "$(PREFIX)"

lint: ## check formatting, clippy's lints and the shell scripts
	@scripts/install-deps lint
	@scripts/lint

doc: ## build the documentation of the crates; a warning is an error
	@scripts/install-deps build
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
		cargo doc --release --locked --workspace --no-deps --document-private-items

deny: ## check licences, sources and known weaknesses of what is built in
	@scripts/install-deps deny
	@scripts/deny

bench: ## measure beside Borg, restic and rustic, about 45 minutes and 35 GB; writes benches/results
	@scripts/install-deps bench
	cargo bench --locked --profile release --bench beside_peers

bench-quick: ## the same with small dumps and few days, about 3 minutes; only prints
	@DBVAULT_BENCH_MB=100 DBVAULT_BENCH_DAYS=4 DBVAULT_BENCH_ROUNDS=1 $(MAKE) --no-print-directory bench

bench-micro: ## measure each step of a backup beside its bare library; writes benches/results
	@scripts/install-deps test
	cargo bench --locked --profile release --bench micro

bench-databases: ## measure four databases of one server beside borgmatic and Borg, about 10 minutes; writes benches/results
	@scripts/install-deps bench
	cargo bench --locked --profile release --bench databases

bench-files: ## measure a tree of 115,000 files beside Borg, restic and rustic; a quarter of an hour and 30 GB; writes benches/results
	@scripts/install-deps bench
	PATH="$${XDG_CACHE_HOME:-$$HOME/.cache}/dbvault/borg/bin:$${XDG_CACHE_HOME:-$$HOME/.cache}/dbvault/tools/bin:$$PATH" cargo bench --locked --profile release --bench files

bench-prune: ## measure a prune of 1,000 archives beside Borg; an hour and 30 GB; writes benches/results
	@scripts/install-deps bench
	cargo bench --locked --profile release --bench prune

bench-mount: ## measure a mounted repository beside extract, a local file and Borg; half an hour and 8 GB; writes benches/results
	@scripts/install-deps bench
	PATH="$${XDG_CACHE_HOME:-$$HOME/.cache}/dbvault/borg/bin:$$PATH" cargo bench --locked --profile release --bench mount

bench-scale: ## measure a repository of 50 million chunks; some minutes and 15 GB; writes benches/results
	@scripts/install-deps build
	cargo bench --locked --profile release --bench scale

fuzz: ## fuzz each target for FUZZ_SECONDS, by default 60; needs a nightly toolchain and cargo-fuzz
	@scripts/fuzz "$(FUZZ_SECONDS)"

clean: ## remove all that was built, RocksDB too
	cargo clean
