# Everything runs inside .venv, built from pyproject.toml and constraints.txt: what a user needs, or the tools as well.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install dev demo gallery results test check format clean

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

gallery: dev ## The experiments of experiments/gallery on real data, then their reports: about an hour on two cores
	set -e; for name in cifar10-mlp-adam ptb-lstm-adam iwslt14-subset-transformer-adamw; do \
	  $(BIN)/epsgrid probe experiments/gallery/$$name.yaml; \
	  $(BIN)/epsgrid sweep experiments/gallery/$$name.yaml; \
	done
	$(BIN)/epsgrid sweep experiments/gallery/cifar10-mlp-sgdm.yaml
	set -e; for run in runs/gallery-*/; do $(BIN)/epsgrid report $$run --quiet; done
	$(BIN)/epsgrid report runs/gallery-*/ --out runs/gallery

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
