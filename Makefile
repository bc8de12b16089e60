# hull: build, try, test, measure, install.  `make help` lists the targets.

CARGO   ?= cargo
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RELEASE := target/$(HOST)/release
PREFIX  ?= /usr/local
DESTDIR ?=
N       ?= 100

.PHONY: help toolchain build run deps test fresh lint unit suite cri soak vm clients walkthrough bench bench-cri bench-net bench-images fuzz docs install clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "make: cargo not found; install Rust $$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml) with rustup (https://rustup.rs), then run make again" >&2; exit 1; }

build: toolchain ## Build the static programs
	$(CARGO) build --release --locked -p hull -p hullctl -p hulld

run: build ## Build, then run a container on this machine's own root file system
	$(RELEASE)/hullctl run --explain host -- sh -c 'echo "hello from a container: pid $$$$, host name $$(hostname), user $$(id -un)"; ps ax'

deps: ## Install the Debian packages that the tests use (as root)
	@scripts/deps

test: fresh deps build lint unit suite vm cri clients walkthrough ## Run all checks and tests
	@test ! -s target/tried-again || { echo "make test: passed only when tried again:"; cat target/tried-again; }
	@echo "make test: all passed"

fresh:
	@rm -f target/tried-again

lint: toolchain ## Formatting, warnings, lengths, budgets
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/check-lengths
	scripts/check-budget

unit: toolchain ## Tests of the crates
	scripts/tests --workspace --exclude runtime-suite --exclude client-suite --exclude walkthrough --exclude cri-suite

suite: build ## Behaviour and security suite: on hull, and on runc and crun for comparison
	scripts/suite hull
	scripts/suite runc
	scripts/suite crun
	HULL_GROUND=old scripts/suite hull
	scripts/knobs

vm: build ## The suite in virtual machines: cgroup v2, systemd, without root; runc and crun there
	tests/vm/all

cri: build ## hulld, driven over its socket: life cycle, faults, streams
	HULL_PROGRAMS=$(CURDIR)/$(RELEASE) scripts/tests -p cri-suite

soak: build ## The cri suite's loads and killings, N times as long as in the suite
	HULL_SOAK=$(N) HULL_PROGRAMS=$(CURDIR)/$(RELEASE) $(CARGO) test --locked -p cri-suite --test load --test pressure -- --nocapture --test-threads 1

clients: build ## podman, containerd, buildah and docker on hull
	RUNTIME=$(CURDIR)/$(RELEASE)/hull scripts/tests -p client-suite

walkthrough: build ## The essays' commands, word for word, on hull
	RUNTIME=$(CURDIR)/$(RELEASE)/hull scripts/tests -p walkthrough

bench: build ## Measure hull beside crun, runc and youki (N=100 rounds)
	$(CARGO) run --release --locked -p bench -- --rounds $(N)

bench-cri: build ## Measure hulld beside Debian's containerd over the CRI socket
	HULL_PROGRAMS=$(CURDIR)/$(RELEASE) $(CARGO) run --release --locked -p bench --bin bench-cri

bench-net: ## Measure setup and teardown of pods' networks beside Debian's CNI plugins
	$(CARGO) run --release --locked -p net --example attachments

bench-images: ## Measure pulls, first starts, disk and reading beside skopeo+umoci, podman, containerd
	$(CARGO) build --release --locked -p hullctl -p bench
	$(RELEASE)/bench-images

fuzz: ## Fuzz what reads foreign input, a minute each (needs cargo-fuzz)
	for t in $$(cd fuzz && cargo fuzz list); do (cd fuzz && cargo fuzz run -s none $$t -- -max_total_time=60 -max_len=16384 -dict=oci.dict) || exit 1; done

docs: toolchain ## Man pages and shell completions, from the command definitions, under target/docs
	$(CARGO) run --locked -p xtask -- docs target/docs

install: build docs ## Install below PREFIX (/usr/local); DESTDIR is honoured
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/hull $(RELEASE)/hullctl $(RELEASE)/hulld
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system contrib/hulld.service contrib/hulld.socket
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 target/docs/*.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions target/docs/bash/*
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions target/docs/zsh/*
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d target/docs/fish/*

clean: ## Remove what was built
	$(CARGO) clean
