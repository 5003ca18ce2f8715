# Needs nothing but make and a Python 3.11 or newer: `make demo`, `make test`. `make help` lists the rest.
# PYTHON=/path/to/python chooses the interpreter of a new .venv; VENV=folder keeps several of them apart.
# DEMO is what python is given: a path, or `-m module`.

VENV ?= .venv
PYTHON ?= $(shell sh .ci/find-python 3.13 3.12 3.11 3.14)
PYTEST_ARGS ?= -n auto
DEMO ?= examples/demo.py
DEMO_ARGS ?=
BENCH ?= benchmarks
CHAOS_ARGS ?=
PORT ?= 8000

bin := $(VENV)/bin
comma := ,
# uv is several times faster; pip does it where uv is not to be had, or knows nothing of the index that pip is told of.
install = $(bin)/uv pip install --quiet --python $(bin)/python $(1) 2>/dev/null || $(bin)/python -m pip install -qq $(1)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types docs serve reference links bench chaos ci clean
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.demo  ## watch projections fail, park, heal and drain
	$(bin)/python $(DEMO) $(DEMO_ARGS)

test: $(VENV)/.test  ## the whole suite; PYTEST_ARGS='-k parking -x' for a part
	$(bin)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test $(VENV)/.lint  ## ruff, mypy, pyright and the direction of imports
	bash .ci/lint $(bin)

format: $(VENV)/.lint  ## let ruff put the files in order
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

docs: $(VENV)/.test $(VENV)/.docs  ## the documentation site, into site/, strictly; it needs no network
	$(bin)/python -m tests.site stage
	$(bin)/zensical build --clean --strict
	$(bin)/python -m tests.site check

serve: docs  ## the same at http://localhost:8000; PORT=8001 elsewhere
	$(bin)/python -m http.server --bind 127.0.0.1 --directory site $(PORT)

reference: $(VENV)/.test  ## write docs/reference anew, from docstrings, routes and tables
	$(bin)/python -m tests.site reference

links: $(VENV)/.test  ## ask other sites whether the pages that ours link to still answer
	$(bin)/python -m tests.site links

bench: $(VENV)/.test $(VENV)/.bench  ## costs as ratios, in one run
	$(bin)/python -m $(BENCH)

chaos: $(VENV)/.test  ## a minute of faults under an oracle; CHAOS_ARGS='--database sqlite --seconds 600 --seed 2'
	$(bin)/python -m tests.chaos $(CHAOS_ARGS)

ci:  ## everything that must be green
	bash .ci/run

clean:  ## remove .venv and what the tools left behind
	rm -rf $(VENV) .venv-* build dist site .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written after its install: the second run starts at once, a changed pyproject.toml installs again.
$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or run: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install -qq --upgrade 'pip>=25.1'
	$(bin)/python -m pip install -qq uv || echo "uv could not be installed; pip does without it"
	@touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml
	$(call install,--editable '.[binary$(comma)aiosqlite$(comma)demo]')
	@touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml
	$(call install,--editable '.[test$(comma)demo]' --group test --group build)
	@touch $@

$(VENV)/.lint: $(VENV)/.venv pyproject.toml
	$(call install,--group lint)
	@touch $@

$(VENV)/.docs: $(VENV)/.venv pyproject.toml
	$(call install,--group docs)
	@touch $@

$(VENV)/.release: $(VENV)/.venv pyproject.toml
	$(call install,--group release)
	@touch $@

$(VENV)/.bench: $(VENV)/.venv pyproject.toml
	$(call install,--group bench)
	@touch $@
