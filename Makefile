# Everything that a newcomer types. Each target installs what it needs and asks nothing.

.PHONY: demo test build check clean

demo: ## Build, start a server, run the PyPI e2b package on it, stop the server.
	@scripts/demo

test: ## Everything that has to be green.
	@scripts/test

build: ## target/release/soulbox and target/release/soulbox-agent.
	@scripts/prepare build
	cargo build --release --locked

check: ## The quick part of `test`: format, lints, licences, no sandbox.
	@scripts/test --quick

clean:
	cargo clean
	rm -rf .work
