# `make` alone lists the targets.  CI uses the same words.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-system test-dates seed-tests histories priced-orders fuzz check bench real-servers server-pages server-cases on-call chaos soak image lock sbom clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp per extra: pip runs again only when what is to be installed has changed.
$(VENV)/.made: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Darkroom needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade --constraint constraints.txt pip setuptools
	@touch $@

$(VENV)/.installed: $(VENV)/.made setup.py constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[studio,heic]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[studio,heic,postgres,test]'
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.test-installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[studio,heic,postgres,test,dev]'
	@touch $@

$(VENV)/.bench-installed: $(VENV)/.test-installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[studio,heic,postgres,test,bench]'
	@touch $@

$(VENV)/.release-installed: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[studio,heic,release]'
	@touch $@

install: $(VENV)/.installed  ## Make .venv with everything `darkroom up` needs, and nothing else
	@echo "installed: $(BIN)/darkroom"

demo: $(VENV)/.installed  ## Start the whole system in a temporary folder, make the sample pictures, stop it again
	@$(BIN)/python -m supervisor.cli.demo

up: $(VENV)/.installed  ## Serve until Ctrl-C, data in ./var
	@$(BIN)/darkroom up

# The tests start some two hundred Python programs, and each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# Five at once on two cores: most tests wait for processes and clocks.  A file's tests share their servers.  In the order
# of the folders the files of whole houses, which take longest, are not the last.
AT_ONCE ?= -n 5 --dist loadfile --no-loadscope-reorder
AT_ONCE_SYSTEM ?= -n 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.test-installed  ## Run the test suite; all it needs comes from the package registry
	@$(BIN)/python -m pytest -p tests.support.system_tests $(AT_ONCE) -m "not system" $(ARGS)

test-system: $(VENV)/.test-installed  ## Run the tests that need a browser, Node or Prometheus from the system's packages
	@$(BIN)/python -m pytest -p tests.support.system_tests $(AT_ONCE_SYSTEM) -m system $(ARGS)

# The tests that name a time, or compare times of two clocks.
DATED := tests/store/schema/test_upgrade.py \
    tests/unit/types/test_task_params.py \
    tests/unit/security/test_tokens.py \
    tests/unit/security/test_links.py \
    tests/api/doors/test_wechat.py \
    tests/providers/test_http_answers.py \
    tests/store/test_sql_door.py::test_three_columns_are_enough \
    tests/store/test_sql_door.py::test_ids_are_ulids_made_by_the_database_alone_and_never_twice \
    tests/store/test_sql_door.py::test_no_column_but_the_writable_ones_can_be_given \
    tests/store/test_sql_door.py::test_an_upsert_changes_no_task \
    tests/store/test_sql_door.py::test_a_work_keeps_its_owner_and_its_task \
    tests/store/test_sql_door.py::test_run_after_is_normalised_with_its_offset \
    tests/store/test_sql_door.py::test_a_run_after_that_is_no_time_is_refused \
    tests/store/test_sql_door.py::test_a_task_waits_for_its_run_after_by_the_databases_clock \
    tests/api/test_web_auth.py::test_a_token_that_proves_nothing_is_401_and_never_the_demo_user \
    tests/store/test_idempotency.py::test_a_key_outlives_the_process_and_is_forgotten_after_a_day
YEAR_AHEAD_MONTH_BEHIND := +365d -30d

test-dates: $(VENV)/.test-installed  ## Run the tests that name a time a year ahead of today and a month behind it
	@for offset in $(YEAR_AHEAD_MONTH_BEHIND); do $(BIN)/python -m bench.moved_clock $$offset \
	    $(BIN)/python -m pytest -p tests.support.system_tests $(AT_ONCE) -m "not system" -q \
	    $(DATED) $(ARGS) || exit 1; done

seed-tests: $(VENV)/.test-installed  ## Run the customer's own five tests, each on a whole running system; four minutes
	@$(BIN)/python -m pytest -s tests/seed $(ARGS)

SEEDS ?= 1-5
SECONDS ?= 60
DATABASE ?= both

priced-orders: $(VENV)/.test-installed  ## Hold estimates, debits and refunds of ORDERS random orders (10000) on each database against a model
	@PRICED_ORDERS=$${ORDERS:-10000} $(BIN)/python -m pytest -q --no-header tests/store/money/test_prices.py $(ARGS)

histories: $(VENV)/.test-installed  ## Live random histories (SEEDS=1-5 SECONDS=60 DATABASE=both), judged by an independent model
	@$(BIN)/python -m tests.histories --seeds $(SEEDS) --seconds $(SECONDS) --database $(DATABASE) $(ARGS)

fuzz: $(VENV)/.test-installed  ## Send a real web random requests (SECONDS=60 DATABASE=both ARGS='--seed 7') with /healthz asked beside
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --database $(DATABASE) $(ARGS)

check: $(VENV)/.dev-installed  ## Check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@MYPYPATH=clients/python/src $(BIN)/mypy --python-version 3.10 -p darkroom_client

bench: $(VENV)/.bench-installed  ## Measure start latency, throughput and rescue; prints a table
	@$(BIN)/python -m bench $(ARGS)

real-servers: $(VENV)/.test-installed  ## Hold adapters and presets against real Gradio, LitServe, BentoML and LiteLLM from the registry
	@$(BIN)/python -m bench.real_servers $(ARGS)

server-pages: $(VENV)/.test-installed  ## Run the pages of docs/servers on real servers from the registry
	@$(BIN)/python -m bench.server_pages $(ARGS)

server-cases: $(VENV)/.test-installed  ## What user, operator and ledger see of real servers in each trouble; prints a table
	@$(BIN)/python -m bench.server_cases $(ARGS)

on-call: $(VENV)/.test-installed  ## Make twenty troubles in a running system; prints how soon each is told, in ten minutes
	@$(BIN)/python -m bench.on_call $(ARGS)

chaos: $(VENV)/.test-installed  ## Kill parts at random while tasks run, then check every promise
	@$(BIN)/python -m bench.chaos $(ARGS)

# `make lock` reads the registry for the hash of every file of every platform: it takes minutes.
soak: $(VENV)/.test-installed  ## A whole system at a steady rate for SOAK_SECONDS (2700): what grows that should not
	@$(BIN)/python -m bench soak

image:  ## Build the image with buildah on a base that debootstrap makes, and try it (needs root)
	@sh deploy/compose/build-with-buildah.sh

lock: $(VENV)/.release-installed  ## Write deploy/requirements.lock anew: what the image installs, with hashes
	@$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--extra studio --extra heic --extra postgres --extra s3 --extra otel --constraint constraints.txt \
		--output-file deploy/requirements.lock setup.py deploy/build-requirements.in

sbom: $(VENV)/.release-installed  ## Install the lock into an empty environment, hashes checked, and write sbom.cdx.json
	@rm -rf $(VENV)/sbom && $(PYTHON) -m venv $(VENV)/sbom
	@$(VENV)/sbom/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r deploy/requirements.lock
	@$(VENV)/sbom/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation .
	@$(BIN)/cyclonedx-py environment $(VENV)/sbom --output-reproducible --output-file sbom.cdx.json
	@echo "written: sbom.cdx.json"

clean:  ## Remove what the other targets made; keeps ./var, where your data is
	rm -rf $(VENV) build dist demo-output sbom.cdx.json *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
