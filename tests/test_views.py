"""The views: every string decoded, exactly, and no bad row that breaks them."""

import tempfile

import pytest

from mexcflow.store import ensure_table, open_store
from tests.endpoints import either

T0 = 1_700_000_040_000  # 2023-11-14 22:14:00 UTC


@pytest.fixture(scope="module", params=["embedded", "endpoint"])
def store(request):
    with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        ensure_table(store, "btc")
        yield from either(request.param, store)


@pytest.fixture(autouse=True)
def empty(store):
    store.command("TRUNCATE TABLE mexc_data.btc")


def columns(store, view):
    return store.query(
        "SELECT name, type FROM system.columns WHERE database = 'mexc_data' AND table = {view:String} "
        "ORDER BY position",
        {"view": view},
    )


def test_ticker(store):
    store.insert_rows(
        "btc",
        [
            (T0, "t", "84055|84060.1|84055.3|82912997|0.00010000"),
            (T0 + 1, "t", "0.0000000123|-1.5|0|7|-0.00075000"),
            (T0, "d", "1|1|1"),
        ],
    )
    assert store.query(
        "SELECT toUnixTimestamp64Milli(ts), last_price, mark_price, index_price, open_interest, funding_rate "
        "FROM mexc_data.btc_ticker ORDER BY ts"
    ) == [
        (T0, 84055.0, 84060.1, 84055.3, 82912997.0, 0.0001),
        (T0 + 1, 1.23e-8, -1.5, 0.0, 7.0, -0.00075),
    ]


def test_deals(store):
    store.insert_rows("btc", [(T0, "d", "84055|3|1"), (T0 + 1, "d", "0.0000071|120000|2"), (T0, "dp", "|")])
    assert store.query(
        "SELECT toUnixTimestamp64Milli(ts), price, quantity, side FROM mexc_data.btc_deals ORDER BY ts"
    ) == [(T0, 84055.0, 3.0, "buy"), (T0 + 1, 7.1e-6, 120000.0, "sell")]


def test_depth(store):
    store.insert_rows(
        "btc", [(T0, "dp", "[84055,3],[84054.9,12]|[84055.5,7]"), (T0, "t", "1|1|1|1|0.00000000")]
    )
    assert store.query(
        "SELECT toUnixTimestamp64Milli(ts), bids.price, bids.quantity, asks.price, asks.quantity, best_bid, "
        "best_ask, spread, mid FROM mexc_data.btc_depth"
    ) == [(T0, [84055.0, 84054.9], [3.0, 12.0], [84055.5], [7.0], 84055.0, 84055.5, 0.5, 84055.25)]
    assert dict(columns(store, "btc_depth"))["bids"] == "Array(Tuple(price Float64, quantity Float64))"


@pytest.mark.parametrize(
    ("m", "bids", "asks", "best_bid", "best_ask"),
    [("|", 0, 0, None, None), ("[1,2]|", 1, 0, 1.0, None), ("|[1,2],[2,3]", 0, 2, None, 1.0)],
)
def test_an_empty_side_has_no_best_price(store, m, bids, asks, best_bid, best_ask):
    store.insert_rows("btc", [(T0, "dp", m)])
    assert store.query(
        "SELECT length(bids), length(asks), best_bid, best_ask, spread, mid FROM mexc_data.btc_depth"
    ) == [(bids, asks, best_bid, best_ask, None, None)]


def test_twenty_levels_are_twenty_tuples(store):
    side = ",".join(f"[{84000 + n},{n + 1}]" for n in range(20))
    store.insert_rows("btc", [(T0, "dp", f"{side}|{side}")])
    assert store.query(
        "SELECT length(bids), length(asks), bids[20].1, asks[20].2 FROM mexc_data.btc_depth"
    ) == [(20, 20, 84019.0, 20.0)]


def test_one_bad_row_breaks_no_view(store):
    bad = ["", "|", "garbage", "1|2", "[1,2", "[1,2]|[3", "x|y|z", "None|None|None|None|None", "1|1|9"]
    rows = [(T0 + n, mt, m) for n, m in enumerate(bad) for mt in ("t", "d", "dp")]
    store.insert_rows("btc", [*rows, (T0 + 50, "d", "5|2|1"), (T0, "dl", "raw")])
    # of the nine, "1|2", "1|1|9" (and "1" of either) are numbers; everything else is NULL
    assert store.query("SELECT count(), count(last_price) FROM mexc_data.btc_ticker") == [(9, 2)]
    assert store.query("SELECT price, quantity FROM mexc_data.btc_deals WHERE side = 'buy'") == [(5.0, 2.0)]
    assert store.query("SELECT countIf(side IS NULL), countIf(side = 'sell') FROM mexc_data.btc_deals") == [
        (9, 0)
    ]
    assert store.query("SELECT count(), max(length(bids)) FROM mexc_data.btc_depth") == [(9, 1)]
    for view in ("ticker", "deals", "depth", "candles_1m"):
        store.command(f"SELECT * FROM mexc_data.btc_{view} FORMAT Null")


def test_candles_by_event_time(store):
    store.insert_rows(
        "btc",
        [
            (T0 + 30_000, "d", "101|1|2"),
            (T0 + 1_000, "d", "100|2|1"),  # earlier, stored later: the open
            (T0 + 59_999, "d", "99|4|2"),  # the close
            (T0 + 40_000, "d", "103.5|3|1"),
            (T0 + 60_000, "d", "98|1|1"),
            (T0 + 10_000, "t", "1|1|1|1|0.00000000"),
        ],
    )
    assert store.query(
        "SELECT toUnixTimestamp(ts), open, high, low, close, volume, buy_volume, round(vwap, 6), trades "
        "FROM mexc_data.btc_candles_1m"
    ) == [
        (T0 // 1000, 100.0, 103.5, 99.0, 99.0, 10.0, 5.0, 100.75, 4),
        (T0 // 1000 + 60, 98.0, 98.0, 98.0, 98.0, 1.0, 1.0, 98.0, 1),
    ]


def test_trades_of_one_millisecond_open_and_close_in_the_order_they_were_stored(store):
    # many inserts, so that several blocks and threads are at work
    for part in range(40):
        store.insert_rows("btc", [(T0 + 5, "d", f"{1 + part * 100 + n}|1|1") for n in range(100)])
    for _ in range(10):
        assert store.query("SELECT open, close, trades FROM mexc_data.btc_candles_1m") == [
            (1.0, 4000.0, 4000)
        ]


def test_a_candle_without_quantity_has_no_vwap(store):
    store.insert_rows("btc", [(T0, "d", "100|0|1")])
    assert store.query("SELECT vwap, volume, trades FROM mexc_data.btc_candles_1m") == [(None, 0.0, 1)]


def test_a_filter_on_time_is_on_the_candles_own_time(store):
    store.insert_rows("btc", [(T0 + 60_000 * n, "d", f"{n + 1}|1|1") for n in range(10)])
    assert store.query(
        f"SELECT open FROM mexc_data.btc_candles_1m WHERE ts >= toDateTime({T0 // 1000 + 480}) ORDER BY ts"
    ) == [(9.0,), (10.0,)]


def test_a_spread_is_what_a_person_would_say_it_is(store):
    books = ["[84000,1]|[84000.1,1]", "[0.0000015036,1]|[0.0000015037,1]", "[150.1,1]|[150.3,1]"]
    store.insert_rows("btc", [(1_790_000_000_000 + n, "dp", book) for n, book in enumerate(books)])
    spreads = store.query("SELECT spread FROM mexc_data.btc_depth ORDER BY ts")
    assert spreads == [(0.1,), (1e-10,), (0.2,)]
