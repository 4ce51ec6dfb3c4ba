"""The views over all exchanges: typed tables and string tables together, row by row."""

import datetime as dt
import re
from decimal import Decimal

import pytest

from mexcflow.config import Instance
from mexcflow.errors import StatementRefused
from mexcflow.ops.setup import setup
from mexcflow.store import Store, ensure_table, open_store
from mexcflow.store.forms import Kept
from mexcflow.store.market import BOOKS, CONTRACTS, TICKERS, TRADES, ensure_market
from mexcflow.store.tokens import insert_once, once
from tests.cluster import node
from tests.endpoints import either

T0 = 1_700_000_040_000  # 2023-11-14 22:14:00 UTC
MINUTE = dt.datetime(2023, 11, 14, 22, 14)
BTC = ("mexc", "BTC_USDT")
VIEWS = ("trades_all", "books_top", "tickers_all", "candles_from_trades(interval = '1m')")


@pytest.fixture
def embedded(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        yield store


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


def at(ms: float) -> str:
    """A time of the typed tables, `ms` after T0."""
    us = T0 * 1000 + round(ms * 1000)
    return f"{us // 1_000_000}.{us % 1_000_000:06}"


def after(seconds: float) -> dt.datetime:
    return MINUTE + dt.timedelta(seconds=seconds)


def write(store: Store, table, *rows: str) -> None:
    """Insert rows of a typed table, each written with blanks between its values."""
    block = "".join("\t".join(row.split()) + "\n" for row in rows)
    store.insert_block(*table, block.encode(), once(block))


def contract(
    store: Store, symbol: str, size: str, *, seen: float, inverse: int = 0, exchange: str = "mexc"
) -> None:
    write(
        store,
        CONTRACTS,
        f"{exchange} {symbol} B Q perpetual {size} {inverse} \\N \\N trading {at(seen)[:-3]}",
    )


def asked(store: Store, sql: str) -> list[tuple[object, ...]]:
    """What a query returns, decimals as short as they can be written."""
    return [
        tuple(format(one.normalize(), "f") if isinstance(one, Decimal) else one for one in row)
        for row in store.query(sql)
    ]


ALL_TRADES = """
SELECT exchange, symbol, event_time, receive_time, trade_id, price, quantity, base_quantity, side
FROM market_data.trades_all ORDER BY exchange, symbol, event_time, trade_id
"""


def cost(store: Store, sql: str) -> tuple[int, int]:
    """How many StripeLog tables are read for a query, and the most granules that are of any other."""
    plan = "\n".join(str(line) for (line,) in store.query(f"EXPLAIN indexes = 1 {sql}"))
    granules = [int(n) for n in re.findall(r"Parts: \d+ \| Granules: (\d+)", plan)]
    return plan.count("(StripeLog)"), max(granules)


def test_without_any_row_or_string_table_every_view_answers(store):
    ensure_market(store)
    assert [store.query(f"SELECT * FROM market_data.{view}") for view in VIEWS] == [[]] * 4


def test_trades_of_typed_and_string_tables_are_the_same_kind_of_row(store):
    ensure_table(store, "btc", BTC)
    contract(store, "BTC_USDT", "0.0001", seen=0)
    write(
        store,
        TRADES,
        f"binance BTCUSDT {at(1.5)} {at(9)} 77 84000.1 0.002 0.002 sell",
        f"okx BTC-USDT-SWAP {at(2)} {at(9)} 5 84000.2 3 \\N buy",
    )
    store.insert_rows("btc", [(T0 + 3, "d", "84055|3|1"), (T0 + 4, "d", "0.0000071|120000|2"),
                              (T0, "t", "1|1|1|1|0.00000000"), (T0, "dl", "1|1|1")])  # fmt: skip
    assert asked(store, ALL_TRADES) == [
        ("binance", "BTCUSDT", after(0.0015), after(0.009), "77", "84000.1", "0.002", "0.002", "sell"),
        (*BTC, after(0.003), None, "", "84055", "3", "0.0003", "buy"),
        (*BTC, after(0.004), None, "", "0.0000071", "120000", "12", "sell"),
        ("okx", "BTC-USDT-SWAP", after(0.002), after(0.009), "5", "84000.2", "3", None, "buy"),
    ]


def test_a_trade_that_is_in_the_table_twice_is_shown_once(embedded):
    ensure_market(embedded)
    embedded.command("SYSTEM STOP MERGES market_data.trades")
    for received in (5, 6):
        write(embedded, TRADES, f"kraken BTC/USD {at(1)} {at(received)} 7 84000 1 1 buy")
    assert embedded.query("SELECT count() FROM market_data.trades") == [(2,)]
    assert [row[:3] for row in asked(embedded, ALL_TRADES)] == [("kraken", "BTC/USD", after(0.001))]
    assert embedded.query(
        "SELECT trades, toString(volume) FROM market_data.candles_from_trades(interval = '1m')"
    ) == [(1, "1")]


def test_a_contract_has_the_size_it_had_at_the_time(store):
    ensure_table(store, "btc", BTC)
    for seen, size in ((20_000, "0.01"), (10_000, "0.001")):
        contract(store, "BTC_USDT", size, seen=seen)
    contract(store, "BTC_USDT", "777", seen=0, exchange="okx")
    contract(store, "BTC_USD", "777", seen=0)
    store.insert_rows("btc", [(T0 + ms, "d", "5|2|1") for ms in (0, 9_999, 10_000, 19_999, 20_000, 30_000)])
    shown = asked(store, "SELECT base_quantity FROM market_data.trades_all ORDER BY event_time")
    assert [quantity for (quantity,) in shown] == ["0.002"] * 4 + ["0.02"] * 2


def test_the_size_of_an_inverse_contract_is_in_the_quote_currency(store):
    ensure_table(store, "btc_usd", ("mexc", "BTC_USD"))
    contract(store, "BTC_USD", "100", seen=0, inverse=1)
    store.insert_rows(
        "btc_usd", [(T0, "d", "80000|4|1"), (T0 + 1, "d", "0|4|1"), (T0, "dp", "[80000,8]|[160000,8]")]
    )
    assert asked(store, "SELECT quantity, base_quantity FROM market_data.trades_all ORDER BY event_time") == [
        ("4", "0.005"),
        ("4", None),
    ]
    assert asked(store, "SELECT best_bid_quantity, best_ask_quantity FROM market_data.books_top") == [
        ("0.01", "0.005")
    ]


def test_of_an_unknown_contract_there_are_trades_and_books_but_no_base_quantity(store):
    ensure_table(store, "btc", BTC)
    store.insert_rows("btc", [(T0, "d", "84055|3|1"), (T0, "dp", "[84055,3]|[84055.5,7]")])
    assert asked(store, "SELECT quantity, base_quantity FROM market_data.trades_all") == [("3", None)]
    assert asked(store, "SELECT best_bid, best_bid_quantity, spread FROM market_data.books_top") == [
        ("84055", None, "0.5")
    ]
    assert asked(
        store,
        "SELECT open, volume, buy_volume, vwap, trades FROM market_data.candles_from_trades(interval='1m')",
    ) == [("84055", None, None, None, 1)]


def test_the_top_of_every_book(store):
    ensure_table(store, "btc", BTC)
    contract(store, "BTC_USDT", "0.0001", seen=0)
    contract(store, "BTCUSDT", "1", seen=0, exchange="bybit")
    write(
        store,
        BOOKS,
        f"bybit BTCUSDT {at(1)} {at(2)} 5 [84000.1,84000] [1.5,9] [84000.2,84001] [0.5,9]",
        f"bybit BTCUSDT {at(3)} {at(4)} 6 [] [] [84000.2] [0.5]",
        f"coinbase BTC-USD {at(1)} {at(2)} 0 [84000] [1] [84000.000000000000000001] [2]",
    )
    books = ("[84055,3],[84054.9,12]|[84055.5,7]", "|[84055.5,7],[9,9]", "|")
    store.insert_rows("btc", [(T0 + n, "dp", book) for n, book in enumerate(books)])
    assert asked(
        store,
        "SELECT exchange, symbol, event_time, receive_time, best_bid, best_bid_quantity, best_ask, "
        "best_ask_quantity, spread, mid FROM market_data.books_top ORDER BY exchange, event_time",
    ) == [
        ("bybit", "BTCUSDT", after(0.001), after(0.002), "84000.1", "1.5", "84000.2", "0.5", "0.1",
         "84000.15"),
        ("bybit", "BTCUSDT", after(0.003), after(0.004), None, None, "84000.2", "0.5", None, None),
        ("coinbase", "BTC-USD", after(0.001), after(0.002), "84000", None, "84000.000000000000000001", None,
         "0.000000000000000001", "84000"),
        (*BTC, after(0), None, "84055", "0.0003", "84055.5", "0.0007", "0.5", "84055.25"),
        (*BTC, after(0.001), None, None, None, "84055.5", "0.0007", None, None),
        (*BTC, after(0.002), None, None, None, None, None, None, None),
    ]  # fmt: skip


def test_tickers(store):
    ensure_table(store, "btc", BTC)
    write(store, TICKERS, f"okx X {at(1)} {at(2)} 84000 \\N 84000.5 51234.001 -0.00012 {at(60_000)[:-3]}")
    store.insert_rows("btc", [(T0, "t", "84055|84060.1|84055.3|82912997|0.00010000")])
    assert asked(store, "SELECT * FROM market_data.tickers_all ORDER BY exchange") == [
        (*BTC, after(0), None, "84055", "84060.1", "84055.3", "82912997", "0.0001", None),
        (
            "okx",
            "X",
            after(0.001),
            after(0.002),
            "84000",
            None,
            "84000.5",
            "51234.001",
            "-0.00012",
            after(60),
        ),
    ]


def test_one_bad_row_breaks_no_view(store):
    ensure_table(store, "btc", BTC)
    contract(store, "BTC_USDT", "99999999999999999999", seen=0)
    bad = [
        "",
        "|",
        "garbage",
        "1|2",
        "[1,2",
        "[1,2]|[3",
        "x|y|z",
        "None|None|None|None|None",
        "1|1|9",
        "]|]",
        ",|,",
    ]
    store.insert_rows("btc", [(T0 + n, mt, m) for n, m in enumerate(bad) for mt in ("t", "d", "dp")])
    huge = "9" * 20
    for n, price_and_quantity in enumerate((f"{huge}|{huge}", "5|0.00000000001", f"{huge}9|1")):
        store.insert_rows("btc", [(T0 + 50 + n, "d", f"{price_and_quantity}|1")])
    store.insert_rows("btc", [(T0 + 50, "dp", f"[{huge},{huge}]|")])
    assert asked(
        store, "SELECT event_time, price, base_quantity FROM market_data.trades_all ORDER BY ALL"
    ) == [
        (after(0.050), huge, None),
        (after(0.051), "5", "999999999.99999999999"),
    ]
    assert asked(
        store,
        "SELECT best_bid, best_bid_quantity FROM market_data.books_top "
        "WHERE event_time > toDateTime64('2023-11-14 22:14:00.049', 3)",
    ) == [(huge, None)]
    for view in VIEWS:
        store.command(f"SELECT * FROM market_data.{view} FORMAT Null")


# candles


def test_candles_of_any_length(store):
    ensure_table(store, "btc", BTC)
    contract(store, "BTC_USDT", "0.1", seen=0)
    store.insert_rows("btc", [
        (T0 + 30_000, "d", "101|1|2"),
        (T0 + 1_000, "d", "100|2|1"),  # earlier, stored later: the open
        (T0 + 59_999, "d", "99|4|2"),  # the close
        (T0 + 40_000, "d", "103.5|3|1"),
        (T0 + 60_000, "d", "98|1|1"),
    ])  # fmt: skip
    write(
        store,
        TRADES,
        f"okx X {at(500)} {at(501)} 1 7.5 10 2 buy",
        f"okx X {at(70_000)} {at(70_001)} 2 8 10 0 sell",
    )
    columns = "exchange, symbol, open_time, open, high, low, close, volume, buy_volume, trades, vwap"
    sql = (
        f"SELECT {columns} FROM market_data.candles_from_trades(interval = '%s') ORDER BY exchange, open_time"
    )
    assert asked(store, sql % "1m") == [
        (*BTC, after(0), "100", "103.5", "99", "99", "1", "0.5", 4, "100.75"),
        (*BTC, after(60), "98", "98", "98", "98", "0.1", "0.1", 1, "98"),
        ("okx", "X", after(0), "7.5", "7.5", "7.5", "7.5", "2", "2", 1, "7.5"),
        ("okx", "X", after(60), "8", "8", "8", "8", "0", "0", 1, None),
    ]
    assert asked(store, sql % "1h") == [
        (*BTC, after(-840), "100", "103.5", "98", "98", "1.1", "0.6", 5, "100.5"),
        ("okx", "X", after(-840), "7.5", "8", "7.5", "8", "2", "2", 2, "7.5"),
    ]
    assert [row[2] for row in asked(store, sql % "30s")] == [after(s) for s in (0, 30, 60, 0, 60)]
    with pytest.raises(StatementRefused, match="parseTimeDelta"):
        store.query(sql % "fortnight")


def test_typed_trades_without_base_units_are_counted_with_the_size_they_had_at_the_time(store):
    ensure_table(store, "btc", BTC)
    for seen, size in ((10, "0.01"), (20, "0.1")):
        contract(store, "BTC-USDT-SWAP", size, seen=seen, exchange="okx")
    contract(store, "BTC-USD-SWAP", "100", seen=0, inverse=1, exchange="okx")
    contract(store, "HUGE", "99999999999999999999", seen=0, exchange="okx")
    contract(store, "UNKNOWN", "777", seen=0, exchange="bybit")
    write(
        store,
        TRADES,
        *(f"okx BTC-USDT-SWAP {at(ms)} {at(90)} {ms} 84000 3 \\N buy" for ms in (1, 19.999, 20)),
        f"okx BTC-USDT-SWAP {at(21)} {at(90)} 21 84000 3 0.33 buy",  # what the table says stands
        f"okx BTC-USD-SWAP {at(1)} {at(90)} 1 80000 4 \\N sell",
        f"okx BTC-USD-SWAP {at(2)} {at(90)} 2 0 4 \\N sell",
        f"okx HUGE {at(1)} {at(90)} 1 1 99999999999999999999 \\N buy",
        f"okx UNKNOWN {at(1)} {at(90)} 1 84000 3 \\N buy",
    )
    assert asked(
        store,
        "SELECT symbol, event_time, quantity, base_quantity, side FROM market_data.trades_all"
        " ORDER BY symbol, event_time",
    ) == [
        ("BTC-USD-SWAP", after(0.001), "4", "0.005", "sell"),
        ("BTC-USD-SWAP", after(0.002), "4", None, "sell"),
        ("BTC-USDT-SWAP", after(0.001), "3", "0.03", "buy"),
        ("BTC-USDT-SWAP", after(0.019999), "3", "0.03", "buy"),
        ("BTC-USDT-SWAP", after(0.02), "3", "0.3", "buy"),
        ("BTC-USDT-SWAP", after(0.021), "3", "0.33", "buy"),
        ("HUGE", after(0.001), "9" * 20, None, "buy"),
        ("UNKNOWN", after(0.001), "3", None, "buy"),
    ]
    assert asked(
        store,
        "SELECT symbol, volume, buy_volume, vwap, trades"
        " FROM market_data.candles_from_trades(interval = '1m') ORDER BY symbol",
    ) == [
        ("BTC-USD-SWAP", None, None, None, 2),
        ("BTC-USDT-SWAP", "0.69", "0.69", "84000", 4),
        ("HUGE", None, None, None, 1),
        ("UNKNOWN", None, None, None, 1),
    ]


def test_a_trade_that_is_in_the_table_with_base_units_and_without_is_shown_once(embedded):
    ensure_market(embedded)
    contract(embedded, "X", "0.01", seen=0, exchange="okx")
    embedded.command("SYSTEM STOP MERGES market_data.trades")
    for trade_id, known in ((1, ("\\N", "0.03")), (2, ("0.03", "\\N"))):
        for base_quantity in known:
            write(embedded, TRADES, f"okx X {at(1)} {at(5)} {trade_id} 84000 3 {base_quantity} buy")
    assert asked(
        embedded, "SELECT trade_id, base_quantity FROM market_data.trades_all ORDER BY trade_id"
    ) == [("1", "0.03"), ("2", "0.03")]


def test_a_row_with_base_units_does_not_pay_for_those_without(embedded):
    """Its base units are not counted for nothing: were they, this size would be an error."""
    ensure_market(embedded)
    contract(embedded, "X", "0.01", seen=0, exchange="okx")
    write(embedded, TRADES, f"okx X {at(1)} {at(5)} 1 84000 3 0.03 buy")
    ((view,),) = embedded.query(
        "SELECT as_select FROM system.tables WHERE database = 'market_data' AND name = 'trades_all'"
    )
    broken = view.replace("transform(", "throwIf(symbol = 'X') + transform(")
    assert broken != view
    embedded.command(f"CREATE VIEW market_data.broken AS {broken}")
    assert asked(embedded, "SELECT base_quantity FROM market_data.broken") == [("0.03",)]
    write(embedded, TRADES, f"okx X {at(2)} {at(5)} 2 84000 3 \\N buy")
    with pytest.raises(StatementRefused, match="throwIf"):
        embedded.query("SELECT base_quantity FROM market_data.broken")


def test_a_candle_with_a_trade_of_unknown_size_has_no_volume(embedded):
    ensure_table(embedded, "btc", BTC)
    write(
        embedded,
        TRADES,
        f"okx X {at(0)} {at(5)} 1 3 1 0.01 buy",
        f"okx X {at(1)} {at(5)} 2 2 1 \\N sell",
        f"okx Y {at(0)} {at(5)} 1 2 3 0.03 buy",
    )
    assert asked(
        embedded,
        "SELECT symbol, volume, buy_volume, vwap, trades"
        " FROM market_data.candles_from_trades(interval = '1d') ORDER BY ALL",
    ) == [("X", None, None, None, 2), ("Y", "0.03", "0.03", "2", 1)]


def test_open_and_close_within_one_instant(embedded):
    ensure_table(embedded, "btc", BTC)
    write(
        embedded,
        TRADES,
        f"okx X {at(0)} {at(5)} 10 3 1 1 buy",  # by id, as a number
        f"okx X {at(0)} {at(5)} 9 2 1 1 buy",
        f"okx X {at(0)} {at(4)} 11 1 1 1 buy",  # by receive time before that
    )
    # one order that buys its way up, and a later one that sells its way down
    embedded.insert_rows("btc", [(T0, "d", f"{price}|1|1") for price in (6, 4, 5)])
    embedded.insert_rows("btc", [(T0 + 1, "d", f"{price}|1|2") for price in (2, 1, 3)])
    assert asked(
        embedded,
        "SELECT exchange, open, close FROM market_data.candles_from_trades(interval = '1s') ORDER BY ALL",
    ) == [("mexc", "4", "1"), ("okx", "1", "3")]


# which string tables, of which form


def test_a_string_table_is_shown_from_when_its_stream_is_known(store):
    ensure_table(store, "btc")
    store.insert_rows("btc", [(T0, "d", "84055|3|1")])
    assert asked(store, ALL_TRADES) == []
    ensure_table(store, "btc", BTC)
    assert [row[:2] for row in asked(store, ALL_TRADES)] == [BTC]
    assert ensure_table(store, "btc", ("mexc", "BTC_USDC")).replaced == [
        f"view mexc_data.btc_typed_{name}" for name in ("trades", "tickers", "tops")
    ]
    assert ensure_table(store, "btc").replaced == []
    assert [row[:2] for row in asked(store, ALL_TRADES)] == [("mexc", "BTC_USDC")]


def test_whatever_else_is_in_the_database_breaks_no_view(embedded):
    for table in ("btc", "eth"):
        ensure_table(embedded, table, ("mexc", f"{table.upper()}_USDT"))
        embedded.insert_rows(table, [(T0, "d", "84055|3|1")])
    embedded.command("CREATE TABLE mexc_data.notes (text String) ENGINE = MergeTree ORDER BY text")
    embedded.command("INSERT INTO mexc_data.notes SELECT 'x'")
    embedded.command("CREATE TABLE mexc_data.btc_old AS mexc_data.btc")
    embedded.command("INSERT INTO mexc_data.btc_old SELECT * FROM mexc_data.btc")
    embedded.command("DROP TABLE mexc_data.eth")
    assert [row[:2] for row in asked(embedded, ALL_TRADES)] == [BTC]


def test_string_tables_of_every_form_are_read_together(tmp_path):
    eth = Instance(symbol="ETH_USDT", table="eth", source="eth.toml")
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc", BTC)
        setup(store, [eth], kept=Kept.MERGETREE)
        for table in ("btc", "eth"):
            insert = (
                store.insert_rows if table == "btc" else lambda *block: insert_once(store, *block, token="a")
            )
            insert(
                table, [(T0, "d", "84055|3|1"), (T0, "t", "1|2|3|4|0.00010000"), (T0, "dp", "[1,2]|[3,4]")]
            )
        for view in ("trades_all", "books_top", "tickers_all"):
            assert asked(store, f"SELECT exchange, symbol FROM market_data.{view} ORDER BY symbol") == [
                BTC,
                ("mexc", "ETH_USDT"),
            ]


def test_in_a_cluster_the_views_are_the_same(tmp_path):
    btc = Instance(symbol="BTC_USDT", table="btc", source="btc.toml")
    with node(tmp_path / "node") as front, open_store(f"http://127.0.0.1:{front.port}") as store:
        setup(store, [btc], cluster="market")
        contract(store, "BTC_USDT", "0.1", seen=0)
        insert_once(store, "btc", [(T0, "d", "84055|3|1"), (T0, "dp", "[1,2]|[3,4]")], token="a")
        for received in (1, 2):
            write(store, TRADES, f"okx X {at(0)} {at(received)} 1 7.5 10 2 buy")
        columns = "exchange, symbol, price, quantity, base_quantity, side"
        assert asked(store, f"SELECT {columns} FROM market_data.trades_all ORDER BY exchange") == [
            (*BTC, "84055", "3", "0.3", "buy"),
            ("okx", "X", "7.5", "10", "2", "buy"),
        ]
        assert asked(store, "SELECT symbol, best_bid_quantity FROM market_data.books_top") == [
            ("BTC_USDT", "0.2")
        ]


# what is read


@pytest.mark.parametrize("view", ["trades_all", "books_top", "candles_from_trades(interval = '1m')"])
def test_an_hour_of_one_symbol_is_read_by_the_primary_key(embedded, view):
    ensure_table(embedded, "btc", BTC)
    setup(embedded, [Instance(symbol="ETH_USDT", table="eth", source="eth.toml")], kept=Kept.MERGETREE)
    start = "toDateTime64('2025-01-01 00:00:00', 6, 'UTC') + number"
    for table, values in (
        ("trades", "toString(number), 1, 1, 1, 'buy'"),
        ("books", "number, [1], [1], [2], [1]"),
    ):
        embedded.command(
            f"INSERT INTO market_data.{table} SELECT ['okx', 'bybit'][number % 2 + 1], 'X', {start}, "
            f"{start}, {values} FROM numbers(200000)"
        )
    embedded.command(f"INSERT INTO mexc_data.eth SELECT {start}, 'd', '1|1|1' FROM numbers(100000)")
    embedded.command(f"INSERT INTO mexc_data.eth SELECT {start}, 'dp', '[1,1]|[2,2]' FROM numbers(100000)")
    time = "open_time" if "candles" in view else "event_time"
    hour = f"{time} >= '2025-01-01 12:00:00' AND {time} < '2025-01-01 13:00:00'"

    def of(exchange: str, symbol: str) -> tuple[int, bool]:
        stream = f"exchange = '{exchange}' AND symbol = '{symbol}'"
        scanned, granules = cost(embedded, f"SELECT * FROM market_data.{view} WHERE {stream} AND {hour}")
        return scanned, granules <= 2

    assert of("okx", "X") == (0, True)
    assert of("mexc", "ETH_USDT") == (0, True)
    assert of("mexc", "BTC_USDT") == (1, True)
    assert of("kraken", "X") == (0, True)
    # so many there are
    assert cost(embedded, "SELECT * FROM market_data.trades")[1] > 20
    assert cost(embedded, "SELECT * FROM mexc_data.eth")[1] > 20
