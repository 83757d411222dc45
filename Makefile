# `make` alone lists what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
READY := $(VENV)/.ready
EMBEDDED := tiny_prose tiny_code tiny_mixed tiny_bytes

.PHONY: help setup run test check format slurm calibration bench fuzz figures models constraints build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything needed (PYTHON= and TORCH_BACKEND= choose)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

run: $(READY) ## Test the embedded pair from capture to report (ARGS='pair=... phase=...')
	@folder=$$($(VENV)/bin/brf-exp run $(ARGS) | tail -n 1); \
	echo "$$folder"; \
	find "$$folder" -name report.html -exec echo "Open this page: {}" \;

test: $(READY) ## Run the tests (ARGS='-k name')
	@$(VENV)/bin/python -m pytest $(ARGS)

slurm: $(READY) ## Run sweeps on a real Slurm of two emulated nodes, brought up here (as root; ARGS='-k name')
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" timeout 600 $(VENV)/bin/python -m pytest -m slurm tests/sweeps/test_slurm.py $(ARGS)

check: $(READY) ## Lint, check the format, the types and the import layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(READY) ## Rewrite the sources in the house format
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

calibration: $(READY) ## Simulate what docs/calibration.md reports, then run the slow tests (an hour; goes on if killed)
	@$(VENV)/bin/python -m calibration
	@$(VENV)/bin/python -m pytest -m slow $(ARGS)

bench: $(READY) ## Measure ratios side by side (ARGS='--only capture --repeats 5')
	@$(VENV)/bin/python benchmarks/bench.py $(ARGS)

fuzz: $(READY) ## Break submissions at random, 100,000 of them (ARGS='--cases 1000 --seed 1')
	@$(VENV)/bin/python -m fuzzing $(ARGS)

figures: $(READY) ## Redraw every figure of a run from its stored results (ARGS='run=runs/run/NAME'; default: the newest)
	@$(VENV)/bin/brf-exp report $(ARGS)

models: $(READY) ## Train the embedded models again from scratch, under runs/train
	@for model in $(EMBEDDED); do $(VENV)/bin/brf-exp train model=$$model $(ARGS); done

constraints: $(READY) ## Pin the newest versions that fit into constraints.txt
	@$(VENV)/bin/uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras --no-header --no-annotate \
	  pyproject.toml | grep -v -E '^(nvidia-|cuda-|triton|torch==)' > constraints.txt

build: $(READY) ## Build the wheel and the source archive into dist/
	@$(VENV)/bin/python -m build --installer uv

clean: ## Remove caches and build output; .venv and runs/ stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
