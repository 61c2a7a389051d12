# Two doors: `make demo` and `make test`. Both set everything up from a bare clone.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)

.PHONY: help setup demo demo-sensors test matrix soak bench bench-quick check format generate lock clean

help:
	@echo "make demo      start a private PostgreSQL, backfill it into DuckDB, show the result"
	@echo "make demo-sensors  a file comes into a bucket, a pipeline starts, once; KEEP=1 leaves it running"
	@echo "make test      every test"
	@echo "make matrix    kill at every point, in every mode and destination, with every action; write the tables"
	@echo "make soak      kill at random, 200 times: KILLS=2000 SEED=7"
	@echo "make bench     ours and peers at the same work: SCALE=10; make bench-quick takes a few minutes"
	@echo "make check     format, lint, types, generated files, import arrows"
	@echo "make generate  write the generated files;  make lock  renew constraints.txt"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
ifdef UV
	@test -x $(BIN)/python || uv venv -q --python $(PYTHON) $(VENV)
	uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[postgres,demo,dev]' -c constraints.txt
else
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[postgres,demo,dev]' -c constraints.txt
endif
	@touch $@

demo: setup
	@$(BIN)/python -m connectors.testing.demo

demo-sensors: setup $(VENV)-moto/.installed
	@$(BIN)/python -m orchestra.testing.demo --moto $(VENV)-moto/bin/python $(if $(KEEP),--keep)

# The server of S3 is no dependency of the product: it lives apart.
$(VENV)-moto/.installed: tests/servers/moto.txt
ifdef UV
	@uv venv -q --allow-existing --python $(PYTHON) $(VENV)-moto
	uv pip install -q --compile-bytecode --python $(VENV)-moto/bin/python -r $<
else
	@$(PYTHON) -m venv $(VENV)-moto
	$(VENV)-moto/bin/python -m pip install -qq --disable-pip-version-check -r $<
endif
	@touch $@

# Hundreds of processes start meanwhile, and each would compile what nobody keeps. A test waits as much as it works.
JOBS ?= 3
test: setup
	@$(BIN)/python -m compileall -q runner connectors sensors orchestra
	@$(BIN)/python -m tests.environments
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

matrix: setup
	$(BIN)/python -m tests.acceptance.matrix runner/SEMANTICS.md
	$(BIN)/python -m tests.acceptance.sensormatrix sensors/SEMANTICS.md

KILLS ?= 200
soak: setup
	$(BIN)/python -m tests.acceptance.soak --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.acceptance.sensorsoak --kills $(KILLS) $(if $(SEED),--seed $(SEED))

SCALE ?= 1
bench: setup
	$(BIN)/python -m tests.benchmarks --scale $(SCALE) --record

bench-quick: setup
	$(BIN)/python -m tests.benchmarks --quick

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m runner.schemas orchestra/schemas --check
	$(BIN)/python -m sensors.schemas orchestra/schemas --check
	$(BIN)/python -m orchestra.pipelineschema orchestra/schemas --check
	$(BIN)/runner orchestra check --quiet
	$(BIN)/runner orchestra validate orchestra/pipelines --strict --quiet
	$(BIN)/python -m tests.acceptance.matrix runner/SEMANTICS.md --check
	$(BIN)/python -m tests.acceptance.sensormatrix sensors/SEMANTICS.md --check
	$(BIN)/python -m pytest -q tests/unit/test_arrows.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: setup
	$(BIN)/python -m runner.schemas orchestra/schemas
	$(BIN)/python -m sensors.schemas orchestra/schemas
	$(BIN)/python -m orchestra.pipelineschema orchestra/schemas
	$(BIN)/runner orchestra generate orchestra/jobs/demo.yml
	$(BIN)/python -m connectors.testing.fidelity connectors/FIDELITY.md

lock:
	uv pip compile -q --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) $(VENV)-moto .runner .pytest_cache .mypy_cache .ruff_cache .hypothesis
