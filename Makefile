# Two commands: `make demo` and `make test`. Each makes .venv once from requirements.txt.
# To use an environment that is there already: make demo PYTHON=/path/to/python
# To make .venv with another interpreter:      make demo BASE_PYTHON=python3.12

BASE_PYTHON ?= python3
DEMO_DIR ?= demo
VENV := .venv
STAMP := $(VENV)/installed

ifeq ($(origin PYTHON), undefined)
PYTHON := $(VENV)/bin/python
ENVIRONMENT := $(STAMP)
endif

.PHONY: demo test lint types install clean help

help:
	@sed -n 's/^# //p' Makefile | head -3

demo: $(ENVIRONMENT)
	bash scripts/demo.sh "$(PYTHON)" "$(DEMO_DIR)"

test: lint types
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 $(PYTEST_FLAGS)

lint: $(ENVIRONMENT)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(ENVIRONMENT)
	$(PYTHON) -m mypy

install: $(STAMP)

# --without-pip and `pip --python`: works where Python comes without its ensurepip module.
$(STAMP): requirements.txt requirements-nodeps.txt
	@$(BASE_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "This project needs Python 3.11 to 3.13; name one: make BASE_PYTHON=/path/to/python3.12"; exit 1; }
	$(BASE_PYTHON) -m venv --without-pip --clear $(VENV)
	$(BASE_PYTHON) -m pip --python $(VENV)/bin/python install -q --disable-pip-version-check -r requirements.txt
	$(BASE_PYTHON) -m pip --python $(VENV)/bin/python install -q --disable-pip-version-check --no-deps -r requirements-nodeps.txt
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache build *.egg-info
