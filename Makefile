# Thin over cargo and xtask.
MODEL = $$(cargo xtask model)

.PHONY: up test bench model check
.DEFAULT_GOAL := up

up: ## build, get the default model, serve on 127.0.0.1:8000 until Ctrl-C
	cargo build --release --locked --package estafette-cli
	model=$(MODEL) && exec target/release/estafette up --model "$$model"

test: ## install what the tests need and run every one
	cargo xtask test

check: ## the style gates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask tidy

bench: ## side by side with llama.cpp, in one run (builds llama.cpp the first time)
	cargo build --release --locked --package estafette-cli
	model=$(MODEL) && python3 integration-tests/bench/bench.py --model "$$model"

model: ## get the default model and print its path
	@cargo xtask model
