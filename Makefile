# Proofbook: two commands matter, `make demo` and `make test`. Both set up what they need first.
#
# Everything runs by path out of .venv and node_modules, never out of PATH. A finished step leaves a stamp named after
# the hash of what it depends on, so a second `make setup` does nothing and needs no network.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE := 1

NATIVE := prover/native
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
# Real order flow that lies beside the checkout is replayed when it is there.
FLOW ?= $(firstword $(wildcard ../shared/data/*messages.csv.gz))
BENCH_ARGS ?=

.PHONY: help setup lint format test test-long demo bench big-batch gas lock oracle clean

help: ## Say what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## Create .venv and node_modules and build the native core
	@PYTHON="$(PYTHON)" VENV="$(VENV)" NATIVE="$(NATIVE)" bash tools/setup.sh

lint: setup ## Formatting, types, layers, generated files, tree rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest --allowlist tools/stubtest-allow.txt proofbook_native
	cd $(NATIVE) && cargo fmt --check && cargo clippy --quiet --release --locked -- -D warnings
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_tree.py
	$(BIN)/python tools/check_generated.py

format: setup ## Format the Python code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup ## All tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(PYTEST_ARGS)

test-long: setup ## All tests at full length: many more lies, random pages, calls and fuzzing (an hour or more)
	PROOFBOOK_LONG=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup --timeout 36000 $(PYTEST_ARGS)

demo: setup ## The whole exchange on a local chain, from the first deposit to the last escape
	$(BIN)/proofbook demo

bench: setup ## Measure everything; FLOW=FILE replays a LOBSTER message file as well
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --require-hashes -r requirements-bench.lock
	$(BIN)/python -m proofbook.bench $(if $(FLOW),--flow "$(FLOW)") $(BENCH_ARGS)

big-batch: setup ## The largest batch, from its source to a contract on a local chain (minutes, 2 GiB)
	$(BIN)/python -m proofbook.bench.big_batch

gas: setup ## Renew the committed gas snapshot
	PROOFBOOK_RENEW_GAS=1 $(BIN)/python -m pytest -q tests/contracts/test_gas.py

lock: ## Renew the Python lock files (needs the network)
	bash tools/lock.sh

oracle: ## The environment of the independent Poseidon oracle, for making test vectors only
	test -x .venv-oracle/bin/python || $(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --require-hashes -r requirements-oracle.lock

clean: ## Remove everything that was built or fetched
	rm -rf build dist $(VENV) .venv-* node_modules $(NATIVE)/target .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
