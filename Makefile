# `make demo` and `make test` do all the set-up: a virtual environment in .venv, and the package with its pinned
# dependencies. They need Python 3.11 or newer and a package index, nothing else.

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help demo test fuzz lint format docs ci clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    the whole tool on its built-in data, offline (make demo DEMO_ARGS='-o DIR')"
	@echo "make test    the tests that need neither a GPU nor minutes"
	@echo "make fuzz    damaged files, for half an hour (make fuzz SEED=7; CASE=12 repeats one case, CASES=50 runs so many)"
	@echo "make lint    ruff, mypy, and the order of imports"
	@echo "make format  put the code into ruff's format"
	@echo "make docs    the documentation as a site, in site/ (site/index.html opens in a browser)"
	@echo "make ci      what CI runs: lint and tests in a fresh virtual environment"
	@echo "make clean   remove the virtual environment and the caches"

demo: $(VENV)/.installed
	$(BIN)/compresskit demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 FUZZ_SEED=$(SEED) FUZZ_CASE=$(CASE) FUZZ_CASES=$(CASES) \
		$(BIN)/python -m pytest -n 2 -q -m fuzz tests/fuzz/test_fuzz.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/python -m docs.tools.links site

ci:
	.ci/run

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps: an install is done again only when what it is made of has changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[demo,plot]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[all,dev,docs]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[docs]'
	@touch $@
