# `make figures` and `make test` set up everything on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
CORES ?= all
GPUS ?= 4
# Programs start as modules: scripts in .venv/bin hold their own path, which shells and the kernel read in ways of their own.
RUN = .venv/bin/python -m

ifneq (,$(findstring $$,$(CURDIR)))
$(error a $$ cannot be in the path of this folder, $(CURDIR): scripts in .venv/bin would run what follows it; rename or move it)
endif

TESTS ?= not suite and not nightly

.PHONY: figures galaxies test quick nightly gpu-check lint environment report clean-environment help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

figures: environment  ## run the comparison that config/config.yaml names, and draw its tables and figures
	$(RUN) snakemake --cores $(CORES) --resources gpu=$(GPUS)

galaxies: environment  ## the study of published score networks of galaxies (docs/results.md); an hour on 2 cores
	$(RUN) snakemake galaxies --cores $(CORES) --resources gpu=$(GPUS)

# each test goes to the next free core, those of one file of units together; tests/conftest.py says which are units
PYTEST = OMP_NUM_THREADS=1 $(RUN) pytest -n logical --maxprocesses 8 --dist loadgroup --no-loadscope-reorder

quick: .venv/test.stamp  ## run the units alone: nothing that starts a process or takes seconds
	$(PYTEST) -m unit

test: .venv/test.stamp  ## run the tests
	$(PYTEST) -m '$(TESTS)'

nightly: .venv/test.stamp  ## run what takes long: the default config through SLURM, twenty kills, full-size networks, k-diffusion itself
	$(RUN) pytest -m nightly -s

gpu-check: .venv/test.stamp  ## on a GPU: its tests, and full-size networks with random weights, in 8 minutes at most
	.venv/bin/python benchmarks/gpu_check.py

report: environment  ## Snakemake's own report, results/snakemake-report.zip, after `make figures`
	$(RUN) snakemake --report results/snakemake-report.zip

lint: .venv/dev.stamp  ## formatter, linter and type checks
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile rules
	$(RUN) snakemake --lint
	$(RUN) tests.shell_lint

environment: .venv/workflow.stamp  ## .venv with this package and the pinned packages that `make figures` needs

# what else an extra brings, so that it is not asked for again
WITH_dev = test workflow
WITH_test = workflow

.venv/%.stamp: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(RUN) pip install --no-compile --constraint constraints.txt --editable '.[$*]'
	$(RUN) compileall -qq -j 0 .venv/lib || true # on all cores; pip uses one. Some packages have files for other Pythons
	touch $@ $(foreach extra,$(WITH_$*),.venv/$(extra).stamp)

clean-environment:  ## remove .venv
	rm -rf .venv
