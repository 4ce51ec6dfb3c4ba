"""Setup: what it creates, finds, replaces, drops, and what it refuses to touch."""

import re
import subprocess
import sys

import orjson
import pytest

from mexcflow.config import Instance, shipped
from mexcflow.errors import Misuse, SchemaMismatch, StatementRefused
from mexcflow.ops.setup import setup
from mexcflow.store import check_table, ensure_table, open_store
from mexcflow.store.forms import COLUMNS, existing_tables
from mexcflow.store.schema import apply, drop_system_logs
from mexcflow.store.statements import needed_forms
from tests.endpoints import either
from tests.http_front import HttpFront

TABLES = ("trades", "books", "tickers", "candles", "dead_letters", "contracts")
MARKET = ["database market_data", "table market_data.coverage", "view market_data.coverage_now",
          *(f"table market_data.{name}" for name in TABLES)]  # fmt: skip
TYPED = ["table market_data.btc_string_rows"]
TYPED += [f"view mexc_data.btc_typed_{name}" for name in ("trades", "tickers", "tops")]
SPAN = [*(f"table market_data.string_{name}" for name in ("trades", "tickers", "tops")),
        "view market_data.contract_sizes", "view market_data.trades_all", "view market_data.books_top",
        "view market_data.tickers_all", "view market_data.candles_from_trades"]  # fmt: skip
STREAM = ("mexc", "BTC_USDT")
BTC = ["database mexc_data", "table mexc_data.btc", "view mexc_data.btc_ticker", "view mexc_data.btc_deals",
       "view mexc_data.btc_depth", "view mexc_data.btc_candles_1m", *MARKET, *TYPED,
       *SPAN]  # fmt: skip
INSTANCES = [Instance(symbol="BTC_USDT", table="btc", source="btc.toml")]
COMMAND = "from mexcflow.cli.main import main; main()"


@pytest.fixture
def embedded(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        yield store


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


def names(store):
    return [name for (name,) in store.query("SELECT name FROM system.tables WHERE database = 'mexc_data'")]


def test_setup_creates_and_a_second_time_finds_everything(store):
    first = setup(store, INSTANCES)
    assert first.created == BTC
    assert first.found == first.replaced == first.dropped == first.refused == []
    second = setup(store, INSTANCES)
    assert second.found == BTC
    assert second.created == second.replaced == []


def test_the_table_is_the_one_that_was_promised(store):
    ensure_table(store, "btc")
    assert store.query(
        "SELECT engine_full, create_table_query FROM system.tables "
        "WHERE database = 'mexc_data' AND name = 'btc'"
    ) == [
        (
            "StripeLog",
            "CREATE TABLE mexc_data.btc (`ts` DateTime64(3), `mt` Enum8('t' = 1, 'd' = 2, 'dp' = 3, "
            "'dl' = 4), `m` String) ENGINE = StripeLog",
        )
    ]
    assert existing_tables(store)["btc"].columns == COLUMNS
    assert store.query("SELECT engine FROM system.databases WHERE name = 'mexc_data'") == [("Atomic",)]


def test_setup_on_a_server_runs_the_same_sql(embedded):
    with HttpFront(embedded) as front, open_store(f"http://127.0.0.1:{front.port}") as server:
        assert setup(server, INSTANCES).created == BTC
        assert setup(server, INSTANCES).found == BTC
    assert setup(embedded, INSTANCES).found == BTC


def test_each_shipped_file_can_be_pasted_as_it_is(embedded):
    for path in sorted(shipped("sql").glob("*.sql")):
        for statement in re.split(r";\n", path.read_text()):
            if statement.strip():
                embedded.command(statement)
    assert apply(embedded, ["btc"], {"btc": STREAM}).found == BTC


def test_a_view_changed_by_hand_is_replaced_and_only_that_one(store):
    ensure_table(store, "btc", STREAM)
    store.command("CREATE OR REPLACE VIEW mexc_data.btc_deals AS SELECT 1 AS one")
    summary = ensure_table(store, "btc", STREAM)
    assert summary.replaced == ["view mexc_data.btc_deals"]
    assert summary.created == []
    assert len(summary.found) == len(BTC) - 1
    assert store.query("SELECT * FROM mexc_data.btc_deals") == []
    assert ensure_table(store, "btc", STREAM).found == BTC


def test_a_dropped_view_is_made_again(store):
    ensure_table(store, "btc")
    store.command("DROP VIEW mexc_data.btc_depth")
    assert ensure_table(store, "btc").created == ["view mexc_data.btc_depth"]


@pytest.mark.parametrize(
    "table",
    [
        "(ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4), m String) ENGINE = Memory",
        "(ts DateTime64(6), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4), m String) ENGINE = StripeLog",
        "(ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3), m String) ENGINE = StripeLog",
        "(ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4)) ENGINE = StripeLog",
    ],
)
def test_another_form_of_table_is_refused_before_anything_is_created(store, table):
    store.command("CREATE DATABASE mexc_data ENGINE = Atomic")
    store.command(f"CREATE TABLE mexc_data.eth {table}")
    with pytest.raises(SchemaMismatch) as caught:
        apply(store, ["btc", "eth"])
    assert "mexc_data.eth exists and is" in caught.value.what
    assert "needed is StripeLog (ts DateTime64(3)" in caught.value.what
    assert "--table" in caught.value.hint
    assert names(store) == ["eth"]
    with pytest.raises(SchemaMismatch):
        check_table(store, "eth")


def test_a_table_with_the_name_of_a_view_is_refused(store):
    store.command("CREATE DATABASE mexc_data ENGINE = Atomic")
    store.command("CREATE TABLE mexc_data.btc_deals (x Int8) ENGINE = MergeTree ORDER BY x")
    with pytest.raises(SchemaMismatch, match="needed is a view"):
        ensure_table(store, "btc")
    assert names(store) == ["btc_deals"]


def test_without_instances_what_concerns_no_symbol_is_made(store):
    assert setup(store, []).created == ["database mexc_data", *MARKET, *SPAN]
    assert setup(store, []).found == ["database mexc_data", *MARKET, *SPAN]
    assert names(store) == []


def test_the_table_of_coverage_is_safe_on_the_disk_and_takes_an_insert_once(store):
    ensure_table(store, "btc")
    ((full,),) = store.query("SELECT engine_full FROM system.tables WHERE name = 'coverage'")
    assert full.startswith("ReplacingMergeTree(updated) ORDER BY (exchange, symbol, channel, `from`, state)")
    for setting in ("non_replicated_deduplication_window = 10000", "fsync_after_insert = 1",
                    "fsync_part_directory = 1", "max_suspicious_broken_parts = 1000000"):  # fmt: skip
        assert setting in full
    there = existing_tables(store, "market_data")["coverage"]
    assert there._replace(settings="") == needed_forms()["coverage"]._replace(settings="")


@pytest.mark.parametrize(
    "change",
    [
        ("updated DateTime64(3)", "updated DateTime64(6)"),
        ("    reason String,\n", ""),
        ("'gap' = 3", "'gap' = 3, 'more' = 4"),
        ("ORDER BY (exchange, symbol, channel,", "ORDER BY (symbol, exchange, channel,"),
        ("ReplacingMergeTree(updated)", "ReplacingMergeTree"),
        ("ReplacingMergeTree(updated)", "MergeTree"),
    ],
    ids=lambda change: change[1] or "column missing",
)
def test_another_form_of_coverage_is_refused_before_anything_is_created_and_never_altered(store, change):
    text = (shipped("sql") / "040_coverage.sql").read_text()
    assert change[0] in text
    for statement in text.replace(*change).split(";\n")[:2]:
        store.command(statement)
    before = store.query("SELECT create_table_query FROM system.tables WHERE name = 'coverage'")
    for attempt in (
        lambda: setup(store, INSTANCES),
        lambda: check_table(store, "btc"),
        lambda: apply(store, []),
    ):
        with pytest.raises(SchemaMismatch, match=r"market_data.coverage exists and is .*MergeTree") as caught:
            attempt()
        assert "needed is ReplacingMergeTree(updated) ORDER BY (exchange" in caught.value.what
        assert caught.value.hint.startswith("Rename it: RENAME TABLE market_data.coverage TO")
    assert store.query("SELECT name FROM system.databases WHERE name = 'mexc_data'") == []
    assert store.query("SELECT create_table_query FROM system.tables WHERE name = 'coverage'") == before


def test_another_setting_of_coverage_is_its_owners_business(store):
    ensure_table(store, "btc", STREAM)
    store.command("ALTER TABLE market_data.coverage MODIFY SETTING max_suspicious_broken_parts = 5")
    assert ensure_table(store, "btc", STREAM).found == BTC


def test_a_view_of_coverage_changed_by_hand_is_replaced(store):
    ensure_table(store, "btc")
    store.command("CREATE OR REPLACE VIEW market_data.coverage_now AS SELECT 1 AS one")
    assert ensure_table(store, "btc").replaced == ["view market_data.coverage_now"]


def test_check_table_changes_nothing(store):
    check_table(store, "btc")
    assert store.query("SELECT name FROM system.databases WHERE name = 'mexc_data'") == []
    with pytest.raises(Misuse, match="reserved for a view"):
        check_table(store, "x_deals")
    with pytest.raises(Misuse, match="reserved for a view"):
        check_table(store, "x_typed_trades")
    with pytest.raises(Misuse, match="cannot be a table's name"):
        ensure_table(store, "x`; DROP TABLE y")


def test_every_symbol_has_its_own_table_and_views(store):
    summary = apply(store, ["btc", "1000pepe", "btc_usd"])
    assert len(summary.created) == 1 + 3 * 6 + len(MARKET + SPAN)
    store.insert_rows("1000pepe", [(1700000000000, "d", "1|2|2")])
    assert store.query("SELECT price, quantity, side FROM mexc_data.`1000pepe_deals`") == [(1.0, 2.0, "sell")]
    assert store.query("SELECT count() FROM mexc_data.btc_deals") == [(0,)]


def test_two_instances_may_not_share_a_table(store):
    twice = [*INSTANCES, Instance(symbol="BTC_USDC", table="btc", source="other.toml")]
    with pytest.raises(Misuse, match=r"table 'btc' is that of BTC_USD. \((btc|other)\.toml\)"):
        setup(store, twice)


def test_system_logs_are_dropped_and_nothing_else(store):
    columns = "(x Int8) ENGINE = MergeTree ORDER BY x"
    for name in ("query_log", "trace_log_0", "metric_log_12", "blog", "log_of_mine", "query_log_old"):
        store.command(f"CREATE TABLE system.{name} {columns}")
    store.command("CREATE TABLE system.text_log (x Int8) ENGINE = Memory")
    summary = setup(store, INSTANCES)
    assert summary.dropped == [
        "table system.metric_log_12",
        "table system.query_log",
        "table system.trace_log_0",
    ]
    left = {name for (name,) in store.query("SELECT name FROM system.tables WHERE database = 'system'")}
    assert {"blog", "log_of_mine", "query_log_old", "text_log"} <= left
    assert not left & {"query_log", "trace_log_0", "metric_log_12"}
    assert setup(store, INSTANCES).dropped == []


def test_a_log_that_may_not_be_dropped_is_told_and_stops_nothing(store, monkeypatch):
    store.command("CREATE TABLE system.query_log (x Int8) ENGINE = MergeTree ORDER BY x")

    def refuse(sql):
        raise StatementRefused("Code: 497. DB::Exception: Not enough privileges. (ACCESS_DENIED)")

    monkeypatch.setattr(store, "command", refuse)
    summary = drop_system_logs(store)
    assert summary.dropped == []
    assert "system.query_log" in summary.refused[0]
    assert "ACCESS_DENIED" in summary.refused[0]


def test_the_command_prints_its_summary_and_json(tmp_path):
    config = tmp_path / "instances"
    config.mkdir()
    (config / "btc.toml").write_text('symbol = "BTC_USDT"\n')
    data = str(tmp_path / "data")
    arguments = [sys.executable, "-c", COMMAND, "setup", "--database", data, "--config", str(config)]
    first = subprocess.run(arguments, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert re.search(r"created +table mexc_data.btc\b", first.stdout)
    second = subprocess.run([*arguments, "--json"], capture_output=True, text=True)
    assert orjson.loads(second.stdout)[data]["found"] == BTC
    (config / "eth.toml").write_text('symbol = "ETH_USDT"\ntable = "btc_deals"\n')
    third = subprocess.run(arguments, capture_output=True, text=True)
    assert third.returncode == 2
    assert third.stderr.count("\n") == 1
    assert "reserved for a view" in third.stderr
