# Two commands matter: `make demo` and `make test`. The others are for work on the code.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell command -v $(p) 2>/dev/null)))
UV_VERSION := 0.13.9
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
COMPILED := $(shell sed -n 's|^    "\([a-z_]*\)",$$|transforms/\1.py|p' setup.py)

.DEFAULT_GOAL := help
.PHONY: help setup compile uncompile demo demo-emulators test check format lint types laws bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.venv/.done: requirements/dev.lock setup.py
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found: install it, or name it with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . uv==$(UV_VERSION)
	@touch $@

.venv-bigquery/.done: .venv/.done requirements/bigquery-emulator.lock
	$(BIN)/python -m fraud_pipeline.emulators.bigquery install
	@touch $@

setup: .venv/.compiled ## make the environment from the locked versions

# The same sources run twice as fast as C. Where they can't be compiled they run as they are.
.venv/.compiled: .venv/.done $(COMPILED)
	@mkdir -p build; rm -f transforms/*.so
	@if [ -e .venv/.uncompiled ]; then :; \
	elif ! command -v cc >/dev/null; then echo "no C compiler (cc): the aggregation runs uncompiled, at half the speed"; \
	else echo "compiling the aggregation (once, 20 seconds)"; FRAUD_PIPELINE_COMPILE=1 $(BIN)/python setup.py --quiet \
	  build_ext --inplace >build/compile.log 2>&1 && touch transforms/*.so || { rm -f transforms/*.so; \
	  echo "it can't be compiled here (build/compile.log): the aggregation runs uncompiled, at half the speed"; }; fi
	@touch $@

compile: .venv/.done ## compile the aggregation to C again, as setup does where there is a C compiler
	@rm -f .venv/.uncompiled .venv/.compiled
	@$(MAKE) --no-print-directory .venv/.compiled

uncompile: .venv/.done ## run the aggregation's sources from now on, to work on them
	@touch .venv/.uncompiled
	@rm -f transforms/*.so

demo: .venv/.compiled ## simulate a day of traffic, run the job on it, show what it caught
	$(BIN)/fraud-pipeline demo

demo-emulators: .venv-bigquery/.done .venv/.compiled ## the same graph on the Pub/Sub and BigQuery emulators
	$(BIN)/fraud-pipeline demo-emulators

test: .venv-bigquery/.done .venv/.compiled ## all tests
	$(PYTEST) -n 2 --dist loadgroup

check: format lint types test ## format, lint, types and tests: what a change must pass

format: .venv/.done ## format the code
	$(BIN)/ruff format .

lint: .venv/.done ## lint the code and check its format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.done ## check types, strictly for transforms/
	$(BIN)/mypy transforms fraud_pipeline

laws: .venv/.compiled ## 10,000 cases for each law of the aggregation (half an hour on two cores)
	LAWS_EXAMPLES=10000 $(PYTEST) tests/test_laws.py -n 2 --timeout 0

bench: .venv/.done ## measure, and write the table of the README
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements/bench.lock
	$(BIN)/python -m bench

lock: .venv/.done ## lock the newest versions that setup.py allows
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate setup.py \
	  --extra local --extra dev -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate requirements/workers.in \
	  --constraint requirements/dev.lock -o requirements/workers.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate setup.py \
	  --extra bench --constraint requirements/dev.lock -o requirements/bench.lock

clean: ## remove the environments and what the demos wrote
	rm -rf .venv .venv-bigquery out build *.egg-info transforms/*.so
