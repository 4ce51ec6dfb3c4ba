"""Binance's futures and spot: what is asked for, how books are checked, and frames of all shapes.

The rows that each frame must give are held by `test_typed_exchanges.py`.
"""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges.binance import Binance
from mexcflow.exchanges.binance_spot import BinanceSpot
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact
from mexcflow.model import BookUpdate, Instrument, Kind, Topic, Trade, Undecodable, Wanted

WANTED = Wanted(
    symbols=("BTCUSDT", "ETHUSDT", "牛来USDT", "BTCUSDT_270326"),
    channels=("trade", "book", "ticker", "candle"),
)
FUTURES, SPOT = Binance(WANTED), BinanceSpot(WANTED)


def frames(exchange):
    path = Path(__file__).parent / f"frames/{exchange.name}.jsonl"
    return [(exchange, case) for case in map(json.loads, path.read_text().splitlines()) if "frame" in case]


CASES = [*frames(FUTURES), *frames(SPOT)]
DATA = [(exchange, case) for exchange, case in CASES if case["kind"] == "data"]


def name(value) -> str:
    return value["about"] if isinstance(value, dict) else value.name


@pytest.mark.parametrize(("exchange", "case"), CASES, ids=name)
def test_a_frame_that_is_refused_says_why(exchange, case):
    if case["kind"] == "dead_letter" and "text" in case:
        with pytest.raises(Undecodable) as caught:
            exchange.read(case["frame"].encode())
        assert str(caught.value) == case["text"]


@pytest.mark.parametrize("exchange", [FUTURES, SPOT], ids=name)
def test_every_kind_is_among_the_cases_but_pongs_which_are_the_websockets(exchange):
    assert {case["kind"] for one, case in CASES if one is exchange} == set(Kind) - {Kind.PONG}


@pytest.mark.parametrize(("exchange", "case"), CASES, ids=name)
def test_no_frame_is_a_delta_or_compressed(exchange, case):
    payload = case["frame"].encode()
    assert not exchange.is_book_delta(payload)
    assert exchange.unwrap(payload) is payload


def shuffled(value, rng: random.Random):
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return value


@pytest.mark.parametrize(("exchange", "case"), DATA, ids=name)
def test_the_order_of_keys_and_white_space_change_nothing(exchange, case):
    expected = exchange.read(case["frame"].encode())
    for seed in range(5):
        frame = shuffled(json.loads(case["frame"]), random.Random(seed))
        separators = ((",", ":"), (", ", ": "), (" ,\n", "\t: "))[seed % 3]
        text = json.dumps(frame, separators=separators, ensure_ascii=seed % 2 == 0)
        assert exchange.read(text.encode()) == expected
        assert exchange.is_market_data(text.encode()) != expected.polled


def check(exchange, payload: bytes) -> None:
    """Whatever is read from damaged bytes fits into the tables."""
    try:
        reading = exchange.read(payload)
    except ValueError:
        return
    for row in reading.rows:
        assert row.symbol in WANTED.symbols
        assert row.time_us == 0 or 10**15 <= row.time_us < 10**16
        if isinstance(row, Trade):
            assert exact(row.price) == row.price
            assert exact(row.quantity) == row.quantity
            assert int(row.id) >= 0


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DATA), st.data())
def test_a_damaged_frame_is_read_or_refused(chosen, data):
    exchange, case = chosen
    payload = bytearray(case["frame"].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        end = data.draw(st.integers(at, min(len(payload), at + 4)))
        payload[at:end] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"-", b"9", b"{}"]))
        )
        payload = payload or bytearray(b"{")
    check(exchange, bytes(payload))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([FUTURES, SPOT]), st.binary(max_size=60))
def test_bytes_that_are_no_frame_are_refused(exchange, junk):
    check(exchange, junk)
    check(exchange, b'{"stream":"btcusdt@aggTrade","data":' + junk)


@pytest.mark.parametrize("exchange", [FUTURES, SPOT], ids=name)
@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 200_000,
        b'{"stream":"btcusdt@aggTrade","data":' + b"[" * 200_000,
        b'{"stream":"btcusdt@aggTrade","data":{"p":"' + b"1" * 1_000_000 + b'"}}',
        b'{"stream":"btcusdt@aggTrade","data":{"a":' + b"9" * 100_000 + b"}}",
        b'{"stream":"btcusdt@aggTrade',
        b'{"stream":"btcusdt@aggTrade"',
        b'{"stream":"btcusdt@aggTrade","data":{"s":"\xff"}}',
    ],
    ids=["deep", "deep inside", "long text", "long number", "cut", "no data", "not UTF-8"],
)
def test_huge_and_damaged_frames_are_refused(exchange, payload):
    with pytest.raises((ValueError, RecursionError)):
        exchange.read(payload)


def test_topics_of_futures_are_on_two_sockets():
    wanted = Wanted(symbols=("BTCUSDT", "牛来USDT"), channels=Binance.channels, candle_interval="4h")
    assert Binance(wanted).topics() == (
        Topic("market", "btcusdt@aggTrade", "trade", "BTCUSDT"),
        Topic("public", "btcusdt@depth20@100ms", "book", "BTCUSDT"),
        Topic("market", "btcusdt@markPrice@1s", "ticker", "BTCUSDT"),
        Topic("market", "btcusdt@ticker", "ticker", "BTCUSDT"),
        Topic("market", "btcusdt@kline_4h", "candle", "BTCUSDT"),
        Topic("market", "牛来usdt@aggTrade", "trade", "牛来USDT"),
        Topic("public", "牛来usdt@depth20@100ms", "book", "牛来USDT"),
        Topic("market", "牛来usdt@markPrice@1s", "ticker", "牛来USDT"),
        Topic("market", "牛来usdt@ticker", "ticker", "牛来USDT"),
        Topic("market", "牛来usdt@kline_4h", "candle", "牛来USDT"),
    )
    assert Binance.sockets == {
        "public": "wss://fstream.binance.com/public/stream",
        "market": "wss://fstream.binance.com/market/stream",
    }


def test_topics_of_spot_are_on_one_socket():
    wanted = Wanted(
        symbols=("BTCUSDT",), channels=("candle", "book", "ticker", "trade"), candle_interval="1s"
    )
    assert BinanceSpot(wanted).topics() == (
        Topic("market", "btcusdt@kline_1s", "candle", "BTCUSDT"),
        Topic("market", "btcusdt@depth20@100ms", "book", "BTCUSDT"),
        Topic("market", "btcusdt@ticker", "ticker", "BTCUSDT"),
        Topic("market", "btcusdt@aggTrade", "trade", "BTCUSDT"),
    )
    assert list(BinanceSpot.sockets) == ["market"]


@pytest.mark.parametrize("exchange", [FUTURES, SPOT], ids=name)
def test_requests_name_every_topic_once_a_hundred_in_a_frame(exchange):
    topics = tuple(
        Topic("market", f"牛{number}usdt@aggTrade", "trade", f"牛{number}USDT") for number in range(205)
    )
    requests = exchange.requests(topics, 41)
    assert [(request.id, request.topics) for request in requests] == [
        (41, topics[:100]),
        (42, topics[100:200]),
        (43, topics[200:]),
    ]
    for request in requests:
        params = [topic.name for topic in request.topics]
        assert json.loads(request.payload) == {"method": "SUBSCRIBE", "params": params, "id": request.id}
        assert len(request.payload) < 4096
    assert exchange.requests((), 1) == []
    assert exchange.renew(topics[0], 1) == []


def update(first=None, sequence=None, previous=None, *, whole=False):
    return BookUpdate("BTCUSDT", 0, whole, [], [], sequence, first, previous)


@pytest.mark.parametrize(
    ("exchange", "last", "update", "why"),
    [
        (FUTURES, None, update(90, 99, 80), ""),
        (FUTURES, 80, update(90, 99, 80), ""),
        (FUTURES, 80, update(90, 99, 80, whole=True), ""),
        (FUTURES, 80, update(90, 99, 81), "pu 81 after u 80"),
        (FUTURES, 80, update(81, 99, 79), "pu 79 after u 80"),
        (FUTURES, 80, update(90, 99, 85, whole=True), "pu 85 after u 80"),
        # behind a REST snapshot of 95
        (FUTURES, 95, update(90, 99, 80), ""),
        (FUTURES, 95, update(95, 99, 80), ""),
        (FUTURES, 95, update(90, 95, 80), ""),
        (FUTURES, 95, update(96, 99, 95), ""),
        (FUTURES, 95, update(96, 99, 94), "pu 94 after u 95"),
        (FUTURES, 100, update(90, 99, 80), "pu 80 after u 100"),
        (FUTURES, 95, update(sequence=200, whole=True), ""),
        (SPOT, None, update(90, 99), ""),
        (SPOT, 89, update(90, 99), ""),
        (SPOT, 88, update(90, 99), "U 90 after u 88"),
        (SPOT, 99, update(90, 99), "U 90 after u 99"),
        # behind a REST snapshot of 95
        (SPOT, 95, update(90, 99), ""),
        (SPOT, 95, update(90, 96), ""),
        (SPOT, 95, update(90, 95), "U 90 after u 95"),
        (SPOT, 95, update(97, 99), "U 97 after u 95"),
        # whole books
        (SPOT, 95, update(sequence=95, whole=True), ""),
        (SPOT, 95, update(sequence=200, whole=True), ""),
        (SPOT, 95, update(sequence=94, whole=True), "lastUpdateId 94 after 95"),
    ],
)
def test_a_hole_between_two_books_shows(exchange, last, update, why):
    assert exchange.check_book(None, last, update) == why
    assert exchange.check_book(Book(), last, update) == why


@pytest.mark.parametrize("exchange", [FUTURES, SPOT], ids=name)
@pytest.mark.parametrize("last", [None, 89])
def test_a_crossed_book_is_not_whole(exchange, last):
    book = Book()
    changes = BookUpdate("BTCUSDT", 0, False, [("101.5", "1")], [("101.50", "2")], 99, 90, 89)
    book.apply(changes)
    assert exchange.check_book(book, last, changes) == "the book is crossed: bid 101.5, ask 101.50"


def test_a_rest_snapshot_is_a_whole_book():
    body = (
        b'{"lastUpdateId":77,"E":1790000000130,"T":1790000000128,"bids":[["7.50","6"]],"asks":[["7.60","9"]]}'
    )
    assert Binance.read_snapshot(body, "ETHUSDT") == BookUpdate(
        "ETHUSDT", 1790000000128000, True, [("7.50", "6")], [("7.60", "9")], 77
    )
    body = b'{"lastUpdateId":77,"bids":[["7.50","6"]],"asks":[]}'
    assert BinanceSpot.read_snapshot(body, "ETHUSDT") == BookUpdate(
        "ETHUSDT", 0, True, [("7.50", "6")], [], 77
    )
    for refused in (b"", b"{}", b'{"code":-1121,"msg":"Invalid symbol."}', b'{"lastUpdateId":"77"}'):
        for exchange in (Binance, BinanceSpot):
            with pytest.raises(ValueError, match=r"."):
                exchange.read_snapshot(refused, "ETHUSDT")


def listed(symbol, *, status="TRADING", base="BTC", quote="USDT", **more):
    return {"symbol": symbol, "status": status, "baseAsset": base, "quoteAsset": quote, **more}


FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "261.10", "tickSize": "0.10"},
    {"filterType": "MARKET_LOT_SIZE", "stepSize": "7"},
    {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"},
    {"filterType": "MAX_NUM_ORDERS", "limit": 200},
]


def test_the_list_of_contracts():
    body = {
        "timezone": "UTC",
        "symbols": [
            listed("BTCUSDT", contractType="PERPETUAL", filters=FILTERS, onboardDate=1569398400000),
            listed("BTCUSDT_270326", contractType="CURRENT_QUARTER", filters=FILTERS[:1]),
            listed("TSLAUSDT", contractType="TRADIFI_PERPETUAL", base="TSLA", status="PRE_SETTLE"),
            listed("牛来USDT", contractType="", base="牛来", status="PENDING_TRADING"),
            listed("ETHUSDT_270326", contractType="", base="ETH", status="SETTLING"),
        ],
    }
    listing = Binance.read_instruments(json.dumps(body).encode())
    assert listing.next_url == ""
    assert listing.instruments == [
        Instrument(
            symbol="BTCUSDT",
            base="BTC",
            quote="USDT",
            kind="perpetual",
            tick_size="0.10",
            quantity_step="0.001",
        ),
        Instrument(symbol="BTCUSDT_270326", base="BTC", quote="USDT", kind="future", tick_size="0.10"),
        Instrument(symbol="TSLAUSDT", base="TSLA", quote="USDT", kind="perpetual", state="pre_settle"),
        Instrument(symbol="牛来USDT", base="牛来", quote="USDT", kind="perpetual", state="pending_trading"),
        Instrument(symbol="ETHUSDT_270326", base="ETH", quote="USDT", kind="future", state="settling"),
    ]


def test_the_list_of_spot_symbols():
    body = {
        "symbols": [
            listed("BTCUSDT", filters=FILTERS),
            listed("ETHBTC", base="ETH", quote="BTC", status="CANCEL_ONLY"),
        ]
    }
    assert BinanceSpot.read_instruments(json.dumps(body).encode()).instruments == [
        Instrument(
            symbol="BTCUSDT", base="BTC", quote="USDT", kind="spot", tick_size="0.10", quantity_step="0.001"
        ),
        Instrument(symbol="ETHBTC", base="ETH", quote="BTC", kind="spot", state="cancel_only"),
    ]


@pytest.mark.parametrize("exchange", [FUTURES, SPOT], ids=name)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"code":0,"msg":"Service unavailable from a restricted location"}',
        b'{"symbols":[{}]}',
    ],
)
def test_an_answer_that_is_no_list_of_symbols_is_refused(exchange, body):
    with pytest.raises(ValueError, match=r"."):
        exchange.read_instruments(body)
