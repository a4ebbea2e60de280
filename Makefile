# One environment, .venv, is made on first need; everything else runs in it.
PYTHON ?= python3
BIN := .venv/bin
SCALE ?= quick
export UV_PYTHON_DOWNLOADS := never

.PHONY: help quickstart test lint format redraw clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: .venv/installed  ## install, run all experiments at SCALE=quick, draw them, print the claims
	$(BIN)/bnrepro reproduce scale=$(SCALE)

test: .venv/installed lint  ## install, lint and run the tests
	$(BIN)/python -m pytest

lint: .venv/installed  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

redraw: .venv/installed  ## redraw the committed figures from their CSV
	$(BIN)/bnrepro draw --committed

clean:  ## remove the environment and what was run
	rm -rf .venv outputs

# uv installs the same pinned set several times faster than pip; without it pip does the work.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv || true
	if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]' -c constraints.txt; \
	else $(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt; fi
	touch $@
