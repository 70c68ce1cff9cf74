# All that is needed is Python 3.11 or newer, and make.
#
#   make demo    install into .venv, then run the main job end to end
#   make test    install with the test extras, then run the whole suite
#   make lint    ruff, mypy (strict), import-linter
#   make clean   remove what these made
#
#   make bench-quick   a few minutes side by side with ipyparallel, concurrent.futures and a bare router
#   make bench         all figures, all peers (each in a venv of its own under benchmarks/.venvs), and the cost curves
#   make bench-guard   a minute: fails when we have become much slower beside concurrent.futures or the bare router
#   make bench-scale   1000 and 5000 simulated engines
#   make bench-tunnel  a few minutes: ways through SSH, beside a forward made by hand (needs ssh and sshd)

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
PYTEST_ARGS ?=

.PHONY: demo test lint clean bench bench-quick bench-guard bench-scale bench-tunnel
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/secure-ipp demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/curves.py

bench-quick: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py --quick

bench-guard: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/guard.py

bench-scale: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/scale.py 1000 5000

bench-tunnel: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/tunnel.py

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find secure_ipp tests examples benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The marker of each set of extras is as old as pyproject.toml: unchanged requirements are not installed twice.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[lint]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[bench]'
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
