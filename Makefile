# hull: build, try, test, measure, install.  `make help` lists the targets.

CARGO   ?= cargo
TARGET  := x86_64-unknown-linux-gnu
RELEASE := target/$(TARGET)/release
PREFIX  ?= /usr/local
DESTDIR ?=

.PHONY: help build run test lint unit suite clients walkthrough bench fuzz docs install deps clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the static programs (release)
	@command -v $(CARGO) >/dev/null || { echo "make: cargo not found; install Rust $$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml) with rustup, then run make again" >&2; exit 1; }
	$(CARGO) build --release --bins -p hull -p hullctl

run: build ## Build, then run a container on this machine's own root file system
	$(RELEASE)/hullctl run --explain host -- sh -c 'echo "hello from a container: pid $$$$, host name $$(hostname), user $$(id -un)"'

deps: ## Install the Debian packages that the tests use (as root)
	@scripts/deps

test: deps lint unit suite clients walkthrough ## Run all checks and tests
	@echo "all tests passed"
