# The two commands of the README, and the package; everything else is `cargo xtask`.
.PHONY: demo test build package setup clean
SHELL := /bin/bash

# Installs what building needs on a fresh Debian or Ubuntu machine; the tests need more: `scripts/setup tests`.
setup:
	@scripts/setup

build: setup
	cargo build --release --package hotpair

# A Debian package of it.
package: build
	@scripts/package

# A two-node cluster with witness, application and client on this machine; a power cut; the takeover.
demo: build
	@scripts/demo

# All tests. Long runs have commands of their own: see CONTRIBUTING.md.
test:
	@scripts/setup tests
	@scripts/test

clean:
	cargo clean
