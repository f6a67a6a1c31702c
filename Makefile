# make test | diff | lint | bench | kill-sample | clean. Needs Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One BLAS thread for each test process: two processes already fill two cores.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: test diff lint bench kill-sample clean

test: $(READY)
	$(THREADS) $(BIN)/pytest -n 2

diff: $(READY)
	$(BIN)/manual-lstm diff

# A mistake of the sample that goes unseen or is misnamed, or a false alarm, fails.
kill-sample: $(READY)
	$(BIN)/python scripts/kill_matrix.py --sample 12 --pairs 6 --correct 6 --jobs 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Times, which need a quiet machine, and never inside the tests.
bench: $(READY)
	$(BIN)/python scripts/benchmark.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,plots,report]"
	touch $(READY)

clean:
	rm -rf $(VENV) .hypothesis .pytest_cache .mypy_cache .ruff_cache
