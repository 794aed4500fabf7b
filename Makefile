# Every target sets up the virtual environment first; that is quick when requirements.lock has not changed.
PYTHON := .venv/bin/python
ARGS ?=
SOURCE ?=
# Test processes, each with a PostgreSQL of its own: one per core, at most four. WORKERS=0 runs all in one.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
ROOTS_DEMO := /var/tmp/servicetitan-monitor-demo# root's, where the project lies in a closed folder (demo_state.py)

.DEFAULT_GOAL := help
.PHONY: help setup lock format lint test test-stores bench mutants demo clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## make or refresh .venv from requirements.lock
	@.ci/setup

lock: setup  ## pin requirements*.txt anew into requirements.lock and requirements-stores.lock (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 2; }
	uv pip compile --quiet --universal --python-version 3.11 requirements-dev.txt -o requirements.lock \
		--no-emit-index-url --generate-hashes --no-header --no-annotate
	@.ci/setup-stores lock

format: setup  ## sort imports and lay out the code
	@$(PYTHON) -m ruff check --quiet --select I --fix .
	@$(PYTHON) -m ruff format --quiet .

lint: setup  ## style, layout, types and the direction of imports
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check --output-format concise . || { echo "layout differs: run make format" >&2; exit 1; }
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

# The tests of stores have an environment of their own (.ci/setup-stores). Of the paths in ARGS only theirs are for them,
# and pytest's 5 is that ARGS names none of them.
STORES := tests/orchestration/stores
PATHS = $(filter tests%,$(ARGS))
STORE_PATHS = $(if $(PATHS),$(filter $(STORES)%,$(PATHS)),$(STORES))
TEST_STORES = .venv-stores/bin/python -m pytest $(STORE_PATHS) $(filter-out tests%,$(ARGS))

test: setup  ## all tests, on a real PostgreSQL and a real Airflow; ARGS="-k name" for some
	@.ci/setup browser
	@.ci/setup redis
	@.ci/setup prometheus
	@.ci/setup php
	@$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
	@$(if $(STORE_PATHS),.ci/setup-stores)
	@$(if $(STORE_PATHS),$(TEST_STORES) $(if $(strip $(ARGS)),|| [ $$? = 5 ]))

test-stores: setup  ## logs in S3 and in Google Cloud Storage; make test ends with it
	@.ci/setup-stores
	@$(TEST_STORES)

# Both run, and a target that one misses does not spare the other; their sizes differ, so ARGS is for one of them.
bench: setup  ## time the reader, then the aggregates, on big simulated sources; BENCH=quality ARGS="--rounds 1" runs one
	@status=0; for bench in $(or $(BENCH),reader quality metrics monolog); do \
	  $(PYTHON) -m include.simulation.bench_$$bench $(ARGS) || status=1; done; exit $$status

mutants: setup  ## change the decisions about alerts in every small way; fails when a change that no test notices is not explained
	@.ci/mutants

# A password may hold $, quotes and backticks: neither make nor a shell expands SOURCE, and no process has it as an
# argument (of `SOURCE=... make demo` not even make itself).
unexport SOURCE
demo: export DEMO_SOURCE := $(value SOURCE)
demo: setup  ## everything on this machine; ARGS=--once checks twice (the second must send nothing) and ends; SOURCE='postgresql://...' reads that database
	@$(PYTHON) -m include.simulation.demo $(ARGS)

clean:  ## remove .venv, caches and what the demo kept
	@rm -rf .venv .venv-stores .demo mutants .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@[ ! -O $(ROOTS_DEMO) ] || rm -rf $(ROOTS_DEMO)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
