# What each target does is Python's business: without make, see "Windows" in README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check -c constraints.txt
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=120
# two single-threaded processes; every run starts with an empty store
ISOLATED = home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; KDLAB_HOME="$$home" OMP_NUM_THREADS=1

.NOTPARALLEL:
.PHONY: help lab test lint unit notebooks lessons check results classroom clean

help:
	@echo "make lab               set up once, then open JupyterLab on notebooks/ (KDLAB_NO_BROWSER=1: only serve)"
	@echo "make test              set up, then everything CI runs: lint, unit tests, rebuild check, every notebook"
	@echo "make lessons           build notebooks/ and solutions/ from lessons/ (LESSONS=\"00 01\", FORCE=1, WARM=1)"
	@echo "make lessons CHECK=1   only say where they differ from the lessons"
	@echo "make results           run all lessons with this machine's store, and write RESULTS.md"
	@echo "                       (STORED=1: from solutions/; AGAIN=1200: run them with the seeds from 1200, too)"
	@echo "make classroom         lay the course out for nbgrader in classroom/ (COURSE=folder)"
	@echo "make clean             remove the environment and everything that can be made again"

lab: $(VENV)/.lab
	@$(PY) -m kdlab lab

test: lint unit check notebooks

lint: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

unit: $(VENV)/.dev
	$(ISOLATED) $(PY) -m pytest tests -q -n 2 --dist loadfile

check: $(VENV)/.dev
	$(PY) lessons/build.py --check

notebooks: $(VENV)/.dev
	$(ISOLATED) KDLAB_SCALE=smoke $(PY) -m pytest notebooks solutions -q $(NBVAL) -n 2 --dist loadfile

lessons: $(VENV)/.dev
	$(PY) lessons/build.py $(if $(CHECK),--check) $(if $(FORCE),--force) $(if $(WARM),--warm) $(LESSONS)

results: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PY) lessons/results.py $(if $(STORED),--stored) $(if $(AGAIN),--again $(AGAIN))

classroom: $(VENV)/.dev
	@$(PY) -m kdlab classroom $(or $(COURSE),classroom)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("kdlab needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.lab: pyproject.toml constraints.txt | $(PY)
	$(PIP_INSTALL) -e .
	$(PY) -m kdlab doctor
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	$(PIP_INSTALL) -e ".[dev]"
	$(PY) -m kdlab doctor
	@touch $(VENV)/.lab $@
