"""Kraken: what it is asked, its checksum, its list of pairs (single frames are in `frames/`)."""

import json
import zlib

import msgspec
import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.kraken import Kraken
from mexcflow.model import BookUpdate, Instrument, Topic, Undecodable, Wanted

EXCHANGE = Kraken(
    Wanted(
        symbols=("BTC/USD", "DOGE/EUR"),
        channels=("trade", "book", "ticker", "candle"),
        candle_interval="4h",
    )
)


def test_topics_are_named_as_the_acknowledgements_name_them():
    assert EXCHANGE.topics() == tuple(
        Topic("public", f"{theirs}:{symbol}", channel, symbol)
        for channel, theirs in (
            ("trade", "trade"), ("book", "book"), ("ticker", "ticker"), ("candle", "ohlc"),
        )
        for symbol in ("BTC/USD", "DOGE/EUR")
    )  # fmt: skip


def test_each_channel_is_one_frame_with_all_its_pairs():
    requests = EXCHANGE.requests(EXCHANGE.topics(), 11)
    both = ["BTC/USD", "DOGE/EUR"]
    assert [(request.id, json.loads(request.payload)) for request in requests] == [
        (number, {"method": "subscribe", "params": {**params, "snapshot": True}, "req_id": number})
        for number, params in (
            (11, {"channel": "trade", "symbol": both}),
            (12, {"channel": "book", "symbol": both, "depth": 10}),
            (13, {"channel": "ticker", "symbol": both}),
            (14, {"channel": "ohlc", "symbol": both, "interval": 240}),
        )
    ]
    assert [request.topics for request in requests] == [EXCHANGE.topics()[at : at + 2] for at in (0, 2, 4, 6)]


def test_a_book_is_left_and_subscribed_anew_and_no_other():
    frames = EXCHANGE.renew(EXCHANGE.topics()[3], 20)
    params = {"channel": "book", "symbol": ["DOGE/EUR"], "snapshot": True, "depth": 10}
    assert [json.loads(frame) for frame in frames] == [
        {"method": "unsubscribe", "params": params, "req_id": 20},
        {"method": "subscribe", "params": params, "req_id": 21},
    ]


def update(bids, asks, checksum, *, snapshot=False):
    return BookUpdate("BTC/USD", 1_795_168_800_000_000, snapshot, bids, asks, checksum=checksum)


BIDS = [(f"0.0{280 - n}", f"{n}.05000000") for n in range(12)]
ASKS = [(f"1{n:02}.50", "0.00012300") for n in range(12)]


def spelled_out(bids, asks):
    """The text that is summed, made the long way: best ten asks, then best ten bids."""
    text = ""
    for levels in (asks[:10], bids[:10]):
        for price, quantity in levels:
            text += str(int(price.replace(".", ""))) + str(int(quantity.replace(".", "")))
    return text


def test_the_checksum_is_that_of_the_ten_best_asks_and_bids_without_points_and_leading_zeros():
    text = spelled_out(BIDS, ASKS)
    assert text.startswith("10050123001015012300")
    assert text.endswith("2719 05000000".replace(" ", ""))
    right = update(list(reversed(BIDS)), ASKS, zlib.crc32(text.encode()), snapshot=True)
    book = Book(25)
    book.apply(right)
    assert EXCHANGE.check_book(book, None, right) == ""


def test_a_checksum_that_differs_is_said_with_both_numbers():
    book = Book(25)
    wrong = update(BIDS, ASKS, 12345, snapshot=True)
    book.apply(wrong)
    computed = zlib.crc32(spelled_out(BIDS, ASKS).encode())
    assert EXCHANGE.check_book(book, None, wrong) == (
        f"the book comes to the checksum {computed}, Kraken's is 12345"
    )


def test_the_eleventh_level_does_not_count_and_a_digit_of_the_tenth_does():
    book = Book(25)
    checksum = zlib.crc32(spelled_out(BIDS, ASKS).encode())
    book.apply(update(BIDS, ASKS, checksum, snapshot=True))
    eleventh = update([(BIDS[10][0], "77.0")], [], checksum)
    book.apply(eleventh)
    assert EXCHANGE.check_book(book, None, eleventh) == ""
    same_number = update([(BIDS[9][0], BIDS[9][1] + "0")], [], checksum)
    book.apply(same_number)
    assert EXCHANGE.check_book(book, None, same_number) != ""


def test_a_book_of_few_levels_and_an_empty_one_have_a_checksum_too():
    book = Book(25)
    few = update([("0.5", "1")], [], zlib.crc32(b"51"), snapshot=True)
    book.apply(few)
    assert EXCHANGE.check_book(book, None, few) == ""
    empty = update([("0.5", "0")], [], 0)
    book.apply(empty)
    assert EXCHANGE.check_book(book, None, empty) == ""


def test_pairs_are_called_what_the_websocket_calls_them():
    def pair(wsname, **fields):
        return {"wsname": wsname, "pair_decimals": 1, "lot_decimals": 8, "tick_size": "0.1", **fields}

    body = {
        "error": [],
        "result": {
            "XXBTZUSD": pair("XBT/USD", status="online"),
            "XDGEUR": pair("XDG/EUR", tick_size="0.0000001", status="cancel_only"),
            "XETHXXBT": pair("ETH/XBT", lot_decimals=0, status="online"),
            "SOLUSD.d": {"lot_decimals": 8, "altname": "SOLUSD.d"},
        },
    }
    listing = Kraken.read_instruments(json.dumps(body).encode())
    assert listing.next_url == ""
    assert listing.instruments == [
        Instrument(
            symbol="BTC/USD", base="BTC", quote="USD", kind="spot", tick_size="0.1",
            quantity_step="0.00000001", state="trading",
        ),
        Instrument(
            symbol="DOGE/EUR", base="DOGE", quote="EUR", kind="spot", tick_size="0.0000001",
            quantity_step="0.00000001", state="cancel_only",
        ),
        Instrument(
            symbol="ETH/BTC", base="ETH", quote="BTC", kind="spot", tick_size="0.1",
            quantity_step="1", state="trading",
        ),
    ]  # fmt: skip


def test_an_answer_that_is_no_list_of_pairs_is_refused_with_what_it_says():
    with pytest.raises(Undecodable, match="EGeneral:Too many requests"):
        Kraken.read_instruments(b'{"error":["EGeneral:Too many requests"]}')
    with pytest.raises(msgspec.DecodeError):
        Kraken.read_instruments(b"<html>")
