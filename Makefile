# One environment, .venv, is made on first need; everything else runs in it.
PYTHON ?= python3
BIN := .venv/bin
SCALE ?= quick
EXPERIMENTS ?= sigmoid_gradients vgg_curves lr_sweep affine_ablation mean_field
export UV_PYTHON_DOWNLOADS := never

ENGINES := .venv-slurm/installed .venv-ray/installed
SLURM := munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmdbd mariadb-server

.PHONY: help quickstart test test-engines lint format redraw report check clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: .venv/installed  ## install, run EXPERIMENTS (empty: all) at SCALE=quick, draw them, print the claims
	$(BIN)/bnrepro reproduce $(EXPERIMENTS) scale=$(SCALE)

test: .venv/installed lint  ## install, lint and run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-engines: $(ENGINES)  ## run the tests on a real Slurm and a real Ray (Slurm's need root, and Debian's packages)
	if [ "$$(id -u)" = 0 ] && ! (command -v slurmctld && command -v slurmdbd && command -v mariadbd) >/dev/null; then \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends $(SLURM); fi
	.venv-slurm/bin/python -m pytest -m engines tests/engines/test_slurm.py
	.venv-ray/bin/python -m pytest -m engines tests/engines/test_ray.py

lint: .venv/installed  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

redraw: .venv/installed  ## redraw the committed figures and the README's gallery from their CSV
	$(BIN)/bnrepro draw --committed

report: .venv/installed  ## put the committed figures and verdicts on one page, outputs/committed/report.html
	$(BIN)/bnrepro report --committed

check: .venv/installed  ## compare the committed figures and verdicts with what their CSV gives
	$(BIN)/bnrepro check

clean:  ## remove the environment and what was run
	rm -rf .venv .venv-slurm .venv-ray outputs

# uv installs the same pinned set several times faster than pip; without it pip does the work.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv || true
	if [ -x $(BIN)/uv ]; then $(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]' -c constraints.txt; \
	else $(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt; fi
	touch $@

# Each engine has an environment of its own, as its pins differ: Ray's boto3 cannot live with those of constraints.txt.
.venv-slurm/installed: CONSTRAINTS := -c constraints.txt -c constraints-slurm.txt
.venv-ray/installed: CONSTRAINTS := -c constraints-ray.txt
$(ENGINES): .venv-%/installed: pyproject.toml constraints.txt constraints-slurm.txt constraints-ray.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet uv || true
	if [ -x .venv-$*/bin/uv ]; then \
	.venv-$*/bin/uv pip install --quiet --python .venv-$*/bin/python -e '.[dev,$*]' $(CONSTRAINTS); \
	else .venv-$*/bin/python -m pip install --quiet -e '.[dev,$*]' $(CONSTRAINTS); fi
	touch $@
