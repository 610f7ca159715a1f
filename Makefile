# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV_VERSION := 0.13.8
UV := .venv/bin/uv
BIN := .venv/bin
WORKERS ?= 2
CODE := src agents bench tests examples

.PHONY: help setup demo test check lint types style unit contracts bench up clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: setup ## start the economy, run the three example tasks, show results, receipts and costs
	@$(BIN)/python -m agentnexus.devnet.demo

test: setup ## run all checks and all tests
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory unit

setup: .venv/.ready node_modules/.ready .nexus/.system ## install what is needed into this folder

.venv/bin/uv:
	@echo "installing uv $(UV_VERSION) into .venv"
	@python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: .venv/bin/uv pyproject.toml uv.lock
	@echo "installing the Python packages of uv.lock"
	@$(UV) sync --quiet --frozen --all-extras --all-groups
	@touch $@

node_modules/.ready: package.json package-lock.json
	@echo "installing the npm packages of package-lock.json (chain, compiler, test tools)"
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.nexus/.system: tools/system-packages
	@mkdir -p .nexus
	@tools/system-packages $@

check: lint types style ## linters, types, import floors, style bars

lint: setup
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --quiet --check $(CODE)
	@$(BIN)/lint-imports --no-cache > .nexus/imports.log || (cat .nexus/imports.log; exit 1)

types: setup
	@$(BIN)/mypy --no-error-summary
	@for agent in agents/*/; do $(BIN)/mypy --no-error-summary $$agent || exit 1; done

style: setup
	@$(BIN)/python tools/style.py
	@$(BIN)/python tools/tables.py --check

.nexus/tools/alto/.ready: bench/peers/alto_package/package-lock.json node_modules/.ready
	@echo "installing the bundler of others that the tests compare ours with"
	@bench/peers/alto_package/install > /dev/null
	@touch $@

unit: setup .nexus/tools/alto/.ready
	@$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST) || \
	  (echo "what failed beside the others runs once more, alone:" && \
	  $(BIN)/pytest -q --last-failed --last-failed-no-failures none)

contracts: setup ## build and test the contracts; DEEP=1 for more runs, symbolic checks and slither
	@contracts/tools/check $(if $(DEEP),--deep)

bench: setup ## measure, side by side with peers; rewrites docs/benchmarks.md
	@$(BIN)/python -m bench.all

up: setup ## start the economy on this machine until Ctrl-C
	@$(BIN)/nexus up

clean: ## remove everything that setup and runs made
	rm -rf .venv .nexus node_modules contracts/out contracts/cache
