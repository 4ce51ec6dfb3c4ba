"""Bybit's frames, each with exactly what it must be read as. They are ours, of the documented shapes."""

import json

import pytest

from mexcflow.exchanges import TYPED
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.bybit import Bybit
from mexcflow.model import BookUpdate, Instrument, Kind, Topic, Undecodable, Wanted
from tests.typed_frames import cases, expected, read

CASES = cases("bybit")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "牛来USDT")
EXCHANGE = Bybit(Wanted(symbols=SYMBOLS, channels=Bybit.channels))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["about"])
def test_frame_is_read_as_exactly_this(case):
    assert read(EXCHANGE, case) == expected(case)


def test_every_kind_and_channel_is_among_the_cases():
    assert {case["kind"] for case in CASES} == set(Kind)
    assert {case["channel"] for case in CASES if case["kind"] == "data"} == set(Bybit.channels)


def test_only_frames_with_a_topic_look_like_market_data_and_books_like_deltas():
    for case in CASES:
        frame = case["frame"].encode()
        if case["kind"] in ("data", "skipped"):
            assert EXCHANGE.is_market_data(frame) is ("channel" in case), case["about"]
            assert EXCHANGE.is_book_delta(frame) is (case.get("channel") == "book"), case["about"]
        if case["kind"] in ("ack", "pong", "error"):
            assert not EXCHANGE.is_market_data(frame), case["about"]
            assert not EXCHANGE.is_book_delta(frame), case["about"]
        assert EXCHANGE.unwrap(frame) is frame


def test_topics_are_the_exchanges_names_in_the_order_of_symbols():
    exchange = Bybit(Wanted(symbols=("BTCUSDT", "ETHUSDT"), channels=Bybit.channels, candle_interval="1h"))
    assert exchange.topics() == (
        Topic("linear", "publicTrade.BTCUSDT", "trade", "BTCUSDT"),
        Topic("linear", "orderbook.50.BTCUSDT", "book", "BTCUSDT"),
        Topic("linear", "tickers.BTCUSDT", "ticker", "BTCUSDT"),
        Topic("linear", "kline.60.BTCUSDT", "candle", "BTCUSDT"),
        Topic("linear", "publicTrade.ETHUSDT", "trade", "ETHUSDT"),
        Topic("linear", "orderbook.50.ETHUSDT", "book", "ETHUSDT"),
        Topic("linear", "tickers.ETHUSDT", "ticker", "ETHUSDT"),
        Topic("linear", "kline.60.ETHUSDT", "candle", "ETHUSDT"),
    )
    assert {topic.socket for topic in exchange.topics()} == set(Bybit.sockets)
    (trades,) = Bybit(Wanted(symbols=("ETHUSDT",), channels=("trade",))).topics()
    assert trades.name == "publicTrade.ETHUSDT"


@pytest.mark.parametrize(
    ("ours", "theirs"), [("1m", "1"), ("5m", "5"), ("1h", "60"), ("4h", "240"), ("1d", "D"), ("1w", "W")]
)
def test_an_interval_is_asked_for_and_read_in_the_words_of_each_side(ours, theirs):
    exchange = Bybit(Wanted(symbols=SYMBOLS, channels=("candle",), candle_interval=ours))
    assert exchange.topics()[0].name == f"kline.{theirs}.BTCUSDT"
    frame = next(case["frame"] for case in CASES if case["about"] == "a candle that goes on")
    (candle,) = exchange.read(frame.replace("kline.1.", f"kline.{theirs}.").encode()).rows
    assert candle.interval == ours
    assert ours in Bybit.intervals


def test_a_candle_that_an_earlier_run_left_keeps_its_own_interval():
    frame = next(case["frame"] for case in CASES if case["about"] == "a candle that goes on")
    exchange = Bybit(Wanted(symbols=SYMBOLS, channels=("candle",), candle_interval="5m"))
    (candle,) = exchange.read(frame.encode()).rows
    assert candle.interval == "1m"


def test_a_request_asks_for_the_topics_of_one_symbol_so_that_an_unknown_one_fails_alone():
    exchange = Bybit(Wanted(symbols=("BTCUSDT", "NOPEUSDT"), channels=("trade", "book")))
    topics = exchange.topics()
    requests = exchange.requests(topics, 7)
    assert [(request.id, request.topics) for request in requests] == [(7, topics[:2]), (8, topics[2:])]
    assert [json.loads(request.payload) for request in requests] == [
        {"op": "subscribe", "args": ["publicTrade.BTCUSDT", "orderbook.50.BTCUSDT"], "req_id": "7"},
        {"op": "subscribe", "args": ["publicTrade.NOPEUSDT", "orderbook.50.NOPEUSDT"], "req_id": "8"},
    ]
    (alone,) = exchange.requests(topics[3:], 12)
    assert (alone.id, alone.topics) == (12, topics[3:])
    assert json.loads(alone.payload)["args"] == ["orderbook.50.NOPEUSDT"]
    assert exchange.requests((), 1) == []


def test_as_many_topics_as_a_connection_may_have_stay_below_its_limit_of_characters():
    symbols = tuple(f"{n}MOGUSDT-26DEC25" for n in range(1_000_000, 1_000_000 + Bybit.limits.topics // 4))
    topics = Bybit(Wanted(symbols=symbols, channels=Bybit.channels)).topics()
    assert len(topics) == Bybit.limits.topics
    assert sum(len(json.dumps(topic.name)) + 1 for topic in topics) <= 21_000


def test_a_book_is_renewed_by_leaving_and_asking_again():
    topic = Topic("linear", "orderbook.50.BTCUSDT", "book", "BTCUSDT")
    assert [json.loads(frame) for frame in EXCHANGE.renew(topic, 41)] == [
        {"op": "unsubscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "41"},
        {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "42"},
    ]


def update(sequence: int, *, snapshot: bool = False) -> BookUpdate:
    return BookUpdate("BTCUSDT", 1, snapshot, [], [], sequence)


@pytest.mark.parametrize(
    ("last", "now", "reason"),
    [
        (500, update(501), ""),
        (500, update(502), "gap: u 502 after 500"),
        (500, update(500), "gap: u 500 after 500"),
        (500, update(499), "gap: u 499 after 500"),
        (None, update(500), "gap: u 500 after no snapshot"),
        (None, update(500, snapshot=True), ""),
        (500, update(700, snapshot=True), ""),
        (500, update(1, snapshot=True), ""),
        (1, update(2), ""),
        (0, update(1), ""),
    ],
)
def test_a_delta_has_to_be_the_next_one_and_a_snapshot_begins_anew(last, now, reason):
    assert EXCHANGE.check_book(Book(), last, now) == reason


def test_a_book_of_snapshot_and_deltas_has_50_levels_and_no_more():
    def frame(kind: str, u: int, bids: list, asks: list) -> bytes:
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": 9}
        return json.dumps(
            {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1790000000123, "data": data}
        ).encode()

    bids = [[f"{1000 - n}.50", f"{n + 1}"] for n in range(50)]
    asks = [[f"{1001 + n}.50", "2"] for n in range(50)]
    book, last = Book(Bybit.book_levels), None
    for payload in (
        frame("snapshot", 10, bids, asks),
        frame("delta", 11, [["1000.60", "7"], ["999.50", "0"]], [["1001.50", "0"], ["1051.50", "3"]]),
        frame("delta", 12, [["1000.70", "8"]], [["1001.40", "1"]]),
    ):
        (row,) = EXCHANGE.read(payload).rows
        book.apply(row)
        assert EXCHANGE.check_book(book, last, row) == ""
        last = row.sequence
    assert book.bids.top(3) == [("1000.70", "8"), ("1000.60", "7"), ("1000.50", "1")]
    assert book.bids.top(99)[3:] == [(f"{1000 - n}.50", f"{n + 1}") for n in range(2, 49)]
    assert book.asks.top(99) == [("1001.40", "1"), *((f"{1002 + n}.50", "2") for n in range(49))]


LINEAR = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC",
    "quoteCoin": "USDT", "settleCoin": "USDT", "deliveryTime": "0",
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001"},
}  # fmt: skip


def page(*rows: dict, cursor: str = "") -> bytes:
    result = {"category": "linear", "list": rows, "nextPageCursor": cursor}
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": 1790000000123}).encode()


def test_the_list_of_symbols_is_read_page_by_page():
    future = {**LINEAR, "symbol": "BTCUSDT-26DEC25", "contractType": "LinearFutures", "status": "PreLaunch"}
    listing = Bybit.read_instruments(page(LINEAR, future, cursor="first%3DBTC%26last%3DETH&x=1"))
    bitcoin = Instrument(
        symbol="BTCUSDT", base="BTC", quote="USDT", kind="perpetual", tick_size="0.10", quantity_step="0.001"
    )
    assert listing.instruments == [
        bitcoin,
        Instrument(
            symbol="BTCUSDT-26DEC25",
            base="BTC",
            quote="USDT",
            kind="future",
            tick_size="0.10",
            quantity_step="0.001",
            state="prelaunch",
        ),
    ]
    assert listing.next_url == Bybit.instruments_url + "&cursor=first%3DBTC%26last%3DETH%26x%3D1"
    assert Bybit.read_instruments(page(LINEAR)) == ([bitcoin], "")


def test_a_refused_list_says_why():
    with pytest.raises(Undecodable, match="10006 Too many visits"):
        Bybit.read_instruments(b'{"retCode":10006,"retMsg":"Too many visits!","result":{},"time":1}')


def test_it_is_in_the_registry():
    assert TYPED["bybit"] is Bybit
    assert Bybit.example in SYMBOLS
