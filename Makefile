# Thin over cargo and xtask.
SHELL := /bin/bash

.PHONY: up test check bench model
.DEFAULT_GOAL := up

up: release ## build, get the default model, serve on 127.0.0.1:8000 until Ctrl-C
	@model=$$(target/release/xtask model) || exit; \
	if [ -t 0 ]; then \
	  set -m; target/release/estafette up --model "$$model"; exit $$?; `# Ctrl-C is for it alone, not for make` \
	else \
	  exec target/release/estafette up --model "$$model"; \
	fi

test: ## install what the tests need and run every one
	cargo xtask test

check: ## the style gates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask tidy

bench: release ## side by side with llama.cpp, in one run (builds llama.cpp the first time)
	cargo build --release --locked --package estafette-integration-tests --package estafette-kv-transfer --examples
	model=$$(target/release/xtask model) && python3 integration-tests/bench/bench.py --model "$$model"

model: release ## get the default model and print its path
	@target/release/xtask model

.PHONY: release
release:
	cargo build --release --locked --package estafette-cli --package xtask
