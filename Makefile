# mexcflow: `make` shows what there is.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
SYMBOL ?= BTC_USDT
DEMO_SECONDS ?= 20
DEMO_DATA := demo-data
TRIALS ?= 500
TOGETHER ?= 200
SECONDS ?= 0
CUTS ?= 10
FAULT_SECONDS ?= 600
ARGS ?=
PROFILE ?= live

.DEFAULT_GOAL := help
.PHONY: help run demo test torture lint bench docker-build docker-run clean

help: ## Show this list
	@echo "mexcflow: record MEXC futures into ClickHouse"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24
	@echo
	@echo "SYMBOL=BTC_USDT chooses the symbol, ARGS='--proxy ...' adds options of mexcflow run."

# Two stamps: what recording needs, and what tests need besides. A changed pyproject.toml installs anew.
$(VENV)/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "mexcflow needs Python 3.11 or newer; give one with make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[embedded]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[embedded,dev]'
	@touch $@

run: $(VENV)/installed ## Record SYMBOL from MEXC into ./data until Ctrl-C
	@exec $(BIN)/mexcflow run --symbol $(SYMBOL) $(ARGS)

demo: $(VENV)/installed ## Record from a simulated MEXC for 20 s, verify, and show a few rows
	@rm -rf $(DEMO_DATA) && mkdir -p $(DEMO_DATA)
	@$(BIN)/mexcflow simulate --port 0 --log-level warning > $(DEMO_DATA)/simulator.txt & simulator=$$!; \
	trap 'kill $$simulator 2>/dev/null' EXIT; \
	for _ in 1 2 3 4 5 6 7 8 9 10; do grep -q listening $(DEMO_DATA)/simulator.txt && break; sleep 0.5; done; \
	url=$$(sed -n 's/^listening on //p' $(DEMO_DATA)/simulator.txt); \
	mexcflow=$(BIN)/mexcflow; export MEXCFLOW_DATABASE=$(DEMO_DATA)/database; \
	set -e; \
	echo "== mexcflow run --symbol $(SYMBOL), $(DEMO_SECONDS) s against $$url"; \
	$$mexcflow run --symbol $(SYMBOL) --endpoint $$url --duration $(DEMO_SECONDS) --stats-interval 5; \
	echo; echo "== mexcflow verify"; \
	$$mexcflow verify; \
	table=$$($$mexcflow sql "SELECT name FROM system.tables WHERE database = 'mexc_data' AND engine = 'StripeLog' LIMIT 1" --format TSV); \
	echo; echo "== mexcflow sql: the newest deals, the book, candles"; \
	$$mexcflow sql "SELECT * FROM $${table}_deals ORDER BY ts DESC LIMIT 5" --format PrettyCompactMonoBlock; \
	$$mexcflow sql "SELECT ts, best_bid, best_ask, spread, mid, length(bids) AS levels FROM $${table}_depth ORDER BY ts DESC LIMIT 5" --format PrettyCompactMonoBlock; \
	$$mexcflow sql "SELECT * FROM $${table}_candles_1m" --format PrettyCompactMonoBlock

test: $(VENV)/installed-dev ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

torture: $(VENV)/installed-dev ## TRIALS=500 kills, TOGETHER=200 of six processes on one folder, CUTS=10 power cuts (root), FAULT_SECONDS=600 of faults; tables must be exact
	@failed=0; \
	$(BIN)/python -m tests.kill.torture --trials $(TRIALS) --together $(TOGETHER) --seconds $(SECONDS) $(ARGS) || failed=1; \
	$(BIN)/python -m tests.disasters.torture --cuts $(CUTS) --fault-seconds $(FAULT_SECONDS) $(ARGS) || failed=1; \
	exit $$failed

lint: $(VENV)/installed-dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev ## Measure what a message costs, about four minutes
	$(BIN)/python benchmarks/ingest.py $(ARGS)

# What is missing, in a line and with what to do, and not as an error of docker's.
DAEMON = command -v docker >/dev/null || { echo "docker is not installed on this machine, or not in PATH"; exit 2; }; \
	docker info >/dev/null 2>&1 || { echo "docker's daemon does not answer: is it running, and may you use it? Try: docker info"; exit 2; }
COMPOSE = compose="docker compose"; $$compose version >/dev/null 2>&1 || compose=docker-compose; \
	$$compose version >/dev/null 2>&1 || { echo "docker has no compose: install its plugin docker-compose-plugin"; exit 2; }
DOTENV = test -f .env || { echo "there is no .env: cp .env.example .env, and choose a password in it"; exit 2; }

docker-build: ## Build the image of mexcflow; BASE_IMAGE and PIP_INDEX_URL may be in the environment
	@$(DAEMON)
	docker build $(foreach name,BASE_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_PROXY,\
		$(if $($(name)),--build-arg $(name))) --tag mexcflow $(ARGS) .

# One image for all services, built first: compose would build it for each of them.
docker-run: ## Start ClickHouse and record into it from MEXC; PROFILE=demo simulates MEXC
	@$(DAEMON); $(COMPOSE); $(DOTENV); set -e; \
	$$compose --profile live build setup; \
	$$compose --profile $(PROFILE) up --detach $(ARGS); \
	echo "it runs. What it says: $$compose --profile $(PROFILE) logs -f    To stop it: $$compose --profile $(PROFILE) stop"

clean: ## Remove the virtual environment, caches and the demo's data; ./data stays
	rm -rf $(VENV) $(DEMO_DATA) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
