# The whole developer interface. `make demo` and `make test` need nothing but Debian, Python 3.11 and git.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA ?= demo-data
REGION ?= simulations/topologies/surrey_sussex.toml
LOCKS := requirements
# Nothing is installed but what a lock names by version and hash; nothing is fetched to build: hatchling is in a lock too.
LOCKED := install -q --disable-pip-version-check --require-hashes
# make lock takes the newest versions that fit pyproject.toml; with UPGRADE= it keeps those that fit and adds what is new.
UPGRADE ?= --upgrade
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile -q $(UPGRADE) --generate-hashes --allow-unsafe --strip-extras \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --resolver backtracking
GROUP = $(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'
EXTRA = $(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")'
DIST ?= dist
SBOM := $(DIST)/crosslight.cdx.json
AUDIT_VENV := build/audit-venv
SBOM_VENV := build/sbom-venv
DEBIAN_PEERS := default-jdk-headless iproute2 maven nftables
DEBIAN := libseccomp2 postgresql dcmtk orthanc orthanc-dicomweb chromium dicom3tools systemd
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
# Root may use apt-get as it is; anyone else is asked by sudo.
APT := $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=400

.PHONY: help demo demo-clean simulate setup dev debian debian-peers check test peers soak bench proto lock sbom release sign verify audit-dependencies format clean

help:
	@echo "make demo        a whole region on this machine, with the story of what it can do (Ctrl-C ends it)"
	@echo "make demo-clean  remove what the demo kept"
	@echo "make simulate    what a region will do and need, before it is bought (REGION=FILE); installs networkx and matplotlib"
	@echo "make test        everything that CI does before the peers"
	@echo "make peers       what peers written by others say of a running region (installs Java and Maven)"
	@echo "make check       lint, types, import rules, proto drift, docs in step"
	@echo "make soak        long tests: 200 kills, many seeds"
	@echo "make bench       measure against peers on this machine; writes docs/benchmarks.md"
	@echo "make proto       generate crosslight/pb from protos/"
	@echo "make lock        renew requirements/*.txt: every dependency by version and hash"
	@echo "make release     build, list, checksum and sign a release (KEY=FILE); make verify checks one (PUBLIC=FILE)"
	@echo "make audit-dependencies  ask the network for known vulnerabilities of what runs"
	@echo "make sbom        list what runs, as CycloneDX, in $(SBOM)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed."; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	  echo "This Python cannot make virtual environments; installing python3-venv."; \
	  $(APT) update && $(APT) install -y python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.installed: pyproject.toml $(LOCKS)/build.txt $(LOCKS)/run.txt | $(BIN)/python
	@echo "Installing Crosslight and its libraries into $(VENV) …"
	@$(BIN)/pip $(LOCKED) -r $(LOCKS)/build.txt
	@$(BIN)/pip $(LOCKED) -r $(LOCKS)/run.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.simulate: $(LOCKS)/simulate.txt $(VENV)/.installed
	@$(BIN)/pip $(LOCKED) -r $(LOCKS)/simulate.txt
	@touch $@

$(VENV)/.dev: $(LOCKS)/dev.txt $(VENV)/.simulate
	@$(BIN)/pip $(LOCKED) -r $(LOCKS)/dev.txt
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

simulate: $(VENV)/.simulate
	@$(BIN)/crosslight simulate $(REGION)

proto: dev
	@$(BIN)/python -m grpc_tools.protoc -I protos --python_out=. --pyi_out=. --grpc_python_out=. protos/crosslight/pb/*.proto

lock: dev
	@$(GROUP) build | $(COMPILE) -o $(LOCKS)/build.txt -
	@$(COMPILE) -c $(LOCKS)/build.txt -o $(LOCKS)/run.txt pyproject.toml
	@$(EXTRA) simulate | $(COMPILE) -c $(LOCKS)/build.txt -c $(LOCKS)/run.txt -o $(LOCKS)/simulate.txt -
	@$(GROUP) dev | $(COMPILE) -c $(LOCKS)/simulate.txt -c $(LOCKS)/build.txt -c $(LOCKS)/run.txt -o $(LOCKS)/dev.txt -
	@$(GROUP) audit | $(COMPILE) -c $(LOCKS)/build.txt -c $(LOCKS)/run.txt -c $(LOCKS)/dev.txt -o $(LOCKS)/audit.txt -

sbom: dev
	@rm -rf $(SBOM_VENV) && mkdir -p $(dir $(SBOM)) && $(PYTHON) -m venv --without-pip $(SBOM_VENV)
	@$(BIN)/pip --python $(SBOM_VENV)/bin/python $(LOCKED) -r $(LOCKS)/run.txt
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --spec-version 1.6 -o $(SBOM) $(SBOM_VENV)
	@rm -rf $(SBOM_VENV) && echo "$(SBOM)"

# A release: wheel, source, list of what runs, checksums, and a signature of these by the maintainers' key (SECURITY.md).
release: dev
	@test -f "$(KEY)" || { echo "Say whose key signs it: make release KEY=FILE (openssl genpkey -algorithm ed25519 -out FILE)"; exit 1; }
	@rm -rf $(DIST)
	@$(MAKE) -s sbom
	@$(BIN)/python -m hatchling build -d $(DIST)
	@$(MAKE) -s sign

sign:
	@cd $(DIST) && rm -f SHA256SUMS SHA256SUMS.sig && sha256sum -- * > ../$(notdir $(DIST)).sums && mv ../$(notdir $(DIST)).sums SHA256SUMS
	@openssl pkeyutl -sign -rawin -inkey $(KEY) -in $(DIST)/SHA256SUMS -out $(DIST)/SHA256SUMS.sig
	@echo "$(DIST)/SHA256SUMS.sig; to verify it: make verify PUBLIC=FILE DIST=$(DIST)"

verify:
	@test -f "$(PUBLIC)" || { echo "Say whose signature it should be: make verify PUBLIC=FILE"; exit 1; }
	@openssl pkeyutl -verify -rawin -pubin -inkey $(PUBLIC) -in $(DIST)/SHA256SUMS -sigfile $(DIST)/SHA256SUMS.sig
	@cd $(DIST) && sha256sum --strict -c SHA256SUMS

# Asks services on the network: no part of make test.
audit-dependencies: dev
	@rm -rf $(AUDIT_VENV) && mkdir -p build && $(PYTHON) -m venv --without-pip $(AUDIT_VENV)
	@$(BIN)/pip --python $(AUDIT_VENV)/bin/python $(LOCKED) -r $(LOCKS)/audit.txt
	@$(AUDIT_VENV)/bin/python -m pip_audit --strict --require-hashes --disable-pip -r $(LOCKS)/run.txt

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
	@echo "Scenarios and browser now, then attacks; beside them all else, whose result is shown at the end."
	@mkdir -p build; nice -n 5 $(BIN)/pytest -q tests/unit tests/protocol tests/storage > build/tests.txt 2>&1 & \
	beside=$$!; $(BIN)/pytest -q tests/scenarios tests/browser; shown=$$?; \
	$(BIN)/pytest -q tests/attacks tests/conformance; after=$$?; \
	wait $$beside; beside=$$?; cat build/tests.txt; exit $$((shown | after | beside))

peers: dev debian-peers
	$(BIN)/pytest -q tests/peers

soak: dev debian
	CROSSLIGHT_KILLS=200 CROSSLIGHT_SOAK=1 $(BIN)/pytest -q tests --timeout 1800 -k "kill or soak or property"
	$(BIN)/python -m simulations.faults 1-2000 --resume build/faults.txt

bench: dev debian
	$(BIN)/python -m benchmarks $(if $(BEFORE),--before $(BEFORE))

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO_DATA)
