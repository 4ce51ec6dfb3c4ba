"""The typed tables: what they take, what they keep once, and which others of such a name are refused."""

import pytest

from mexcflow.config import shipped
from mexcflow.errors import SchemaMismatch
from mexcflow.store import check_table, open_store
from mexcflow.store.forms import existing_tables
from mexcflow.store.market import (
    BOOKS,
    CANDLES,
    CONTRACTS,
    DEAD_LETTERS,
    TICKERS,
    TRADES,
    check_market,
    ensure_market,
)
from mexcflow.store.schema import apply
from mexcflow.store.statements import needed_forms
from mexcflow.store.tokens import once
from tests.endpoints import either

AT = "1763755000.123456"
LATER = "1763755000.223456"
TRADE = f"binance\tBTCUSDT\t{AT}\t{LATER}\t77\t84000.1\t0.002\t0.002\tsell\n"
ROWS = {
    TRADES: (
        f"{TRADE}okx\tBTC-USDT-SWAP\t{AT}\t{LATER}\ta\\tb\t0.000000000000000001\t99999999999999999999\t\\N\t"
        "buy\n",
        [
            ("binance", "BTCUSDT", AT, LATER, "77", "84000.1", "0.002", "0.002", "sell"),
            ("okx", "BTC-USDT-SWAP", AT, LATER, "a\tb", "0.000000000000000001", "99999999999999999999", None,
             "buy"),
        ],
    ),
    BOOKS: (
        f"kraken\tBTC/USD\t{AT}\t{LATER}\t18446744073709551615\t[84000.1,84000]\t[1,0.5]\t[]\t[]\n",
        [("kraken", "BTC/USD", AT, LATER, "18446744073709551615", "[84000.1,84000]", "[1,0.5]", "[]", "[]")],
    ),
    TICKERS: (
        f"bybit\tBTCUSDT\t{AT}\t{LATER}\t84000\t\\N\t84000.5\t51234.001\t-0.00012\t1763760000.000\n"
        f"bybit\tETHUSDT\t{AT}\t{LATER}\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n",
        [
            ("bybit", "BTCUSDT", AT, LATER, "84000", None, "84000.5", "51234.001", "-0.00012",
             "1763760000"),
            ("bybit", "ETHUSDT", AT, LATER, None, None, None, None, None, None),
        ],
    ),
    CANDLES: (
        f"okx\tX\t1m\t1763754960.000\t1\t3\t0.5\t2\t10\t\\N\t7\t1\t{AT}\t{LATER}\n"
        f"okx\tY\t1m\t1763754960.000\t1\t3\t0.5\t2\t\\N\t20.5\t\\N\t0\t{AT}\t{LATER}\n",
        [
            ("okx", "X", "1m", "1763754960", "1", "3", "0.5", "2", "10", None, "7", "true", AT, LATER),
            ("okx", "Y", "1m", "1763754960", "1", "3", "0.5", "2", None, "20.5", None, "false", AT, LATER),
        ],
    ),
    DEAD_LETTERS: (
        f"coinbase\t\t\t{AT}\tno type\t{{\"a\\\\u0000\":\\n1}}\n",
        [("coinbase", "", "", AT, "no type", '{"a\\u0000":\n1}')],
    ),
    CONTRACTS: (
        "okx\tBTC-USD-SWAP\tBTC\tUSD\tperpetual\t100\t1\t0.1\t\\N\ttrading\t1763755000.123\n",
        [("okx", "BTC-USD-SWAP", "BTC", "USD", "perpetual", "100", "true", "0.1", None, "trading",
          "1763755000.123")],
    ),
}  # fmt: skip
TIMES = ("event_time", "receive_time", "open_time", "next_funding_time", "seen")


@pytest.fixture
def embedded(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        yield store


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


def stored(store, table, columns):
    """Every value of a table as text; times as they are written into it."""
    shown = [
        f"CAST(CAST(`{name}` AS Nullable(Decimal(20, {3 if name in TIMES[2:] else 6}))) AS Nullable(String))"
        if name in TIMES
        else f"toString(`{name}`)"
        for name in columns
    ]
    return store.query(f"SELECT {', '.join(shown)} FROM {table} ORDER BY exchange, symbol")


def test_what_is_written_is_what_is_there(store):
    ensure_market(store)
    for (table, columns), (block, rows) in ROWS.items():
        store.insert_block(table, columns, block.encode(), once("a"))
        assert stored(store, table, columns) == rows
    check_market(store)


def test_a_batch_goes_in_once_for_its_token_in_every_table(embedded):
    ensure_market(embedded)
    for (table, columns), (block, rows) in ROWS.items():
        for _ in range(2):
            embedded.insert_block(table, columns, block.encode(), once("a"))
        assert embedded.query(f"SELECT count() FROM {table}") == [(len(rows),)]


@pytest.mark.parametrize("table", ROWS, ids=lambda table: table[0])
def test_the_columns_that_are_written_are_all_that_there_are(table):
    name = table[0].removeprefix("market_data.")
    assert table[1] == tuple(column for column, _ in needed_forms()[name].columns)


def test_a_trade_that_two_collectors_wrote_is_there_once_and_a_candle_as_it_came_last(embedded):
    ensure_market(embedded)
    for n, received in enumerate((LATER, "1763755000.3")):
        trade = TRADE.replace(LATER, received)
        embedded.insert_block(*TRADES, trade.encode(), once(f"{n}"))
    earlier, later = "1763755001", "1763755002"
    for n, (received, close, closed) in enumerate(((later, 2, 1), (earlier, 1.5, 0))):
        row = f"okx\tX\t1m\t1763754960\t1\t3\t0.5\t{close}\t10\t\\N\t7\t{closed}\t{received}\t{received}\n"
        embedded.insert_block(*CANDLES, row.encode(), once(f"{n}"))
    assert embedded.query("SELECT toString(price) FROM market_data.trades FINAL") == [("84000.1",)]
    assert embedded.query("SELECT toString(close), closed FROM market_data.candles FINAL") == [("2", True)]


def test_they_are_made_without_a_string_table_and_found_the_second_time(store):
    made = ensure_market(store).created
    assert [f"table {table}" for table, _ in ROWS if f"table {table}" not in made] == []
    assert ensure_market(store).created == []
    assert existing_tables(store) == {}


def test_checking_changes_nothing(store):
    check_market(store)
    assert store.query("SELECT name FROM system.databases WHERE name LIKE '%\\_data'") == []


@pytest.mark.parametrize(
    ("table", "change", "what"),
    [
        (
            "trades",
            ("price Decimal(38, 18) CODEC(GCD, ZSTD(1))", "price Float64"),
            "needed is ReplacingMergeTree PARTITION BY",
        ),
        ("trades", ("trade_id)", "trade_id, price)"), "needed is ReplacingMergeTree PARTITION BY"),
        ("trades", ("YYYYMM(event", "YYYYMM(receive"), "needed is ReplacingMergeTree PARTITION BY"),
        ("books", ("MergeTree", "ReplacingMergeTree"), "needed is MergeTree PARTITION BY"),
        ("tickers", ("non_replicated_deduplication_window = 10000,\n", ""), "window is not set"),
        ("contracts", ("inverse Bool", "inverse UInt8"), "needed is ReplacingMergeTree ORDER BY"),
    ],
)
def test_another_table_of_such_a_name_is_refused_and_never_touched(embedded, table, change, what):
    text = (shipped("sql") / "050_market.sql").read_text()
    own = f"CREATE TABLE IF NOT EXISTS market_data.{table}\n"
    statement = own + text.split(own)[1].split(";")[0]
    assert change[0] in statement
    embedded.command("CREATE DATABASE market_data ENGINE = Atomic")
    embedded.command(statement.replace(*change))
    before = existing_tables(embedded, "market_data")
    attempts = (
        check_market,
        ensure_market,
        lambda store: check_table(store, "btc"),
        lambda store: apply(store, ["btc"]),
    )
    for attempt in attempts:
        with pytest.raises(SchemaMismatch, match=rf"market_data\.{table} exists and is .*{what}"):
            attempt(embedded)
    assert existing_tables(embedded, "market_data") == before
    assert existing_tables(embedded) == {}


def test_how_long_rows_are_kept_and_how_they_are_packed_is_their_owners_business(embedded):
    ensure_market(embedded)
    embedded.command("ALTER TABLE market_data.books MODIFY TTL toDateTime(event_time) + toIntervalDay(90)")
    embedded.command("ALTER TABLE market_data.trades MODIFY COLUMN price Decimal(38, 18) CODEC(ZSTD(9))")
    check_market(embedded)
    assert ensure_market(embedded).created == []
