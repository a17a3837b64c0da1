# Everything runs inside .venv, which `make install` builds from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo gallery results test check format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create .venv with epsgrid and its tools

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" --constraint constraints.txt
	@touch $@

demo: install ## Probe, sweep and report twice, on bundled data: where the default ε is right, and where it stalls
	set -e; for spec in demo demo-nuclei; do \
	  $(BIN)/epsgrid probe experiments/$$spec.yaml; \
	  $(BIN)/epsgrid sweep; \
	  $(BIN)/epsgrid report; \
	done

gallery: install ## The experiments of experiments/gallery on real data, then their reports: about an hour on two cores
	set -e; for name in cifar10-mlp-adam ptb-lstm-adam iwslt14-subset-transformer-adamw; do \
	  $(BIN)/epsgrid probe experiments/gallery/$$name.yaml; \
	  $(BIN)/epsgrid sweep experiments/gallery/$$name.yaml; \
	done
	$(BIN)/epsgrid sweep experiments/gallery/cifar10-mlp-sgdm.yaml
	set -e; for run in runs/gallery-*/; do $(BIN)/epsgrid report $$run --quiet; done
	$(BIN)/epsgrid report runs/gallery-*/ --out runs/gallery

RUNS ?= runs/*/

results: install ## Reports of all experiments in RUNS, with a page that leads to them: runs/gallery
	status=0; for run in $(RUNS); do $(BIN)/epsgrid report $$run --quiet || status=$$?; done; \
	  $(BIN)/epsgrid report $(RUNS) --out runs/gallery && exit $$status

check: install ## Lint, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One more than cores: many tests wait for processes that they started.
TESTERS := $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

test: check ## Everything CI runs: check, then pytest on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadgroup

format: install ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
