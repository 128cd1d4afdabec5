# `make demo` and `make test` are all a new machine needs: python3 (3.11 or newer), pip and make.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
COUNT ?= 500
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps
LOCKED := $(PIP) --require-hashes

.PHONY: setup develop demo readme test lint pyright pytest slow chaos gpu check format docs notebooks site lock clean

setup: .venv/ready        # what running mien needs
develop: .venv/ready-dev  # what tests and documentation need besides

# Either stamp is written last: a setup that was interrupted begins again, and skips what is there.
.venv/ready: requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mien needs Python 3.11 or newer; make setup PYTHON=python3.12 names another one"; exit 2; }
	@echo "Installing torch and $$(grep -o '^[^= ]*==' requirements.lock | sort -u | grep -vc '^torch==') smaller" \
	  "packages in .venv (1.8 GB, or about 6 GB beside an NVIDIA card); this takes a minute" \
	  "if pip has them in its cache, else some minutes."
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv
	@# torch first: the CPU build where there is no NVIDIA card and pip finds one, else PyPI's with its CUDA packages
	@command -v nvidia-smi > /dev/null || $(BIN)/python -m pip show --quiet torch 2> /dev/null || \
	  $(LOCKED) -r requirements-cpu.lock 2> /dev/null || true
	@$(LOCKED) -r requirements.lock
	@case "$$($(BIN)/python -m pip show torch | sed -n 's/^Version: //p')-$$(uname -s)" in \
	  *+cpu-*) ;; *-Linux) $(LOCKED) -r requirements-cuda.lock ;; esac
	@$(PIP) --editable .
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.lock
	@echo "Installing $$(grep -o '^[^= ]*==' requirements-dev.lock | sort -u | wc -l | tr -d ' ') more packages in .venv," \
	  "for tests and documentation (0.8 GB); this takes some minutes."
	@$(LOCKED) -r requirements-dev.lock
	@touch $@

demo: setup
	$(BIN)/mien demo

# after `make demo`: its findings and its picture go into README.md
readme: develop
	$(BIN)/python tools/readme.py

# pyright takes one core for a while, beside the tests
test: lint
	$(MAKE) --no-print-directory --jobs=2 pyright pytest

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md Makefile benchmarks docs mien tests tools

pyright: develop
	$(BIN)/pyright

pytest: develop
	# byte code is kept, whatever the shell asks: half of what the many processes of the tests do is to load modules
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 \
	  --dist loadfile --no-loadscope-reorder

slow: develop
	$(BIN)/pytest -m slow

chaos: develop  # make chaos SEED=1 COUNT=100
	OMP_NUM_THREADS=1 $(BIN)/python tests/chaos.py --seed $(SEED) --count $(COUNT)

gpu: develop  # everything about CUDA in at most 8 minutes; without a card it says what it would do
	$(BIN)/python benchmarks/gpu.py

check: lint pyright

format: develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: develop
	$(BIN)/python tools/docs.py

notebooks: develop  # run the notebooks in examples/, and write their output into them
	$(BIN)/python tools/notebooks.py

site: develop  # the documentation as pages in site/, which also open without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lock: develop
	PATH="$(BIN):$$PATH" $(BIN)/python tools/lock.py

clean:
	rm -rf .venv
