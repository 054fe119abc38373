# Every target sets up what it needs: a virtual environment, and Debian packages where we are root.
SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FOR_TESTS := $(VENV)/.installed-for-tests
# Files of tests that run side by side, as far as they measure no time (tests/everything.py).
JOBS ?= 2
SEEDS ?= 2000
RUNS ?= 300
SEED ?= 1

.PHONY: help setup assets demo test test-quick test-browser screenshots check bench bench-console explore simulate campaign man deb install uninstall clean

help:
	@echo "make demo      build a pair in a laboratory, kill machines under load, show that nothing was lost"
	@echo "make test      every test (some need root; they say so and are skipped elsewhere)"
	@echo "make test-browser  the console in a real Chromium (part of make test)"
	@echo "make screenshots   pictures of every page of the console, for the documents"
	@echo "make check     format, lint, types, imports"
	@echo "make bench     the table of figures; appends and resumes (docs/lab.md)"
	@echo "make bench-console  a thousand engines in the console: first paint, processor time (docs/console.md)"
	@echo "make install   install the service on this machine from this folder (as root; docs/install.md)"
	@echo "make deb       dist/openmse_*.deb, a Debian package that needs nothing else from the network"
	@echo "make man       docs/man: the manual pages, from the commands' help"
	@echo "make explore   exhaust the protocol's states at small bounds"
	@echo "make simulate  SEEDS=n seeded simulations with virtual time"
	@echo "make campaign  RUNS=n SEED=s random real faults under load"

setup: $(STAMP)

$(STAMP): pyproject.toml tools/setup tools/packages tools/assets/fetch tools/assets/package-lock.json tools/assets/vendor.sha256
	@PYTHON="$(PYTHON)" VENV="$(VENV)" tools/setup
	@touch $(STAMP)

# What only tests need; a test says so and is skipped where it is not there.
$(FOR_TESTS): $(STAMP) tools/packages Makefile
	@tools/packages "some tests are skipped" etcd-server openssl tmux chromium systemd groff-base
	@touch $(FOR_TESTS)

assets:
	@PYTHON="$(PYTHON)" tools/assets/fetch

demo: setup
	@$(BIN)/mse lab demo $(if $(QUICK),--quick,)

test: setup $(FOR_TESTS)
	@$(BIN)/python tests/everything.py --jobs $(JOBS)

test-browser: setup $(FOR_TESTS)
	@$(BIN)/python -m pytest tests/browser tests/lab/test_product_console.py

screenshots: setup $(FOR_TESTS)
	@$(BIN)/python tests/browser/screenshots.py docs/images/console

test-quick: setup
	@$(BIN)/python -m pytest -m "not root and not slow"

check: setup
	@$(BIN)/ruff format --check -q src tests && $(BIN)/ruff check -q src tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 4; exit $${PIPESTATUS[0]}
	@$(BIN)/python -m pytest -q -p no:randomly tests/unit/test_tidy.py
	@echo "check: all well"

bench: setup
	@$(BIN)/mse lab bench

bench-console: setup
	@$(BIN)/python tests/bench/console_fleet.py bench/console.jsonl

explore: setup
	@$(BIN)/python -m openmse.lab.exploration explore

simulate: setup
	@$(BIN)/python -m openmse.lab.exploration simulate --seeds $(SEEDS)

campaign: setup
	@$(BIN)/mse lab campaign --runs $(RUNS) --seed $(SEED) --json bench/campaign.jsonl

man: setup
	@$(BIN)/python -m openmse.install.manual docs/man

deb: setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" tools/deb

install:
	@PYTHON="$(PYTHON)" tools/install

uninstall:
	@/opt/openmse/bin/mse uninstall

clean:
	rm -rf build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
