# make up     router and node on this machine, ready to answer
# make test   everything a change must pass: linters, types, import rules, the whole test suite
# Both prepare what they need; the second run starts at once.

VENV := .venv
BIN := $(VENV)/bin
# What the self-contained program is made of, and nothing else: whatever lies beside may get into it.
DIST_VENV := .venv-dist
PYTHON ?= python3
# The suite, three processes for two processors, since half of its time is waiting; a file's tests stay together, and
# sets have one order in all processes.
PROCESSES := $(shell $(PYTHON) -c "import os; print(os.cpu_count() * 3 // 2)")
SUITE := PYTHONHASHSEED=0 $(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: up setup test quick check format bench bench-guard profile soak bench-fleet bench-selection bench-live bench-replicas lock dist docs clean

up: $(VENV)/ready
	@exec $(BIN)/llm-router up $(ARGS)

setup: $(VENV)/ready

test: check
	$(SUITE) $(ARGS)

quick: $(VENV)/ready-dev
	$(SUITE) -m "not slow" $(ARGS)

# Days of kills, restarts and aborting clients: a report with plots of memory, descriptors, tasks and latency.
HOURS ?= 24
soak: $(VENV)/ready-bench
	$(BIN)/python -m bench.soak --hours $(HOURS) --out bench/out/soak $(ARGS)

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What the router costs beside nginx: needs nginx, wrk and a C compiler (about 6 minutes).
bench: $(VENV)/ready-bench
	$(BIN)/python -m bench.data_plane --out bench/out $(ARGS)

# The short form (a minute), which fails where the router is much dearer than nginx, three times out of three: a machine's
# bad minute is no slower router.
bench-guard: $(VENV)/ready-dev
	for try in 1 2 3; do \
	  $(BIN)/python -m bench.data_plane --rounds 3 --seconds 2 --rate 0 --streams 0 --idle 0 \
	    --max-unary 3.5 --max-stream 2 $(ARGS) && exit 0; \
	done; exit 1

# Where the router's time goes, by function: needs wrk, a C compiler and leave to look into another process.
profile: $(VENV)/ready-bench
	$(BIN)/python -m bench.data_plane.profiling --out bench/out $(ARGS)

# Which policy answers soonest: a trace of conversations against each, in front of eight fake machines (about 13 minutes).
bench-fleet: $(VENV)/ready-bench
	$(BIN)/python -m bench.fleet --out bench/out $(ARGS)

# What a decision among 1,000 nodes costs.
bench-selection: $(VENV)/ready-dev
	$(BIN)/pytest bench/selection $(ARGS)

# What a fleet of 1,000 nodes, 200 requests a second and 50 open dashboards do to the event loop.
bench-live: $(VENV)/ready-dev
	$(BIN)/python -m bench.live $(ARGS)

# What a request costs in a replica, beside a router with a file of SQLite's: needs PostgreSQL, wrk and a C compiler
# (5 minutes).
bench-replicas: $(VENV)/ready-dev
	$(BIN)/python -m bench.replicas $(ARGS)

# The pinned, hashed requirements are written anew from pyproject.toml; they name no index.
lock: $(VENV)/ready-dev
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml requirements/build.in -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml requirements/build.in --group dev -c requirements/run.txt -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --group bench -c requirements/dev.txt -o requirements/bench.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --group dist -c requirements/dev.txt -o requirements/dist.txt

# What is given to people: wheel, sdist, and a program that brings its own Python (two minutes). ARGS: where to, else dist/.
dist: $(DIST_VENV)/ready
	$(DIST_VENV)/bin/python packaging/build.py $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Editable, and without build isolation: hatchling comes pinned and hashed like everything else.
$(VENV)/ready: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Preparing $(VENV) (once; about 100 MB, most of it llama.cpp) ..."
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/ready-dev: requirements/dev.txt $(VENV)/ready
	$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/ready-bench: requirements/bench.txt $(VENV)/ready-dev
	$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

$(DIST_VENV)/ready: requirements/run.txt requirements/dist.txt
	$(PYTHON) -m venv --clear $(DIST_VENV)
	for file in $^; do $(DIST_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile \
	  --require-hashes -r $$file || exit 1; done
	@touch $@

# The parts of docs/reference that are made from the code.
docs: $(VENV)/ready-dev
	$(BIN)/python -m tools.reference

clean:
	rm -rf $(VENV) $(DIST_VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
