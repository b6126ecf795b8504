# make demo: set-up and the main job on the built-in data. make lint: style and types. make test: set-up and all tests;
# make quick: those of the mathematics. make docs: the documentation, as pages to open.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
DEMO_DATA := data/synthetic
DEMO_RUN := runs/synthetic

# one thread each, so that they do not fight; a worker takes over what another has still before it
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
MATHEMATICS := tests/nn tests/graph tests/losses tests/retrieval tests/models

.PHONY: help demo quick test lint docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   set-up and the main job on the built-in data"
	@echo "make lint   style and types"
	@echo "make test   set-up and all tests"
	@echo "make quick  the tests of the mathematics"
	@echo "make docs   the documentation: site/index.html"

$(VENV)/.ready: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 14) else "cace_pyg needs Python 3.11 to 3.14: make PYTHON=python3.11 …")'
	@echo "installing into $(VENV), a minute or more"
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation -e .
	@touch $@

# torch-scatter is compiled against the installed torch: minutes the first time, then from pip's cache
$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) --no-build-isolation -e '.[test,docs]'
	@echo "torch-scatter: compiled once (about 5 minutes on 2 cores), then from pip's cache"
	$(PIP) --no-build-isolation torch-scatter
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "chromium: for the tests of the web page"; \
	  (apt-get update -q && apt-get install -y -q --no-install-recommends chromium) >/dev/null \
	  || echo "chromium could not be installed: the browser tests will be skipped"; \
	else echo "no chromium: the browser tests will be skipped (apt install chromium)"; fi
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) --no-build-isolation -e '.[docs,gallery]'
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m cace_pyg.data synthetic $(DEMO_DATA)
	$(BIN)/python -m cace_pyg.train --config configs/synthetic.yaml --data.root $(DEMO_DATA) --run_dir $(DEMO_RUN) --resume

test: $(VENV)/.ready-test
	$(PYTEST)

quick: $(VENV)/.ready-test
	$(PYTEST) $(MATHEMATICS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --write-all -q docs site
	@echo "site/index.html"

clean:
	rm -rf $(VENV) $(DEMO_DATA) $(DEMO_RUN) site
