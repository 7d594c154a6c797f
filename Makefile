# The targets are the steps of continuous integration. `make demo` and `make test` set up
# their own virtual environment; nothing but Python 3.11 or newer is needed beforehand.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := client indexer server tests benchmarks examples tools

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types contract pytest protos format clean

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# What running VisageDB needs.
$(VENV)/.all: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[all]'
	@touch $@

# What working on it needs besides.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.all

demo: $(VENV)/.all ## Enrol, identify, verify and cluster real photographs (or PHOTOS=folder)
	$(BIN)/python -m demo

demo: export PYTHONPATH = examples

test: lint types contract pytest ## Run every check and every test

lint: $(VENV)/.dev ## Style and formatting
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev ## Static types
	$(BIN)/mypy client indexer server examples tools benchmarks

contract: $(VENV)/.dev ## The protobuf contract: lint, compatibility, fresh stubs
	$(BIN)/python tools/protos.py lint
	$(BIN)/python tools/protos.py breaking
	$(BIN)/python tools/protos.py check

# Much of the time goes into waiting for servers, so the files of tests run beside each other.
pytest: $(VENV)/.dev ## The tests alone; ARGS="-k name" chooses some
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

protos: $(VENV)/.dev ## Regenerate the protobuf stubs
	$(BIN)/python tools/protos.py generate

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-output
