# `make demo` and `make test` are all a new machine needs: python3 (3.11 or newer), pip and make.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
SEED ?= 0
COUNT ?= 500
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
UV := VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --require-hashes

.PHONY: setup demo test lint pyright pytest slow chaos gpu check format docs lock clean

setup: .venv/ready

.venv/ready: requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mien needs Python 3.11 or newer; make setup PYTHON=python3.12 names another one"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	# torch first: the CPU build where there is no NVIDIA card and pip finds one, else PyPI's with its CUDA packages
	awk '/^torch==/ {inside = 1} inside {print} inside && !/\\$$/ {exit}' requirements.lock > .venv/torch.txt
	command -v nvidia-smi > /dev/null || $(PIP) -r requirements-cpu.lock 2> /dev/null || true
	$(BIN)/python -m pip show --quiet torch || $(PIP) -r .venv/torch.txt
	$(UV) -r requirements.lock
	case "$$($(BIN)/python -m pip show torch | sed -n 's/^Version: //p')-$$(uname -s)" in \
	  *+cpu-*) ;; *-Linux) $(UV) -r requirements-cuda.lock ;; esac
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/mien demo

# pyright takes one core for a while, beside the tests
test: lint
	$(MAKE) --no-print-directory --jobs=2 pyright pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md Makefile benchmarks docs mien tests tools

pyright: setup
	$(BIN)/pyright

pytest: setup
	# byte code is kept, whatever the shell asks: half of what the many processes of the tests do is to load modules
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 \
	  --dist loadfile --no-loadscope-reorder

slow: setup
	$(BIN)/pytest -m slow

chaos: setup  # make chaos SEED=1 COUNT=100
	OMP_NUM_THREADS=1 $(BIN)/python tests/chaos.py --seed $(SEED) --count $(COUNT)

gpu: setup  # everything about CUDA in at most 8 minutes; without a card it says what it would do
	$(BIN)/python benchmarks/gpu.py

check: lint pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python tools/docs.py

lock: setup
	PATH="$(BIN):$$PATH" $(BIN)/python tools/lock.py

clean:
	rm -rf .venv
