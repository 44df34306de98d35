# KVQL's chores. A fresh machine needs Python 3.11 (or newer) and make; everything else comes into .venv from the lock.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
LOCK := requirements/dev.txt

# how many pytest workers: two cores are the machine that the time budget was made on
WORKERS ?= 2
ROW ?= all
N ?= 20000
ROUNDS ?= 500
SECONDS ?= 1800

.PHONY: help install shell test check format proto grammar sync reference golden bench fuzz soak soak-kill mutants examples lock dist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): $(LOCK) pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "kvql needs Python 3.11 or newer; install it, or say make PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "making .venv with $(PYTHON) from $(LOCK): once, about a minute" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP) ## make .venv from the lock (the other targets do it by themselves)

shell: $(STAMP) ## a shell against a server of your own on ./data; piped input works too
	@$(RUN) tools/dev_shell.py

test: $(STAMP) ## all tests
	@$(RUN) -m pytest -q -n $(WORKERS) --dist loadgroup $(PYTEST)

check: $(STAMP) ## format, lint, types, layers, drift of generated code, golden coverage
	@$(RUN) -m ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache | tail -n 20
	@$(RUN) tools/make_proto.py --check
	@$(RUN) tools/check_wire.py
	@$(RUN) tools/make_grammar.py --check
	@$(RUN) tools/make_sync.py --check
	@$(RUN) tools/make_reference.py --check
	@$(RUN) tools/golden_coverage.py
	@$(RUN) tools/golden_rules.py

format: $(STAMP) ## put the code into ruff's format
	@$(RUN) -m ruff format --quiet .
	@$(RUN) -m ruff check --quiet --fix .

proto: $(STAMP) ## generate kvql/v1 from proto/
	@$(RUN) tools/make_proto.py

grammar: $(STAMP) ## generate kvql/_gen from grammar/kvql.lark
	@$(RUN) tools/make_grammar.py

sync: $(STAMP) ## generate kvql/_sync from kvql/_async
	@$(RUN) tools/make_sync.py

reference: $(STAMP) ## write docs/reference from the grammar and by running its examples
	@$(RUN) tools/make_reference.py

golden: $(STAMP) ## rewrite the transcripts in tests/golden; read the diff
	@$(RUN) -m pytest -q tests/golden --golden-rewrite -p no:xdist
	@git --no-pager diff --stat -- tests/golden || true

bench: $(STAMP) ## measure: ROW=load|load200k|load1m|gets|put64|get64|executemany|parse|shape|inprocess|reopen|memory|history|checkpoint|snapshots|count|prefix|where|stream|watch|start|all
	@$(RUN) -m bench $(ROW)

fuzz: $(STAMP) ## N=20000 statements and wire messages from the grammar, mutated; SEED= repeats a run
	@$(RUN) -m tests.fuzz $(N) $(if $(SEED),--seed $(SEED))

soak: $(STAMP) ## SECONDS=1800: the long forms of the proofs in turn, seeds printed; SEED= repeats their choices, ONLY= names one
	@$(RUN) -m tools.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

mutants: $(STAMP) ## plant every fault of tests/engine/mutants.py in the store and see whether the suites catch it
	@$(RUN) -m tests.engine.mutants

soak-kill: $(STAMP) ## ROUNDS=500: kill -9 under four writers, and look for lost or invented writes
	@$(RUN) tools/soak_kill.py --rounds $(ROUNDS)

examples: $(STAMP) ## write examples/unicode.kvql and examples/manifest.kvql
	@$(RUN) examples/make_unicode.py examples/unicode.kvql
	@$(RUN) examples/make_manifest.py examples/manifest.kvql

lock: $(STAMP) ## write requirements/dev.txt anew from pyproject.toml
	@$(VENV)/bin/uv pip compile pyproject.toml --extra dev --extra bench --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links --upgrade --quiet -o $(LOCK)

dist: $(STAMP) ## wheel and sdist in dist/
	@$(RUN) -m build --no-isolation --outdir dist . >/dev/null && ls dist

clean: ## remove what can be made again; ./data and ./certs stay
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
