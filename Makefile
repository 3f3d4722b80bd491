# `make demo` runs the main job and `make test` the tests; both make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= run

.PHONY: demo test test-torch check lint types imports docs bench audit clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[serve]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.torch: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' --editable '.[dev,torch,train]'
	@touch $@

demo: $(VENV)/.demo ## right-size LLaMA-3.2-1B for an A100, then ask the gateway puzzles
	$(BIN)/suffice demo --out $(OUT)

test: $(VENV)/.dev ## run the default tests: offline, no GPU, no torch needed
	$(BIN)/python -m pytest -n auto

test-torch: $(VENV)/.torch ## run the tests that need torch; no GPU needed
	$(BIN)/python -m pytest -m 'torch and not vllm and not gpu'

check: lint types imports ## lint, types and import rules

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.torch ## execute the commands of README and docs
	$(BIN)/python scripts/run_docs.py README.md docs

bench: $(VENV)/.dev ## measure search, fit and start-up speed
	$(BIN)/python benchmarks/search_speed.py

audit: $(VENV)/.dev ## check what is installed against known advisories; needs the network
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

clean: ## remove what was built
	rm -rf $(VENV) $(VENV)-audit $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
