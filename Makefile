# skin_lesion_mlops: `make` lists the targets.
SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench soak format lint export lambdas infra-check sandbox clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.demo: setup.py settings.ini constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about two minutes, once)"
	$(PIP) install --no-compile -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: setup.py settings.ini constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) with everything the tests need (some minutes, once)"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the whole pipeline on generated lesions, from images to a registered model
	@$(BIN)/skin-lesion demo

# Two processes at once, each with one thread: what a machine of two cores can use.
test test-all: export OMP_NUM_THREADS := 1
test test-all: unexport MLFLOW_TRACKING_URI  # nobody wants the runs of a test among theirs
NOTEBOOKS = $(BIN)/nbdev_test --n_workers 2
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

test: $(VENV)/.dev  ## every notebook and the tests, without the long end-to-end runs
	$(NOTEBOOKS)
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.dev  ## everything, the long end-to-end runs too
	$(NOTEBOOKS)
	$(PYTEST) $(PYTEST_ARGS)

bench: $(VENV)/.dev  ## measure serving against its peers: PEERS=their python, TRAINED=bundles (see the notebook)
	mkdir -p build
	$(BIN)/papermill --cwd nbs/benchmarks nbs/benchmarks/serving.ipynb build/serving.ipynb -p peers '$(PEERS)' -p trained '$(TRAINED)'

soak: $(VENV)/.dev  ## fifty thousand mixed requests to the service: none lost, flat memory
	$(BIN)/python -m pytest tests/test_serve_hostile.py -m slow -s

export: $(VENV)/.dev  ## notebooks -> library, README and clean notebooks
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python -m nbconvert --to markdown --output-dir . --output README nbs/index.ipynb
	sed -i 's#](images/#](nbs/images/#' README.md

format: $(VENV)/.dev  ## black, notebooks included (it would write `# |` for nbdev's `#|`)
	$(BIN)/black --quiet nbs tests lambdas setup.py
	sed -i 's/^\( *"\)# | /\1#| /' nbs/*.ipynb nbs/*/*.ipynb

lint: $(VENV)/.dev  ## black, flake8, mypy, bandit
	$(BIN)/black --quiet --check tests lambdas setup.py
	$(BIN)/flake8
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive skin_lesion_mlops lambdas --severity-level medium

lambdas:  ## the functions' zips, the same bytes every time
	$(PYTHON) lambdas/build.py

infra-check: $(VENV)/.dev  ## Terraform: format, validate, tests with a mocked provider, checkov, contracts
	PATH="$(CURDIR)/$(BIN):$$PATH" infra/check.sh

sandbox: $(VENV)/.dev  ## the whole AWS side on this machine: Terraform, POST /retrain, the endpoint, and away again
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.sandbox

clean:  ## remove what the targets above made
	rm -rf $(VENV) .skin-lesion build _docs _proc .pytest_cache .mypy_cache
