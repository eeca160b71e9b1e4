# The project's commands. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLEET := $(BIN)/python -m testbed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: up ## The main job on real input: surveillance on the fleet, its CSV fetched and checked.
	$(BIN)/python -m testbed.demo

.PHONY: test
test: lint ## All tests: lint, types, layers, generated files, units, API server, fleet.
	$(BIN)/pytest --numprocesses 2

.PHONY: bench
bench: up ## Edgewise against plain Kubernetes, side by side; BENCH="--quick" or "--only csv" for less.
	$(BIN)/python -m bench $(BENCH)

.PHONY: soak
soak: venv ## Look for faults in the decisions by 3,000 random scripts for the simulator (SCRIPTS=…).
	EDGEWISE_SOAK=$(or $(SCRIPTS),3000) $(BIN)/pytest tests/domain/test_simulator.py

.PHONY: faults
faults: programs ## The fault tests alone, with a soak of ten minutes; EDGEWISE_SOAK_SEED chooses its faults.
	EDGEWISE_SOAK_SECONDS=600 $(BIN)/pytest --timeout 1200 tests/control/crash tests/fleet/test_faults_*.py tests/fleet/test_results_*.py

.PHONY: up
up: venv ## Start the fleet, build and load the images, install Edgewise by Helm.
	$(FLEET) up
	$(BIN)/python -m testbed.install

.PHONY: down
down: venv ## End the fleet and leave nothing behind.
	$(FLEET) down

.PHONY: images
images: venv ## Build the images, and load them into a running fleet.
	$(FLEET) images

.PHONY: kind-up
kind-up: ## The same cluster with kind, for people with Docker.
	kind create cluster --name edgewise --config kind-config.yaml

.PHONY: generate
generate: programs ## Write crds/, the chart's copies and manifests/ from the models.
	$(BIN)/python -m edgewise.api.generate

.PHONY: verify
verify: programs ## Fail if a generated file differs from what the models say.
	$(BIN)/python -m edgewise.api.generate --check

.PHONY: lint
lint: programs ## Style, types, layers and generated files.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m edgewise.api.generate --check

.PHONY: lock
lock: venv ## Lock the versions of all dependencies, with hashes.
	$(COMPILE) pyproject.toml --extra operator -o requirements/operator.txt
	$(COMPILE) pyproject.toml --extra agent -o requirements/agent.txt
	$(COMPILE) pyproject.toml --extra operator --extra agent --extra dev -o requirements/dev.txt
	$(COMPILE) --no-deps requirements/vision.in -o requirements/vision.txt

.PHONY: programs
programs: venv
	$(FLEET) build

.PHONY: venv
venv: $(VENV)/installed

$(VENV)/installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON="; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: clean
clean: ## End the fleet and remove what was built here; the caches outside the checkout stay.
	test ! -e $(VENV)/installed || $(FLEET) down
	rm -rf $(VENV) .testbed dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
