"""OKX's frames, each with exactly what it must be read as. They are ours, of the documented shapes."""

import json
import zlib

import pytest

from mexcflow.exchanges import TYPED
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.okx import Okx
from mexcflow.model import BookUpdate, Instrument, Kind, Topic, Undecodable, Wanted
from tests.typed_frames import cases, expected, read

CASES = cases("okx")
SIZES = {"BTC-USDT-SWAP": "0.01", "牛来-USDT-SWAP": "1000000"}  # an inverse swap has none
SYMBOLS = ("BTC-USDT-SWAP", "BTC-USD-SWAP", "BTC-USDT", "牛来-USDT-SWAP")
EXCHANGE = Okx(Wanted(symbols=SYMBOLS, channels=Okx.channels, contract_sizes=SIZES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["about"])
def test_frame_is_read_as_exactly_this(case):
    assert read(EXCHANGE, case) == expected(case)


def test_every_kind_and_channel_is_among_the_cases():
    assert {case["kind"] for case in CASES} == set(Kind)
    assert {case["channel"] for case in CASES if case["kind"] == "data"} == set(Okx.channels)


def test_only_frames_with_data_look_like_market_data_and_those_of_books_like_deltas():
    for case in CASES:
        frame = case["frame"].encode()
        if case["kind"] in ("data", "skipped"):
            assert EXCHANGE.is_market_data(frame) is ("channel" in case), case["about"]
            of_books = "channel" in case and json.loads(case["frame"])["arg"]["channel"] == "books"
            assert EXCHANGE.is_book_delta(frame) is of_books, case["about"]
        if case["kind"] in ("ack", "pong", "error"):
            assert not EXCHANGE.is_market_data(frame), case["about"]
        assert EXCHANGE.unwrap(frame) is frame


def test_topics_are_on_two_sockets_and_a_ticker_has_five():
    exchange = Okx(Wanted(symbols=("BTC-USD_UM-SWAP",), channels=Okx.channels, candle_interval="1h"))
    assert [(topic.socket, topic.name, topic.channel) for topic in exchange.topics()] == [
        ("public", "trades:BTC-USD_UM-SWAP", "trade"),
        ("public", "books5:BTC-USD_UM-SWAP", "book"),
        ("public", "tickers:BTC-USD_UM-SWAP", "ticker"),
        ("public", "mark-price:BTC-USD_UM-SWAP", "ticker"),
        ("public", "index-tickers:BTC-USD", "ticker"),
        ("public", "open-interest:BTC-USD_UM-SWAP", "ticker"),
        ("public", "funding-rate:BTC-USD_UM-SWAP", "ticker"),
        ("business", "candle1H:BTC-USD_UM-SWAP", "candle"),
    ]
    assert {topic.socket for topic in exchange.topics()} == set(Okx.sockets)
    assert {topic.symbol for topic in exchange.topics()} == {"BTC-USD_UM-SWAP"}


def test_an_index_is_asked_for_once():
    exchange = Okx(Wanted(symbols=("BTC-USDT-SWAP", "BTC-USDT-261225"), channels=("ticker",)))
    names = [topic.name for topic in exchange.topics()]
    assert names.count("index-tickers:BTC-USDT") == 1
    assert len(names) == len(set(names)) == 9


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("1m", "1m"), ("1h", "1H"), ("4h", "4H"), ("6h", "6Hutc"), ("12h", "12Hutc"), ("1d", "1Dutc")],
)
def test_a_long_interval_begins_at_midnight_in_utc(ours, theirs):
    exchange = Okx(Wanted(symbols=SYMBOLS, channels=("candle",), candle_interval=ours))
    assert exchange.topics()[0].name == f"candle{theirs}:BTC-USDT-SWAP"
    frame = next(case["frame"] for case in CASES if case["about"] == "a candle that is closed")
    (candle,) = exchange.read(frame.replace("candle1m", f"candle{theirs}").encode()).rows
    assert candle.interval == ours
    assert ours in Okx.intervals


def test_a_candle_that_an_earlier_run_left_keeps_its_own_interval():
    frame = next(case["frame"] for case in CASES if case["about"] == "a candle that is closed")
    exchange = Okx(Wanted(symbols=SYMBOLS, channels=("candle",), candle_interval="5m"))
    (candle,) = exchange.read(frame.encode()).rows
    assert candle.interval == "1m"


def test_a_request_asks_for_many_topics_at_once():
    topics = tuple(topic for topic in EXCHANGE.topics() if topic.symbol == "BTC-USDT-SWAP")[:2]
    (request,) = EXCHANGE.requests(topics, 7)
    assert (request.id, request.topics) == (7, topics)
    assert json.loads(request.payload) == {
        "op": "subscribe",
        "args": [
            {"channel": "trades", "instId": "BTC-USDT-SWAP"},
            {"channel": "books5", "instId": "BTC-USDT-SWAP"},
        ],
        "id": "7",
    }
    assert EXCHANGE.requests((), 1) == []


def test_as_many_topics_as_a_connection_may_have_need_requests_of_at_most_64_kb():
    topics = tuple(
        Topic("public", f"index-tickers:{n}MOGMOGMOG-USD_UM-SWAP", "ticker", "x")
        for n in range(Okx.limits.topics)
    )
    requests = EXCHANGE.requests(topics, 1)
    assert [request.id for request in requests] == [1, 2, 3, 4]
    assert sum((request.topics for request in requests), ()) == topics
    assert max(len(request.payload) for request in requests) <= 64_000
    assert len(requests) <= 480 / 10  # an hour; ten new connections in it would still be fine


def test_whole_books_need_no_renewal():
    assert EXCHANGE.renew(Topic("public", "books5:BTC-USDT-SWAP", "book", "BTC-USDT-SWAP"), 1) == []


def delta(sequence: int | None, previous: int | None) -> BookUpdate:
    return BookUpdate("BTC-USDT-SWAP", 1, False, [], [], sequence, previous=previous)


def snapshot(sequence: int | None) -> BookUpdate:
    return BookUpdate("BTC-USDT-SWAP", 1, True, [], [], sequence)


@pytest.mark.parametrize(
    ("last", "now", "reason"),
    [
        (500, delta(531, 500), ""),
        (500, delta(500, 500), ""),  # nothing but a sign of life
        (500, delta(3, 500), ""),  # the exchange counts anew after maintenance
        (500, delta(531, 510), "gap: prevSeqId 510 after 500"),
        (500, delta(531, 490), "gap: prevSeqId 490 after 500"),
        (500, delta(531, -1), "gap: prevSeqId -1 after 500"),
        (None, delta(531, 500), "gap: prevSeqId 500 after no snapshot"),
        (None, delta(None, None), ""),  # as in 2022
        (500, snapshot(531), ""),
        (500, snapshot(3), ""),
        (None, snapshot(3), ""),
    ],
)
def test_an_update_of_books_has_to_follow_the_last(last, now, reason):
    assert EXCHANGE.check_book(Book(), last, now) == reason


@pytest.mark.parametrize(
    ("last", "now", "reason"),
    [
        (None, 500, ""),
        (500, 531, ""),
        (500, 500, ""),
        (500, 499, "backwards: seqId 499 after 500"),
        (500, None, ""),
    ],
)
def test_whole_books_rise(last, now, reason):
    assert EXCHANGE.check_book(None, last, snapshot(now)) == reason


def test_a_checksum_is_of_25_bids_and_asks_by_turns_with_the_digits_as_sent():
    bids = [(f"{100 - n}.50", f"{n + 1}.0") for n in range(30)]
    asks = [("101.10", "2"), ("101.2", "3.10")]
    text = "100.50:1.0:101.10:2:99.50:2.0:101.2:3.10:" + ":".join(f"{p}:{q}" for p, q in bids[2:25])
    checksum = int.from_bytes(zlib.crc32(text.encode()).to_bytes(4, "big"), "big", signed=True)
    update = BookUpdate("BTC-USDT-SWAP", 1, True, bids, asks, checksum=checksum)
    book = Book()
    book.apply(update)
    assert EXCHANGE.check_book(book, None, update) == ""
    book.apply(BookUpdate("BTC-USDT-SWAP", 1, False, [("100.50", "1")], []))  # as much, in other digits
    assert "where it should be" in EXCHANGE.check_book(book, None, update)


def test_a_checksum_of_an_empty_book_and_a_negative_one():
    empty = Book()
    assert EXCHANGE.check_book(empty, None, snapshot(1)) == ""
    wrong = BookUpdate("BTC-USDT-SWAP", 1, True, [], [], checksum=-914047754)
    assert EXCHANGE.check_book(empty, None, wrong) == "checksum 0 where it should be -914047754"
    book = Book()
    book.apply(BookUpdate("BTC-USDT-SWAP", 1, True, [("3366.1", "7")], [("3366.8", "9")]))
    right = BookUpdate("BTC-USDT-SWAP", 1, True, [], [], checksum=0)
    right.checksum = zlib.crc32(b"3366.1:7:3366.8:9") - 2**32
    assert EXCHANGE.check_book(book, None, right) == ""
    right.checksum += 2**32  # it is signed
    assert EXCHANGE.check_book(book, None, right) == (
        f"checksum {right.checksum - 2**32} where it should be {right.checksum}"
    )


SWAP = {
    "instType": "SWAP", "instId": "BTC-USDT-SWAP", "uly": "BTC-USDT", "instFamily": "BTC-USDT",
    "baseCcy": "", "quoteCcy": "", "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC",
    "ctType": "linear", "tickSz": "0.1", "lotSz": "0.01", "minSz": "0.01", "state": "live",
}  # fmt: skip


def test_the_list_of_swaps_is_read():
    rows = [
        SWAP,
        {
            **SWAP,
            "instId": "BTC-USD-SWAP",
            "ctVal": "100",
            "ctValCcy": "USD",
            "ctType": "inverse",
            "lotSz": "1",
        },
        {**SWAP, "instId": "MOG-USD_UM-SWAP", "ctVal": "1000", "ctMult": "10", "state": "suspend"},
        {**SWAP, "instId": "NEW-USDT-SWAP", "ctVal": "", "state": "preopen"},
    ]
    listing = Okx.read_instruments(json.dumps({"code": "0", "data": rows, "msg": ""}).encode())
    bitcoin = {"base": "BTC", "kind": "perpetual", "tick_size": "0.1"}
    assert listing.instruments == [
        Instrument(
            symbol="BTC-USDT-SWAP", quote="USDT", contract_size="0.01", quantity_step="0.01", **bitcoin
        ),
        Instrument(
            symbol="BTC-USD-SWAP",
            quote="USD",
            contract_size="100",
            quantity_step="1",
            inverse=True,
            **bitcoin,
        ),
        Instrument(
            symbol="MOG-USD_UM-SWAP",
            base="MOG",
            quote="USD",
            kind="perpetual",
            contract_size="10000",
            tick_size="0.1",
            quantity_step="0.01",
            state="suspend",
        ),
    ]
    assert listing.next_url == ""


def test_a_refused_list_says_why():
    with pytest.raises(Undecodable, match="50011 Too Many Requests"):
        Okx.read_instruments(b'{"code":"50011","data":[],"msg":"Too Many Requests"}')


def test_it_is_in_the_registry():
    assert TYPED["okx"] is Okx
    assert Okx.example in SYMBOLS
