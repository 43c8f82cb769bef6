# The two commands that matter: `make lab` opens the course, `make test` proves it. Each works alone in a fresh clone
# with Python >= 3.11, pip, venv and make.

PYTHON ?=
CONSTRAINTS ?= constraints.txt
VENV = .venv
BIN = $(VENV)/bin
LAB_FLAGS ?=
PYTEST_FLAGS ?=
PYTEST = $(BIN)/python -m pytest $(PYTEST_FLAGS)
SETUP = PYTHON="$(PYTHON)" CONSTRAINTS="$(CONSTRAINTS)" VENV="$(VENV)" sh .ci/venv.sh
# Threads that wait should sleep soon: spinning, they starve a machine that does anything else.
export GOMP_SPINCOUNT ?= 10000
PINS = pyproject.toml constraints.txt .ci/venv.sh

.NOTPARALLEL:
.PHONY: help lab test test-lint test-unit test-serial test-notebooks test-browser notebooks bench robustness clean

help:
	@echo 'make lab          install and open JupyterLab on notebook 00'
	@echo 'make test         install and run every test'
	@echo 'make notebooks    execute every notebook again and store its outputs'
	@echo 'make bench        measure against other libraries'
	@echo 'make robustness   the long run over damaged DICOM files'
	@echo 'make clean        remove what the commands above made, but no downloaded data'

# Each stamp stands for an installation that fits pyproject.toml and the pins; the second holds all of the first.
$(VENV)/.lab: $(PINS)
	@$(SETUP) lab

$(VENV)/.test: $(PINS)
	@$(SETUP) lab,test,dicom

lab: $(VENV)/.lab
	@if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	exec $(BIN)/jupyter lab $$root $(LAB_FLAGS) \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

test: test-lint test-unit test-serial test-notebooks

test-lint: $(VENV)/.test
	$(BIN)/ruff check .

# One thread a worker: two workers with two threads each are slower on two cores than either alone.
test-unit: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal -m "not serial" tests

test-serial: $(VENV)/.test
	$(PYTEST) -m serial tests

test-notebooks: $(VENV)/.test
	$(PYTEST) --nbval -p no:cacheprovider notebooks

test-browser: $(VENV)/.test
	$(PYTEST) -m browser -rs tests/test_browser*.py

notebooks: $(VENV)/.test
	$(BIN)/python notebooks/execute.py $(NB)

bench: $(VENV)/.test
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

robustness: $(VENV)/.test
	MEDLAB_ROBUSTNESS=full $(PYTEST) -rs -s tests/test_robustness_*.py tests/test_checkpoint.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
