# The two commands that matter: `make lab` opens the course, `make test` proves it. Each works alone in a fresh clone
# with Python >= 3.11, pip, venv and make.

PYTHON ?=
CONSTRAINTS ?= constraints.txt
VENV = .venv
# Where the learner's copy of the notebooks lies
COPY ?= my_notebooks
LAB_FLAGS ?=
PYTEST_FLAGS ?=
# Threads that wait should sleep soon: spinning, they starve a machine that does anything else.
GOMP_SPINCOUNT ?= 10000
# By the environment, not by text put into commands: a path may hold spaces.
export PYTHON CONSTRAINTS VENV COPY GOMP_SPINCOUNT
RUN = "$$VENV/bin/python" -m
PYTEST = $(RUN) pytest $(PYTEST_FLAGS)
CACHES = __pycache__ .pytest_cache .ruff_cache .mypy_cache .hypothesis

.NOTPARALLEL:
.PHONY: help install install-lab lab test test-lint test-types test-unit test-serial test-real test-notebooks test-browser \
        notebooks pages bench robustness clean

help:
	@echo 'make lab          install, copy the notebooks into my_notebooks, open JupyterLab on notebook 00'
	@echo 'make test         install and run every test'
	@echo 'make notebooks    execute every notebook again and store its outputs'
	@echo 'make pages        write the course as web pages into pages'
	@echo 'make bench        measure against other libraries'
	@echo 'make robustness   the long runs: damaged DICOM files, Part IV on each real set'
	@echo 'make clean        remove what the commands above made, but neither data nor your notebooks'

# Each does nothing where the last installation is newer than pyproject.toml and the pins.
install-lab:
	@sh .ci/venv.sh lab,deploy

install:
	@sh .ci/venv.sh lab,test,dicom,deploy

lab: install-lab
	@"$$VENV/bin/python" notebooks/edition.py "$$COPY"
	@if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	exec $(RUN) jupyterlab $$root $(LAB_FLAGS) \
	  --ServerApp.root_dir="$$COPY" --LabApp.default_url=/lab/tree/00_start_here.ipynb \
	  --HTMLExporter.template_name=page --TemplateExporter.extra_template_basedirs="$$PWD/notebooks"

test: test-lint test-types test-unit test-serial test-real test-notebooks

test-lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .

test-types: install
	$(RUN) mypy

# One thread a worker: two workers with two threads each are slower on two cores than either alone.
test-unit: install
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal -m "not serial" tests

# Browsers want the machine for themselves.
test-serial: install
	$(PYTEST) -m "serial and not real" tests

# Notebooks are long, and each has its kernel: two at a time.
test-real: install
	$(PYTEST) -n 2 --dist worksteal -m "serial and real" tests

test-notebooks: install
	$(PYTEST) -n 2 --dist loadfile --nbval -p no:cacheprovider notebooks

test-browser: install
	$(PYTEST) -m browser -rs tests/test_browser*.py

notebooks: install
	"$$VENV/bin/python" notebooks/execute.py $(NB)

pages: install-lab
	"$$VENV/bin/python" notebooks/edition.py pages --html

# One that cannot run must not hide the others.
bench: install
	@failed=; for file in benchmarks/*.py; do \
	  echo "== $$file"; "$$VENV/bin/python" "$$file" || failed="$$failed $$file"; \
	done; \
	if [ -n "$$failed" ]; then echo "medlab: did not run:$$failed" >&2; exit 1; fi

robustness: install
	MEDLAB_ROBUSTNESS=full $(PYTEST) -rs -s tests/test_robustness_*.py tests/test_checkpoint.py \
	  tests/test_notebooks_real.py

clean:
	rm -rf $(CACHES)
	find benchmarks data_scripts medlab notebooks tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@sh .ci/venv.sh clean
