# mexcflow: `make` shows what there is.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
SYMBOL ?= BTC_USDT
DEMO_SECONDS ?= 20
DEMO_DATA := demo-data
DEMO_EXCHANGES := mexc binance okx
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
	@echo "mexcflow: record crypto market data into ClickHouse"
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

demo: $(VENV)/installed ## Record three simulated exchanges side by side for 20 s, verify, and ask one query
	@rm -rf $(DEMO_DATA) && mkdir -p $(DEMO_DATA)
	@mexcflow=$(BIN)/mexcflow; export MEXCFLOW_DATABASE=$(DEMO_DATA)/database; \
	simulators=; trap 'kill $$simulators 2>/dev/null' EXIT; \
	for exchange in $(DEMO_EXCHANGES); do \
		$$mexcflow simulate --exchange $$exchange --port 0 --log-level warning > $(DEMO_DATA)/$$exchange.url & \
		simulators="$$simulators $$!"; \
	done; \
	for exchange in $(DEMO_EXCHANGES); do \
		for _ in $$(seq 40); do grep -q listening $(DEMO_DATA)/$$exchange.url && break; sleep 0.5; done; \
	done; \
	set -e; \
	record() { \
		url=$$(sed -n 's/^listening on //p' $(DEMO_DATA)/$$1.url); \
		echo "== mexcflow run --exchange $$1 --symbol $$2, $(DEMO_SECONDS) s against $$url"; \
		$$mexcflow run --exchange $$1 --symbol $$2 --endpoint $$url --duration $(DEMO_SECONDS) \
			--log-level warning > $(DEMO_DATA)/$$1.txt & \
		recordings="$$recordings $$!"; \
	}; \
	recordings=; record mexc BTC_USDT; record binance BTCUSDT; record okx BTC-USDT-SWAP; \
	for recording in $$recordings; do wait $$recording; done; \
	echo; echo "== what mexc's recording said at its end"; tail -n 14 $(DEMO_DATA)/mexc.txt; \
	echo; echo "== mexcflow verify"; $$mexcflow verify; \
	echo; echo "== mexcflow sql: trades of all exchanges, in base units"; \
	$$mexcflow sql "SELECT exchange, symbol, count() AS trades, argMax(price, event_time) AS last_price, \
		sum(base_quantity) AS volume, sumIf(base_quantity, side = 'buy') AS bought \
		FROM market_data.trades_all GROUP BY ALL ORDER BY exchange" --format PrettyCompactMonoBlock; \
	echo; echo "== mexcflow sql: the best bid and ask of each, second by second"; \
	$$mexcflow sql "SELECT toStartOfSecond(event_time) AS second, exchange, argMax(best_bid, event_time) AS bid, \
		argMax(best_ask, event_time) AS ask, argMax(spread, event_time) AS spread \
		FROM market_data.books_top GROUP BY ALL ORDER BY second DESC, exchange LIMIT 9" \
		--format PrettyCompactMonoBlock

test: $(VENV)/installed-dev ## Run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

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
