# Everything that a newcomer types. Each target installs what it needs and asks nothing.

# rust-toolchain.toml names the compiler; where it is not there and cannot be fetched, the installed one
# does, if it is new enough for Cargo.toml.
ifneq ($(shell cargo --version >/dev/null 2>&1 && echo found),found)
export RUSTUP_TOOLCHAIN := stable
endif

.PHONY: demo test build check fuzz test-vm clean

demo: ## Build, start a server, run the PyPI e2b package on it, stop the server.
	@scripts/demo

test: ## Everything that has to be green.
	@scripts/test

build: ## target/release/soulbox and target/release/soulbox-agent.
	@scripts/prepare build
	cargo build --release --locked

check: ## The quick part of `test`: format, lints, licences, no sandbox.
	@scripts/test --quick

fuzz: ## A minute of libFuzzer for each parser of hostile bytes.
	@scripts/fuzz

test-vm: ## Other kernels, with version 2 of control groups, under emulation; twenty minutes.
	@scripts/test-vm

clean:
	cargo clean
	rm -rf .work
