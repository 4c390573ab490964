# Two commands do everything on a machine with Python >= 3.11, git and make:
#   make demo    environment + training + report
#   make test    environment + every check and test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types imports unit docs bench bench-env clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("lie_sim needs Python >= 3.11, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch numpy
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.run
	$(PIP) -e '.[docs]'
	touch $@

demo: $(VENV)/.run ## learn a spring system, predict unseen ones, write runs/demo/report.html
	$(BIN)/lie-sim demo runs/demo

test: lint types imports unit ## everything that a change must pass

lint: $(VENV)/.dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## static types
	$(BIN)/mypy

imports: $(VENV)/.dev ## import direction
	$(BIN)/lint-imports

unit: $(VENV)/.dev ## tests, doctests, README and examples
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15

docs: $(VENV)/.docs ## HTML documentation in docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

bench: $(VENV)/.dev ## benchmarks that need no peers; see benchmarks/README.md for the others
	$(BIN)/python benchmarks/symmetry.py
	$(BIN)/python benchmarks/springs_accuracy.py

BENCH := .venv-bench

bench-env: $(BENCH)/.rivals ## environment of the rivals in benchmarks/integrators.py

$(BENCH)/.rivals: constraints-bench.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-bench.txt torch
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-bench.txt \
		torchdiffeq torchode jax diffrax jax-md
	touch $@

clean: ## remove the environment and build products
	rm -rf $(VENV) $(BENCH) build *.egg-info docs/_build
