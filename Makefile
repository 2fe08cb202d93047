# The whole developer interface. `make demo` and `make test` need nothing but Debian, Python 3.11 and git.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA ?= demo-data
DEBIAN_PEERS := default-jdk-headless maven
DEBIAN := postgresql dcmtk orthanc orthanc-dicomweb chromium dicom3tools
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
# Root may use apt-get as it is; anyone else is asked by sudo.
APT := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=400

.PHONY: help demo demo-clean setup dev debian debian-peers check test peers soak bench proto format clean

help:
	@echo "make demo        a whole region on this machine, with the story of what it can do (Ctrl-C ends it)"
	@echo "make demo-clean  remove what the demo kept"
	@echo "make test        everything that CI does before the peers"
	@echo "make peers       what peers written by others say of a running region (installs Java and Maven)"
	@echo "make check       lint, types, import rules, proto drift, docs in step"
	@echo "make soak        long tests: 200 kills, many seeds"
	@echo "make bench       measure against peers on this machine; writes docs/benchmarks.md"
	@echo "make proto       generate crosslight/pb from protos/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed."; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	  echo "This Python cannot make virtual environments; installing python3-venv."; \
	  $(APT) update && $(APT) install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/pip install -q --disable-pip-version-check --upgrade "pip>=25.1"

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Crosslight and its libraries into $(VENV) …"
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.installed
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e . --group dev
	@touch $@

setup: $(VENV)/.installed
dev: $(VENV)/.dev

debian: PACKAGES := $(DEBIAN)
debian-peers: PACKAGES := $(DEBIAN_PEERS)
debian debian-peers:
	@missing=""; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "Installing$$missing …"; $(APT) update >/dev/null && $(APT) install -y --no-install-recommends $$missing >/dev/null \
	  || { echo "Could not install:$$missing. The tests need them."; exit 1; }; fi

demo: setup
	@$(BIN)/crosslight demo --data $(DEMO_DATA)

demo-clean:
	@rm -rf $(DEMO_DATA)

proto: dev
	@$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. protos/crosslight/pb/*.proto

format: dev
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/proto_drift.py
	$(BIN)/pytest -q tests/unit/test_docs.py

test: dev debian check
	$(BIN)/pytest -q -n 2 --dist loadfile tests/unit tests/protocol tests/storage tests/conformance
	$(BIN)/pytest -q tests/scenarios tests/browser

peers: dev debian-peers
	$(BIN)/pytest -q tests/peers

soak: dev debian
	CROSSLIGHT_KILLS=200 CROSSLIGHT_SOAK=1 $(BIN)/pytest -q tests --timeout 1800 -k "kill or soak or property"

bench: dev debian
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO_DATA)
