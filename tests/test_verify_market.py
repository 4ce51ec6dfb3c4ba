"""Verify, the typed tables: what cannot be is found, what coverage explains is not, and nothing else is."""

import itertools
import subprocess
import sys
from datetime import UTC, datetime

import orjson
import pytest

from mexcflow.ops.verify import verify
from mexcflow.store import open_store
from mexcflow.store.coverage import COVERAGE, Interval, State, write_intervals
from mexcflow.store.market import BOOKS, CANDLES, DEAD_LETTERS, TICKERS, TRADES, ensure_market
from mexcflow.store.tokens import once
from tests.endpoints import either

T0 = 1_763_755_000
NOW_MS = T0 * 1000 + 3_600_000
CROSSED = "books: 1 books are crossed: the best bid is not below the best ask"
UNSORTED = "books: 1 books do not have their levels best first"
MALFORMED = "candles: 1 candles whose high is not the highest price, or whose low is not the lowest"
START = "2025-11-21T19:56:40"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("market") / "data")) as store:
        ensure_market(store)
        yield store


@pytest.fixture
def embedded(opened):
    for table in (TRADES, BOOKS, TICKERS, CANDLES, DEAD_LETTERS):
        opened.command(f"TRUNCATE TABLE {table.name}")
    opened.command(f"TRUNCATE TABLE {COVERAGE}")
    return opened


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


TOKENS = (f"token {number}" for number in itertools.count())


def put(store, table, *rows):
    block = "".join(f"{row}\n" for row in rows).encode()
    store.insert_block(table.name, table.columns, block, once(next(TOKENS)))


def at(second):
    return f"{datetime.fromtimestamp(T0 + second, UTC):%Y-%m-%d %H:%M:%S.%f}"


def trade(second, number, *, exchange="coinbase", price="84000.1", quantity="0.5", received=None, base="0.5"):
    times = f"{at(second)}\t{at(second if received is None else received)}"
    return f"{exchange}\tBTC-USD\t{times}\t{number}\t{price}\t{quantity}\t{base}\tbuy"


def book(second, sequence, bids="84000", asks="84001", quantities=("1", "1")):
    sides = f"[{bids}]\t[{quantities[0]}]\t[{asks}]\t[{quantities[1]}]"
    return f"okx\tBTC-USDT-SWAP\t{at(second)}\t{at(second + 0.01)}\t{sequence}\t{sides}"


def candle(second, prices="1\t3\t0.5\t2", *, received=0.0, open_s=T0):
    times = f"{at(second)}\t{at(second + received)}"
    return f"okx\tBTC-USDT-SWAP\t1m\t{open_s}\t{prices}\t10\t\\N\t7\t1\t{times}"


def interval(state, from_s, to_s, *, channel="", reason="", symbol="BTC-USD", exchange="coinbase"):
    return Interval(
        exchange, symbol, channel, (T0 + from_s) * 1000, (T0 + to_s) * 1000, State(state), reason, 1, 1, "r",
        "h", (T0 + to_s) * 1000,
    )  # fmt: skip


def found_in(store, **options):
    return verify(store, [], now_ms=NOW_MS, **options).market


def the_stream(store):
    (stream,) = found_in(store).streams
    return stream


def test_what_is_as_it_should_be_is_no_problem_and_is_counted(store):
    put(store, TRADES, trade(0, 9), trade(1, 10), trade(1, 11))
    put(store, BOOKS, book(0, 5, "84000,83999.5", "84001,84002", ("1,2", "1,2")), book(1, 0), book(2, 9))
    put(store, TICKERS, f"okx\tBTC-USDT-SWAP\t{at(5)}\t{at(5)}\t84000\t\\N\t\\N\t\\N\t-0.0001\t\\N")
    put(store, CANDLES, candle(3))
    report = verify(store, [], now_ms=NOW_MS)
    assert report.ok
    assert report.problems == []
    market = report.market
    assert {name: table.rows for name, table in market.tables.items()} == {
        "trades": 3, "books": 3, "tickers": 1, "candles": 1,
    }  # fmt: skip
    sizes = dict(
        store.query(
            "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'market_data' "
            "AND rows > 0 GROUP BY table"
        )
    )
    assert {name: table.bytes for name, table in market.tables.items()} == sizes
    assert market.tables["trades"].bytes_a_row == round(sizes["trades"] / 3, 2)
    coinbase, okx = market.streams
    assert (coinbase.name, list(coinbase.tables)) == ("coinbase BTC-USD", ["trades"])
    assert (okx.name, list(okx.tables)) == ("okx BTC-USDT-SWAP", ["books", "tickers", "candles"])
    trades = coinbase.tables["trades"]
    assert (trades.rows, trades.first_ts, trades.last_ts, trades.staleness_s) == (
        3, f"{START}.000Z", f"{START[:-2]}41.000Z", 3599.0,
    )  # fmt: skip
    assert [set(table.found.values()) for table in (trades, *okx.tables.values())] == [{0}] * 4
    assert coinbase.notes == ["trades: nothing new for 0:59:59"]
    assert (coinbase.trade_ids.missing_ids, coinbase.trade_ids.holes) == (0, 0)


@pytest.mark.parametrize(
    ("table", "row", "problem"),
    [
        (BOOKS, book(1, 1, "84001", "84001"), CROSSED),
        (BOOKS, book(1, 1, "84002", "84001"), CROSSED),
        (
            BOOKS,
            book(1, 1, "83999,84000", "84001", ("1,1", "1")),
            UNSORTED,
        ),
        (
            BOOKS,
            book(1, 1, "84000", "84001,84003,84003", ("1", "1,1,1")),
            UNSORTED,
        ),
        (
            CANDLES,
            candle(1, "1\t3\t0.5\t3.000000000000000001"),
            MALFORMED,
        ),
        (
            CANDLES,
            candle(1, "0.4\t3\t0.5\t2"),
            MALFORMED,
        ),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_a_problem(embedded, table, row, problem):
    put(embedded, table, row)
    report = verify(embedded, [], now_ms=NOW_MS)
    assert not report.ok
    assert report.problems == [f"okx BTC-USDT-SWAP: {problem}, the first at {START[:-2]}41.000Z"]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (TRADES, trade(86_402, 1, received=1)),  # the exchange's clock is a day and a second ahead
        (TRADES, trade(-T0 + 100, 1, received=1)),  # seconds taken for ms
        (TRADES, trade(100_000, 1)),  # ours is ahead
        (CANDLES, candle(-86_401, received=86_401.5)),
    ],
)
def test_a_time_that_cannot_be_is_a_problem(embedded, table, row):
    put(embedded, table, row)
    (problem,) = verify(embedded, [], now_ms=NOW_MS).problems
    assert "1 rows whose time cannot be: the exchange's and ours are more than a day apart" in problem


def test_an_old_trade_with_which_an_exchange_begins_is_a_note(embedded):
    put(embedded, TRADES, trade(-200_000, 1, received=0), trade(0, 2))
    stream = the_stream(embedded)
    assert stream.problems == []
    assert "trades: 1 trades were more than a day old when they were received" in stream.notes


def test_what_is_odd_is_a_note(embedded):
    put(embedded, TRADES, trade(0, 1, price="0"), trade(1, 2, quantity="-1"), trade(2, 3, base="\\N"))
    put(
        embedded,
        BOOKS,
        book(0, 7, "", "", ("", "")),
        book(1, 9),
        book(1, 8),
        book(2, 6),
        book(3, 7),
        book(4, 0),
    )
    put(embedded, BOOKS, book(5, 9, quantities=("0", "1")))
    coinbase, okx = found_in(embedded).streams
    assert (coinbase.problems, okx.problems) == ([], [])
    assert coinbase.notes[1:] == [
        "trades: 2 rows have a price or a quantity that is not positive",
        "trades: 1 trades have no base_quantity: the contract size was not known",
    ]
    assert okx.notes[1:] == [
        "books: 1 rows have a price or a quantity that is not positive",
        "books: 1 books lack bids or asks",
        "books: 1 books have a sequence number below that of the book before",
    ]


@pytest.fixture
def unmerged(embedded):
    for table in (TRADES, CANDLES):
        embedded.command(f"SYSTEM STOP MERGES {table.name}")
    yield embedded
    for table in (TRADES, CANDLES):
        embedded.command(f"SYSTEM START MERGES {table.name}")


def test_doubles_that_are_not_merged_are_a_note_of_trades_alone(unmerged):
    embedded = unmerged
    put(embedded, TRADES, trade(0, 1), trade(1, 2))
    put(embedded, TRADES, trade(0, 1), trade(2, 3))
    put(embedded, CANDLES, candle(1))
    put(embedded, CANDLES, candle(2))
    coinbase, okx = found_in(embedded).streams
    assert coinbase.tables["trades"].found["not_merged"] == 1
    assert okx.tables["candles"].found["not_merged"] == 1
    assert "trades: 1 rows are there twice and not merged yet: FINAL leaves them out" in coinbase.notes
    assert okx.notes == ["candles: nothing new for 0:59:58"]


def test_a_hole_in_the_trade_ids_that_nothing_explains_is_a_problem(store):
    ids = [1, 2, 5, 6, 65_535, 65_536, 70_000, 400_000]  # within a bucket, at its edge, over several
    put(store, TRADES, *(trade(n, number) for n, number in enumerate(reversed(ids))))
    stream = the_stream(store)
    assert stream.trade_ids.missing_ids == 400_000 - 8
    assert (stream.trade_ids.holes, stream.trade_ids.explained) == (4, 0)
    assert stream.trade_ids.unexplained == [(2, 5), (6, 65_535), (65_536, 70_000)]
    assert stream.problems == [
        "trades: 4 holes in the trade ids that coverage does not explain, "
        "from 2 to 5, 6 to 65535, 65536 to 70000"
    ]


def test_a_hole_is_explained_by_a_gap_with_its_numbers_or_by_an_outage_at_its_time(embedded):
    put(embedded, TRADES, *(trade(n * 10, number) for n, number in enumerate((1, 4, 10, 20, 30, 40))))
    write_intervals(
        embedded,
        [
            interval("gap", 0, 10, channel="trade", reason="2 trades missing: 4 after 1"),
            interval("outage", 12, 18, reason="connection lost"),
            interval("outage", 22, 28, channel="book", reason="connection lost"),  # of another socket
            interval("gap", 31, 39, channel="book", reason="sequence 30 after 20"),
            interval("gap", 35, 36, channel="trade", reason="could not be decoded"),
            interval("gap", 45, 46, channel="trade", reason="8 trades missing: 39 after 30"),  # one lacks
        ],
        token=next(TOKENS),
    )
    stream = the_stream(embedded)
    assert (stream.trade_ids.holes, stream.trade_ids.explained) == (5, 3)
    assert stream.trade_ids.unexplained == [(10, 20), (30, 40)]


def test_only_where_an_exchange_says_that_its_ids_are_consecutive_they_are_compared(embedded):
    put(embedded, TRADES, trade(0, 1, exchange="nobody"), trade(1, "a-uuid", exchange="nobody"))
    put(embedded, TRADES, trade(0, 1), trade(1, "x7"), trade(2, 3))
    coinbase, nobody = found_in(embedded).streams
    assert (nobody.trade_ids, nobody.problems) == (None, [])
    assert coinbase.trade_ids.unexplained == [(1, 3)]
    assert "trades: 1 trade ids are no numbers" in coinbase.notes


def test_how_much_of_the_time_each_channel_was_listened_to(store):
    put(store, TRADES, trade(0, 1))
    write_intervals(
        store,
        [
            interval("live", 0, 1800, channel="trade"),
            interval("outage", 1800, 2700, channel="trade", reason="connection lost"),
            interval("live", 2700, 3600, channel="trade"),
            interval("live", 0, 1800, channel="ticker"),
            interval("outage", 1800, 2700, channel="ticker", reason="connection lost"),
            interval("live", 2700, 3600, channel="ticker"),
            interval("live", 1800, 3600, channel="book"),
            interval("gap", 1900, 1901, channel="book", reason="the checksum is wrong"),
        ],
        token=next(TOKENS),
    )
    stream = the_stream(store)
    trades, books = stream.coverage["trade"], stream.coverage["book"]
    assert (trades.percent, trades.outage_count, trades.gaps) == (75.0, 1, 0)
    assert (books.percent, books.outage_count, books.gaps, books.since) == (
        100.0,
        0,
        1,
        "2025-11-21T20:26:40.000Z",
    )
    assert stream.notes[1:] == [
        "ticker, trade: outages: 1, the longest 0:15:00 from 2025-11-21T20:26:40.000Z ('connection lost')",
        "book: 1 gaps, where something lacks or came twice",
    ]


def test_how_long_candles_were_listened_to_is_known_though_only_their_last_update_is_left(embedded):
    put(embedded, CANDLES, candle(3000, open_s=T0 + 2940))
    live = interval("live", 0, 3600, channel="candle", symbol="BTC-USDT-SWAP", exchange="okx")
    write_intervals(embedded, [live], token=next(TOKENS))
    candles = the_stream(embedded).coverage["candle"]
    assert (candles.percent, candles.since) == (100.0, "2025-11-21T19:56:40.000Z")


def test_dead_letters_are_counted_by_exchange_channel_and_reason(embedded):
    letters = [("okx", "book", "no seqId"), ("okx", "book", "no seqId"), ("kraken", "", "no JSON")]
    rows = [
        f"{one}\tX\t{channel}\t{at(n)}\t{reason}\ttext" for n, (one, channel, reason) in enumerate(letters)
    ]
    put(embedded, DEAD_LETTERS, *rows)
    market = found_in(embedded)
    assert market.notes == ["2 dead letters of okx book: no seqId", "1 dead letters of kraken: no JSON"]
    assert [(one.count, one.newest_ts) for one in market.dead_letters] == [
        (2, f"{START[:-2]}41.000Z"),
        (1, f"{START[:-2]}42.000Z"),
    ]


def test_the_command_shows_it_and_gives_it_as_json(embedded, tmp_path):
    put(embedded, TRADES, trade(0, 1), trade(1, 3))
    at_folder = ("--database", embedded.location, "--config", str(tmp_path))
    command = [sys.executable, "-m", "mexcflow", "verify", *at_folder]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 1
    problem = "coinbase BTC-USD: trades: 1 holes in the trade ids that coverage does not explain, from 1 to 3"
    assert f"problem: {problem}" in shown.stdout
    assert f"coinbase  BTC-USD  trades  {START}.000Z" in " ".join(shown.stdout.split()).replace(" ", "  ")
    report = orjson.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)
    assert report["problems"] == [problem]
    (stream,) = report["market"]["streams"]
    assert stream["trade_ids"] == {"missing_ids": 1, "holes": 1, "explained": 0, "unexplained": [[1, 3]]}


def test_a_database_without_typed_tables_has_no_market_and_a_strange_one_is_told(opened):
    embedded = opened  # the last one to use it
    embedded.command("DROP TABLE market_data.books SYNC")
    embedded.command("CREATE TABLE market_data.books (x Int8) ENGINE = MergeTree ORDER BY x")
    report = verify(embedded, [], now_ms=NOW_MS)
    assert any(problem.startswith("market_data: books cannot be read: ") for problem in report.problems)
    embedded.command("DROP DATABASE market_data SYNC")
    assert found_in(embedded) is None
