# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each makes .venv when it is not there, with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test e2e chaos unit check mutants lint format docs bench bench-peers bench-scale bench-cluster cluster cluster-down lock clean

help:            ## show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1 \t/p' Makefile | expand -t 24

demo: .venv/messaging  ## run the messaging application on this machine, from first message to dead letter
	@$(BIN)/python -m celeriac_messaging.demo

test: .venv/dev  ## run every test, the quick ones first; what this machine cannot run is skipped, and named
	@scripts/with-programs $(BIN)/python -m tests.stages $(ARGS)

e2e: .venv/dev  ## run those tests alone that need a real Kubernetes (Linux, root)
	@scripts/with-programs $(BIN)/python -m tests.stages api kubernetes

chaos: .venv/dev  ## try every fault with 10,000 jobs and more, beside stock Celery (hours; args: ARGS='-k frozen')
	@CHAOS=long scripts/with-programs $(BIN)/pytest tests/chaos tests/simulation $(ARGS)

unit: .venv/dev  ## run the unit tests, and the queue's scripts on an embedded server (seconds)
	@$(BIN)/python -m tests.layers unit

check: .venv/dev  ## run the tests of one layer, in under a minute: LAYER=worker; without LAYER list the layers
	@$(BIN)/python -m tests.layers $(LAYER) $(ARGS)

mutants: .venv/dev  ## make each lethal edit of tests/mutants; the unit tests must notice (an hour; args: ARGS='--layer worker')
	@$(BIN)/python -m tests.mutants $(ARGS)

lint: .venv/dev  ## check style, types, architecture and the tree
	@failed=; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports" \
	    "python scripts/check_tree.py" "python scripts/render_docs.py --check" \
	    "python -m scripts.render_charts --check"; do \
	    echo "$$check"; $(BIN)/$$check || failed="$$failed '$$check'"; \
	done; \
	[ -z "$$failed" ] || { echo "lint failed:$$failed"; exit 1; }

format: .venv/dev  ## let ruff lay out the code and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: .venv/dev  ## renew the generated parts of docs/ and charts/
	$(BIN)/python scripts/render_docs.py
	$(BIN)/python -m scripts.render_charts

bench: .venv/dev  ## compare with stock Celery on this machine (minutes; args: ARGS=--quick)
	$(BIN)/python -m bench.throughput $(ARGS)

bench-peers: .venv/dev  ## compare with every other queue, installed on the first run (an hour; args: ARGS='--only consume')
	$(BIN)/python -m bench.peers $(ARGS)

bench-cluster: .venv/dev  ## measure queues on a Redis Cluster of one to three primaries (minutes; args: ARGS=--quick)
	$(BIN)/python -m bench.cluster $(ARGS)

bench-scale: .venv/dev  ## measure queues, delays and dead letters by the million (minutes; args: ARGS='--only dead')
	$(BIN)/python -m bench.scale $(ARGS)

cluster: .venv/dev  ## start a real Kubernetes on this machine (Linux, root; see tests/cluster)
	$(BIN)/python -m tests.cluster up

cluster-down: .venv/dev  ## stop it, and remove what it left
	$(BIN)/python -m tests.cluster down

lock:            ## renew constraints.txt with the newest releases that pyproject.toml allows
	scripts/lock

clean:           ## remove .venv, caches and what demos left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .celeriac .demo

# The stamps: an environment is made anew when what it is made from changes.
MADE_FROM := pyproject.toml src/celeriac_messaging/pyproject.toml constraints.txt scripts/venv

.venv/messaging: $(MADE_FROM)
	@scripts/venv local
	@touch $@

.venv/dev: $(MADE_FROM)
	@scripts/venv local,operator,dev
	@touch .venv/messaging $@
