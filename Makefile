# make studio   sets everything up and opens the studio on the sample
# make helper   sets everything up and lets this machine label for another one
# make test     sets everything up and runs every check and test
# Nothing is done twice: the environment lives in .venv and is rebuilt only when its inputs change.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; raise SystemExit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# In two lanes: what starts processes and waits for them, and everything else; see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 2 -m "not soak"

.PHONY: studio helper test lint unit browser soak lock clean setup

studio: .venv/ready
	$(BIN)/winnow demo $(ARGS)

helper: .venv/ready
	$(BIN)/winnow helper $(ARGS)

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Winnow needs Python 3.11, 3.12 or 3.13; none was found. Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Setting up .venv. The first time this compiles llama-cpp-python: 5 to 12 minutes on two cores."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@bash .ci/progress.sh "Installing" $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

browser: .venv/ready
	@bash .ci/chromium.sh

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint browser
	$(PYTEST)

unit: .venv/ready
	$(PYTEST) tests/unit

soak: .venv/ready browser
	$(BIN)/python -m pytest -m soak

lock: .venv/ready
	$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check | grep -v '^-e' > constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
