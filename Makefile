# Everything a newcomer needs: `make demo`, `make test`. Both install what is missing.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STAMP := $(VENV)/.installed

.PHONY: help install demo test lint types floors tests format bench soak clean lock debian-run debian-test

help:
	@echo "make demo    a real call on this machine: SIP in, stand-in for Deepgram, words in Redis"
	@echo "make test    every check: lint, types, floors, tests"
	@echo "make bench   what a leg costs     make soak   hours of chaos     make format   tidy the source"

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml deploy/compile.py bridge/net/receive.c
	@test -n "$(PYTHON)" || { echo "callbridge needs Python 3.11, 3.12 or 3.13; none was found"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || deploy/debian-packages python3-venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

debian-run:
	@deploy/debian-packages redis-server

debian-test: debian-run
	@deploy/debian-packages sipp:sip-tester baresip:baresip-core chromium

demo: install debian-run
	$(BIN)/callbridge demo

test: install debian-test lint types floors tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

floors: install
	$(BIN)/lint-imports

# A second WebRTC stack as a test peer, where there is Node.js; its test says so where it is skipped.
WERIFT := $(abspath $(VENV)/npm)
$(WERIFT)/node_modules/werift:
	@command -v npm >/dev/null || exit 0; mkdir -p $(WERIFT) && \
		npm install --silent --no-audit --no-fund --fetch-retries=0 --fetch-timeout=30000 --prefix $(WERIFT) werift@0.25.2 >/dev/null 2>&1 || \
		echo "werift could not be installed by npm; its test will be skipped"

# A second SIP stack as a test peer, in an environment of its own; where it cannot be had, its tests say so.
PJSUA := $(abspath $(VENV)/pjsua)
$(PJSUA): | $(STAMP)
	@$(BIN)/python -m venv $(PJSUA).part && $(PJSUA).part/bin/python -m pip install --quiet \
		--disable-pip-version-check --only-binary :all: pjsua2-python==2.15.1.post1 >/dev/null 2>&1 && \
		mv $(PJSUA).part $(PJSUA) || rm -rf $(PJSUA).part

tests: install $(WERIFT)/node_modules/werift $(PJSUA)
	$(BIN)/coverage erase
	WERIFT=$(WERIFT) PJSUA=$$(test -d $(PJSUA) && echo $(PJSUA)) $(BIN)/pytest -m "not soak and not bench" --cov --cov-report=term:skip-covered

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# PIPECAT and LIVEKIT: virtual environments with pipecat-ai[deepgram], with livekit-plugins-deepgram; else left out.
bench: install debian-run
	$(BIN)/python -m tests.bench.load --rows all --json bench-out/load.json

# Coverage-guided fuzzing; not in the lock, because there are no wheels of it for every machine.
soak: install debian-test
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --only-binary :all: 'atheris>=3,<4' || echo "no atheris here: its tests are skipped"
	$(BIN)/pytest -m soak --timeout 7200 -s

lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra offline --no-emit-index-url \
		--no-header --generate-hashes pyproject.toml --output-file requirements.lock
	sed -n 's/^\([a-z0-9.-]*==[^ ]*\)\(.*\)\\$$/\1\2/p' requirements.lock > $(VENV)/constraints.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
		--generate-hashes --constraint $(VENV)/constraints.txt pyproject.toml --output-file deploy/docker/requirements.lock

clean:
	rm -rf $(VENV) bench-out .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
