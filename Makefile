# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each makes .venv when it is not there, with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint format bench lock clean

help:            ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' Makefile | expand -t 16

demo: .venv/messaging  ## run the messaging application on this machine, from first message to dead letter
	@$(BIN)/python -m messaging.demo

test: .venv/dev  ## run every test; what this machine cannot run is skipped, and named
	@scripts/debian-packages
	$(BIN)/pytest

unit: .venv/dev  ## run the tests that need no server (seconds)
	$(BIN)/pytest tests/unit -m "not slow"

lint: .venv/dev  ## check style, types, architecture and the tree
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_tree.py

format: .venv/dev  ## let ruff lay out the code and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: .venv/dev  ## compare with stock Celery on this machine (minutes; args: ARGS=--quick)
	$(BIN)/python -m bench.throughput $(ARGS)

lock:            ## renew constraints.txt with the newest releases that pyproject.toml allows
	scripts/lock

clean:           ## remove .venv, caches and what demos left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .celeriac .demo

# The stamps: an environment is made anew when what it is made from changes.
.venv/messaging: pyproject.toml constraints.txt scripts/venv
	@scripts/venv messaging
	@touch $@

.venv/dev: pyproject.toml constraints.txt scripts/venv
	@scripts/venv messaging,dev
	@touch .venv/messaging $@
