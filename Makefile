# skin_lesion_mlops: `make` lists the targets.
SHELL := bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Errors only: pip's own warnings would hide what a target says.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# The pins want Python 3.11; an older one gets the newest versions that suit it.
PINS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')
# An installation that was interrupted is taken up where it was left, also when it had not come to pip.
MAKE_VENV = $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
# The pip that Python 3.11 brings takes three times as long to choose versions.
INSTALL = $(PIP) install $(PINS) --upgrade pip && $(PIP) install --no-compile $(PINS)
# What is said where pip gives up, below its own words.
STOPPED = { echo "the installation stopped. On a full disk: make room (2 GB), or VENV=DIR puts it elsewhere. Behind a proxy: HTTPS_PROXY."; \
  echo "  The same command goes on."; exit 1; }
READABLE = $(BIN)/python -m tests.notebooks
export PYTHONUNBUFFERED := 1
# The installation compiles nothing; a module is compiled where it is first imported, and kept, also on a machine that is
# set not to keep bytecode: there every process would compile torch and pandas anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-all bench soak format lint export docs release lambdas infra-check sandbox clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.demo: setup.py settings.ini constraints.txt
	@$(MAKE_VENV)
	@echo "installing into $(VENV), once: 1 to 2 GB on disk (torch, pandas, Jupyter's kernel, ONNX); on Linux PyPI's torch brings CUDA, 4 to"
	@echo "  5 GB more, which PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids."
	@echo "  Nothing is shown for some minutes; interrupted, it goes on."
	@{ $(INSTALL) -e '.[train]'; } || $(STOPPED)
	@touch $@

$(VENV)/.dev: setup.py settings.ini constraints.txt
	@$(MAKE_VENV)
	@echo "installing into $(VENV) with everything the tests need, once: 3 GB on disk, on Linux 4 to 5 GB more for CUDA"
	@{ $(INSTALL) -e '.[dev]'; } || $(STOPPED)
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the whole pipeline on generated lesions, from images to a registered model
	@$(BIN)/skin-lesion demo

dev: $(VENV)/.dev  ## for work in a team: hooks before a commit and after a merge; git compares and merges notebooks by cell
	$(BIN)/pre-commit install --hook-type pre-commit --hook-type post-merge
	git config diff.jupyternotebook.command "$(CURDIR)/$(BIN)/git-nbdiffdriver diff"
	git config merge.jupyternotebook.name "notebooks by cell"
	git config merge.jupyternotebook.driver "$(CURDIR)/$(BIN)/git-nbmergedriver merge %O %A %B %L %P"

# Two processes of tests, each with one thread, and a third that goes through the notebooks while those wait for Terraform,
# for a deadline or for each other: what a machine of two cores can use. What the notebooks say is shown where one fails.
test test-all: export OMP_NUM_THREADS := 1
test test-all: export MLFLOW_TRACKING_URI :=
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10
define TEST
@$(READABLE) && mkdir -p build
@nice -n 5 $(READABLE) run >build/notebooks.txt 2>&1 & notebooks=$$!; trap 'kill $$notebooks 2>/dev/null' EXIT; \
  $(PYTEST) $(1) $(PYTEST_ARGS); tests=$$?; wait $$notebooks || { cat build/notebooks.txt; exit 1; }; exit $$tests
endef

test: $(VENV)/.dev  ## every notebook and the tests, without the long end-to-end runs
	$(call TEST,-m "not slow")

test-all: $(VENV)/.dev  ## everything, the long end-to-end runs too
	$(call TEST)

bench: $(VENV)/.dev  ## measure serving against its peers: PEERS=their python, TRAINED=bundles (see the notebook)
	mkdir -p build
	$(BIN)/papermill --cwd nbs/benchmarks nbs/benchmarks/serving.ipynb build/serving.ipynb -p peers '$(PEERS)' -p trained '$(TRAINED)'

soak: $(VENV)/.dev  ## fifty thousand mixed requests to the service: none lost, flat memory
	$(BIN)/python -m pytest tests/test_serve_hostile.py -m slow -s

export: $(VENV)/.dev  ## notebooks -> library, README and clean notebooks
	@$(READABLE)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python -m nbconvert --to markdown --output-dir . --output README nbs/index.ipynb
	sed -i.bak 's#](images/#](nbs/images/#' README.md && rm README.md.bak

format: $(VENV)/.dev  ## black, notebooks included (it would write `# |` for nbdev's `#|`)
	$(BIN)/black --quiet nbs tests lambdas setup.py
	sed -i.bak 's/^\( *"\)# | /\1#| /' nbs/*.ipynb nbs/*/*.ipynb && rm nbs/*.bak nbs/*/*.bak

lint: $(VENV)/.dev  ## black, flake8, mypy, bandit
	@echo "$(BIN)/mypy, and meanwhile black, flake8, bandit"
	@$(BIN)/mypy & types=$$!; $(BIN)/black --quiet --check tests lambdas setup.py && $(BIN)/flake8 && \
	  $(BIN)/bandit --quiet --recursive skin_lesion_mlops lambdas --severity-level medium; rest=$$?; wait $$types && exit $$rest

$(VENV)/.docs $(VENV)/.release: $(VENV)/.%: setup.py settings.ini constraints.txt
	@$(MAKE_VENV)
	@$(PIP) install $(PINS) -e '.[$*]' || $(STOPPED)
	@touch $@

docs: $(VENV)/.docs  ## the documentation, to be read without a network
	$(BIN)/python nbs/guides/build.py build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file build/mkdocs.yml
	@echo build/site/index.html

release: $(VENV)/.release  ## wheel and sdist in dist/, checked by twine and in an empty environment
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m tests.release dist/*.whl

lambdas:  ## the functions' zips, the same bytes every time
	$(PYTHON) lambdas/build.py

infra-check: $(VENV)/.dev  ## Terraform: format, validate, tests with a mocked provider, checkov, contracts
	PATH="$(CURDIR)/$(BIN):$$PATH" infra/check.sh

sandbox: $(VENV)/.dev  ## the whole AWS side on this machine: Terraform, POST /retrain, the endpoint, and away again
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.sandbox

clean:  ## remove what the targets above made
	rm -rf $(VENV) .skin-lesion build dist _docs _proc .pytest_cache .mypy_cache
