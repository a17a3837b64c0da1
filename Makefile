# Everything runs inside .venv, built from pyproject.toml and constraints.txt: what a user needs, or the tools as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install dev demo results test check format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

install: $(VENV)/.installed ## Create .venv with epsgrid and what every user needs

dev: $(VENV)/.installed-dev ## Create .venv with epsgrid, all extras and the tools of its development

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --quiet --editable ".[dev]"
	@touch $(VENV)/.installed $@

demo: install ## Probe, sweep and report twice, on bundled data: where the default ε is right, and where it stalls
	$(BIN)/epsgrid demo

results: dev ## Every page and table of the experiments kept in experiments/results, without training: runs/results
	OMP_NUM_THREADS=1 $(BIN)/python scripts/results.py build

check: dev ## Lint, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One more than cores: many tests wait for processes that they started.
TESTERS := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

test: check ## Everything CI runs: check, then pytest on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadgroup

format: dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
