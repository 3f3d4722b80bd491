# `make demo` runs the main job and `make test` the tests; both make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= run
# Every environment is built from the versions in constraints.txt; LOCK= takes the newest ones.
LOCK ?= --constraint constraints.txt
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK)
# The CPU build that the tests run with; it is the same release everywhere.
TORCH ?= torch==2.13.0

.PHONY: demo test test-torch check lint types imports docs claims bench image audit lock drift clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable '.[serve,parquet]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.torch: $(VENV)/.dev
	$(PIP_INSTALL) '$(TORCH)' --editable '.[dev,torch,train]'
	@touch $@

demo: $(VENV)/.demo ## two small models in front of a large one: certified, and refused
	$(BIN)/suffice demo --out $(OUT)
	$(BIN)/suffice demo --live --out $(OUT)

test: $(VENV)/.dev ## run the default tests: offline, no GPU, no torch needed
	$(BIN)/python -m pytest -n auto --dist worksteal

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

docs: $(VENV)/.torch ## execute the commands of README and docs, and the examples
	$(BIN)/python scripts/run_docs.py README.md docs
	set -e; for each in examples/*.py; do echo "ok $$each"; $(BIN)/python $$each > /dev/null; done

claims: $(VENV)/.dev ## hold the figures of README and docs against what their commands print
	$(BIN)/python scripts/check_claims.py

bench: $(VENV)/.dev ## measure search, fit and start-up speed
	$(BIN)/python benchmarks/design/search_speed.py

image: ## carry out the Dockerfile's steps in an empty folder, and run what they give
	$(PYTHON) scripts/check_dockerfile.py

audit: $(VENV)/.dev ## check what is installed against known advisories; needs the network
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

lock: ## write constraints.txt anew: the newest versions that fit together; needs the network
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo '$(TORCH)' | $(VENV)-lock/bin/uv pip compile --quiet pyproject.toml --constraint - --universal \
		--python-version 3.11 --extra dev --extra otel --extra torch --extra train --upgrade \
		--no-annotate --no-emit-index-url --custom-compile-command 'make lock' \
		--output-file constraints.txt

drift: ## run all tests with the newest versions instead of the locked ones; needs the network
	$(MAKE) test test-torch VENV=$(VENV)-drift LOCK=--upgrade

clean: ## remove what was built
	rm -rf $(VENV) $(VENV)-audit $(VENV)-lock $(VENV)-drift $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
