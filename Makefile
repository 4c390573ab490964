# Two commands do everything on a machine with Python >= 3.11, git and make:
#   make demo    environment + training + report
#   make test    environment + every check and test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode of the few modules that are used is made when they are: of all of them it takes a minute.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile -c constraints.txt
WORKERS ?= 3
export OMP_NUM_THREADS ?= 1
# Without bytecode every process of the tests would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types imports unit docs bench chaos bench-env bench-env-molecules clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 24

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
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations 15

docs: $(VENV)/.docs ## HTML documentation in docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

bench: $(VENV)/.dev ## benchmarks that need no peers; see benchmarks/README.md for the others
	$(BIN)/python benchmarks/symmetry.py
	$(BIN)/python benchmarks/springs_accuracy.py

chaos: $(VENV)/.dev ## kill 200 workers of runs on Ray, drivers and nodes among them; half an hour
	$(BIN)/python benchmarks/chaos.py

BENCH := .venv-bench

bench-env: $(BENCH)/.rivals ## environment of the rivals in benchmarks/integrators.py

$(BENCH)/.rivals: constraints-bench.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-bench.txt torch
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints-bench.txt \
		torchdiffeq torchode jax diffrax jax-md
	touch $@

PEERS := .venv-bench-molecules
PEER_PIP = $(1)/bin/python -m pip --disable-pip-version-check --quiet install -c $(2)
OURS := jaxtyping safetensors tomli-w tqdm tyro vesin torchdiffeq

bench-env-molecules: $(PEERS)/.peers $(PEERS)-nequip/.peers ## environments of the peers of molecular potentials

# SchNetPack 2.2 says that it needs Python 3.12 and runs with 3.11, which has the same torch as ours: one for everybody.
$(PEERS)/.peers: constraints-bench-molecules.txt
	$(PYTHON) -m venv $(PEERS)
	$(call PEER_PIP,$(PEERS),constraints-bench-molecules.txt) torch
	$(call PEER_PIP,$(PEERS),constraints-bench-molecules.txt) mace-torch tblite torchani $(OURS) dirsync fasteners \
		hydra-colorlog hydra-core progressbar2 pytorch-lightning tensorboard tensorboardX
	$(call PEER_PIP,$(PEERS),constraints-bench-molecules.txt) --no-deps --ignore-requires-python schnetpack
	touch $@

$(PEERS)-nequip/.peers: constraints-bench-nequip.txt
	$(PYTHON) -m venv $(PEERS)-nequip
	$(call PEER_PIP,$(PEERS)-nequip,constraints-bench-nequip.txt) torch
	$(call PEER_PIP,$(PEERS)-nequip,constraints-bench-nequip.txt) nequip sevenn $(OURS)
	touch $@

clean: ## remove the environment and build products
	rm -rf $(VENV) $(BENCH) $(PEERS) $(PEERS)-nequip build *.egg-info docs/_build
