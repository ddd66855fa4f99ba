PYTHON ?= $(shell command -v python3.11 || command -v python3)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

tables: .venv/installed  ## all tables of the default study: snakemake --profile local all_tables
	snakemake --profile local all_tables

replicate: tables  ## the same, then every cell beside the published report's
	python workflow replicate

test: .venv/installed  ## all tests: the quick ones, and the smoke study through DVC and on a Slurm (apt-get install slurm-wlm munge chromium)
	pytest -n 2 --dist loadfile --no-loadscope-reorder

test-quick: .venv/installed  ## linters, unit tests and the smoke study from end to end
	pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not dvc and not slurm and not long"

.venv/installed: requirements.lock
	$(PYTHON) -m venv .venv && pip install --quiet --disable-pip-version-check --require-hashes --requirement $< && touch $@

lock:  ## requirements.lock after an edit of requirements.txt; what is locked stays as it is where it can
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" requirements.txt --output-file requirements.lock

help:  ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

.PHONY: tables replicate test test-quick lock help
