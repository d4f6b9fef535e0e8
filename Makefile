# Every target sets up what it needs: `make run` and `make test` work on a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install run test check torture mutants interop bench

BIN := .venv/bin
STAMP := .venv/installed
INTEROP := .venv-interop

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv with the pinned dependencies

run: $(STAMP) ## Start the whole exchange with a demo market (Ctrl-C stops it)
	@exec $(BIN)/shardex up --demo

test: $(STAMP) ## Run all tests
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## Check format, lint and types, run all tests, 60 s of torture and 30 s of simulated worlds
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test
	@$(BIN)/shardex torture --seconds 60
	@$(BIN)/python -m tests.simulation --seconds 30

torture: $(STAMP) ## Kill parts of a private venue for MINUTES (20) and prove that nothing is lost; SEED=… repeats a plan
	@exec $(BIN)/shardex torture --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED))

mutants: $(STAMP) ## Break the exchange on purpose and make sure that it is found
	@$(BIN)/python -m tests.mutants

interop: $(STAMP) $(INTEROP)/installed ## Have real FIX engines trade at a private venue; ENGINE=quickfix or jspurefix: one of them
	@$(BIN)/python -m tests.interop $(if $(ENGINE),--engine $(ENGINE))

bench: $(STAMP) ## Measure, and print the results as a table
	@$(BIN)/python -m tests.bench

# PYTHON=… chooses the interpreter. Otherwise 3.11 and 3.12 go first, because the wheel with the
# redis-server binary exists for these two; a newer one works with a redis-server on PATH.
# A candidate is run, not just found: a version manager's shim may stand for nothing.
$(STAMP): pyproject.toml constraints.txt
	@works() { "$$1" -c "import sys, venv, ensurepip; sys.exit(not $$2)" >/dev/null 2>&1; }; \
	choose() { for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.13 python3.14); do \
		if works "$$python" "$$1"; then echo "$$python"; return; fi; done; }; \
	python="$$(choose '(3, 11) <= sys.version_info < (3, 13)')"; \
	python="$${python:-$$(choose 'sys.version_info >= (3, 11)')}"; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer with the venv module was found. Install one (on Debian:" \
			"python3 and python3-venv), or name one: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	"$$python" -m venv --clear .venv
	@echo "Installing the pinned dependencies into .venv"
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# QuickFIX is compiled, for some minutes; jspurefix needs node and npm.
$(INTEROP)/installed: tests/interop/requirements.txt tests/interop/package-lock.json | $(STAMP)
	@if ! command -v npm >/dev/null; then echo "node and npm are needed for jspurefix (on Debian: npm)" >&2; exit 1; fi
	@$(BIN)/python -m venv --clear $(INTEROP)
	@echo "Installing QuickFIX (compiles for some minutes) and jspurefix into $(INTEROP)"
	@$(INTEROP)/bin/python -m pip install --quiet --no-input --disable-pip-version-check -r tests/interop/requirements.txt
	@cp tests/interop/package.json tests/interop/package-lock.json $(INTEROP)
	@npm ci --prefix $(INTEROP) --ignore-scripts --no-audit --no-fund --silent
	@touch $@
