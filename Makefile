# `make figures` and `make test` set up everything on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
CORES ?= all
GPUS ?= 4
BIN = .venv/bin

TESTS ?= not suite and not nightly

.PHONY: figures test quick nightly lint environment report clean-environment help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

figures: environment  ## run the comparison that config/config.yaml names, and draw its tables and figures
	$(BIN)/snakemake --cores $(CORES) --resources gpu=$(GPUS)

# each test goes to the next free core, those of one file of units together; tests/conftest.py says which are units
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup --no-loadscope-reorder

quick: .venv/test.stamp  ## run the units alone: nothing that starts a process or takes seconds
	$(PYTEST) -m unit

test: .venv/test.stamp  ## run the tests
	$(PYTEST) -m '$(TESTS)'

nightly: .venv/test.stamp  ## run what takes long: the default config through SLURM, twenty kills, full-size networks, k-diffusion itself
	$(BIN)/python -m pytest -m nightly -s

report: environment  ## Snakemake's own report, results/snakemake-report.zip, after `make figures`
	$(BIN)/snakemake --report results/snakemake-report.zip

lint: .venv/dev.stamp  ## formatter, linter and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

environment: .venv/workflow.stamp  ## .venv with this package and the pinned packages that `make figures` needs

# what else an extra brings, so that it is not asked for again
WITH_dev = test workflow
WITH_test = workflow

.venv/%.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-compile --constraint constraints.txt --editable '.[$*]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true # on all cores; pip uses one. Some packages have files for other Pythons
	touch $@ $(foreach extra,$(WITH_$*),.venv/$(extra).stamp)

clean-environment:  ## remove .venv
	rm -rf .venv
