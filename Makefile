# Every target does its own set-up, so each works as the first command in a fresh clone.
PYTHON ?= python3
CONFIG ?= serve_config.yaml

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install serve test chaos fuzz conformance check bench

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

install: $(INSTALLED) ## Make .venv, fetch the model, compile the native parts; seconds when all is there
	@$(BIN)/fastserve models install
	@$(BIN)/python -m fastserve.shm_op
	@$(BIN)/python -m engine.fused.compiled

serve: install ## Serve CONFIG (serve_config.yaml) on http://127.0.0.1:8000; Ctrl-C ends it
	@exec $(BIN)/fastserve serve $(CONFIG)

test: install ## Run all tests
	@$(BIN)/python -m pytest

chaos: install ## Kill, stop and cut off parts of a real service under load, 200 times, and check the books
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

fuzz: install ## Play the service's own OpenAPI page against a real service, 2,000 requests and more
	@$(BIN)/python -m tests.fuzz

conformance: install ## Play the tests of openai, langchain, litellm, instructor, llm and lm-eval against a real service
	@$(BIN)/python -m tests.conformance $(CONFORMANCE_ARGS)

check: $(INSTALLED) ## Formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## Measure the engine, then a service over HTTP, in minutes; tables and a plot in benchmarks/results
	@$(BIN)/python -m benchmarks.engine $(ENGINE_ARGS)
	@$(BIN)/python -m benchmarks.http $(BENCH_ARGS)
	@$(BIN)/python -m benchmarks.plot

$(INSTALLED): pyproject.toml
	@$(PYTHON) fastserve/prerequisites.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@
