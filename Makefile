# Every target sets up what it needs by itself, once: a virtual environment in .venv, installed from requirements.lock.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test check docs bench bench-quality bench-study bench-startup bench-looking bench-executors bench-winners bench-gpu format lock clean

run: $(READY)                     ## train the default experiment on MNIST, tracked in ./mlruns
	$(BIN)/harness run $(ARGS)

test: $(READY)                    ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

check: $(READY)                   ## format, lint, types, import contracts, words, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_words.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs: $(READY)                    ## serve the documentation at http://127.0.0.1:8000, built again at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload

bench: $(READY)                   ## how fast it trains and scores on this machine, beside the notebook's way
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/batched.py
	$(BIN)/python benchmarks/growth.py --figure docs/images/growth.png
	$(BIN)/python benchmarks/scores.py

bench-quality: $(READY)           ## whether bf16 costs quality; goes on where it was stopped
	$(BIN)/python benchmarks/quality.py $(ARGS)

bench-study: $(READY)             ## what a search costs beside training and scoring
	$(BIN)/python benchmarks/study.py
	$(BIN)/python benchmarks/study.py --growth 10 100 1000

bench-startup: $(READY)           ## how long run and tune take from the command to the first training step
	$(BIN)/python benchmarks/startup.py

bench-looking: $(READY)           ## how long runs, compare and the UI take with many runs in the store
	$(BIN)/python benchmarks/looking.py

bench-executors: $(READY)         ## trials per hour with each executor and 1 and 2 workers, and the cost of coordination
	$(BIN)/python benchmarks/executors.py

bench-winners: $(READY)           ## how often a search's winner beats the baseline; hours, goes on where it was stopped
	$(BIN)/python benchmarks/winners.py $(ARGS)

bench-gpu: export PYTHONPATH := .
bench-gpu:                        ## the GPU's tests and benchmarks, with $(PYTHON) as it is: no .venv, no tracker
	@$(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null || \
		{ echo "bench-gpu needs a CUDA device and a PyTorch that finds it; $(PYTHON) has none"; exit 2; }
	@if $(PYTHON) -c 'import pytest' 2>/dev/null; \
		then $(PYTHON) -m pytest --noconftest -p no:cacheprovider tests/gan/test_cuda.py; \
		else echo "the GPU's tests are left out: $(PYTHON) has no pytest"; fi
	$(PYTHON) benchmarks/training.py --device cuda
	$(PYTHON) benchmarks/batched.py --device cuda
	$(PYTHON) benchmarks/growth.py --device cuda
	$(PYTHON) benchmarks/scores.py --device cuda

format: $(READY)                  ## put the source in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)                    ## resolve requirements.lock anew
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "harness needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "setting up .venv (once; about 6 GB, PyTorch comes with CUDA)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(READY)

clean:                            ## remove the environment and the caches; runs are kept
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache dist
