# make train   set up and train a small model with DeNS on the embedded sample
# make test    set up and run the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where other processes want the cores, too, OpenMP threads that spin while they wait make
# torch many times slower (measured: 34 times on two cores).
export OMP_WAIT_POLICY ?= passive

.PHONY: train test lint format clean

train: $(VENV)/.installed
	$(BIN)/fairchem -c configs/eqv2_dens_oc20.yml

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch first: resolved together with fairchem-core, pip may fetch several builds of it.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs
