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
.PHONY: help demo test build install lint doc deny bench bench-scale fuzz clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## back up, damage, check and restore real databases, in a temporary directory
	@scripts/install-deps demo
	@$(MAKE) --no-print-directory build
	@scripts/demo "$(PROGRAM)"

test: ## run all tests
	@scripts/install-deps test
	@scripts/test $(TEST_LOG)

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

bench: ## measure beside Borg 1.4; writes benches/results
	@scripts/install-deps bench
	cargo bench --locked --profile release --bench beside_borg

bench-scale: ## measure a repository of 50 million chunks, 14 GB of disk; writes benches/results
	@scripts/install-deps test
	cargo bench --locked --profile release --bench scale

fuzz: ## fuzz each target for FUZZ_SECONDS, by default 60; needs a nightly toolchain and cargo-fuzz
	@scripts/fuzz "$(FUZZ_SECONDS)"

clean: ## remove all that was built, RocksDB too
	cargo clean
