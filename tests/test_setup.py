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
from mexcflow.store.schema import COLUMNS, apply, drop_system_logs, existing_tables
from tests.http_front import HttpFront

BTC = ["database mexc_data", "table mexc_data.btc", "view mexc_data.btc_ticker", "view mexc_data.btc_deals",
       "view mexc_data.btc_depth", "view mexc_data.btc_candles_1m"]  # fmt: skip
INSTANCES = [Instance(symbol="BTC_USDT", table="btc", source="btc.toml")]
COMMAND = "from mexcflow.cli.main import main; main()"


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        yield store


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


def test_setup_on_a_server_runs_the_same_sql(store):
    with HttpFront(store) as front, open_store(f"http://127.0.0.1:{front.port}") as server:
        assert setup(server, INSTANCES).created == BTC
        assert setup(server, INSTANCES).found == BTC
    assert setup(store, INSTANCES).found == BTC


def test_each_shipped_file_can_be_pasted_as_it_is(store):
    for path in sorted(shipped("sql").glob("*.sql")):
        for statement in re.split(r";\n", path.read_text()):
            if statement.strip():
                store.command(statement)
    assert apply(store, ["btc"]).found == BTC


def test_a_view_changed_by_hand_is_replaced_and_only_that_one(store):
    ensure_table(store, "btc")
    store.command("CREATE OR REPLACE VIEW mexc_data.btc_deals AS SELECT 1 AS one")
    summary = ensure_table(store, "btc")
    assert summary.replaced == ["view mexc_data.btc_deals"]
    assert summary.created == []
    assert len(summary.found) == len(BTC) - 1
    assert store.query("SELECT * FROM mexc_data.btc_deals") == []
    assert ensure_table(store, "btc").found == BTC


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


def test_check_table_changes_nothing(store):
    check_table(store, "btc")
    assert store.query("SELECT name FROM system.databases WHERE name = 'mexc_data'") == []
    with pytest.raises(Misuse, match="reserved for a view"):
        check_table(store, "x_deals")
    with pytest.raises(Misuse, match="cannot be a table's name"):
        ensure_table(store, "x`; DROP TABLE y")


def test_every_symbol_has_its_own_table_and_views(store):
    summary = apply(store, ["btc", "1000pepe", "btc_usd"])
    assert len(summary.created) == 1 + 3 * 5
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
