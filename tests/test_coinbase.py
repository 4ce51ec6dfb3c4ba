"""Coinbase: what it is asked, and what its file knows beyond single frames (those are in `frames/`)."""

import json

import msgspec
import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.coinbase import Coinbase
from mexcflow.model import BookUpdate, Instrument, Topic, Wanted

EXCHANGE = Coinbase(Wanted(symbols=("BTC-USD", "DOGE-EUR"), channels=("trade", "book", "ticker")))


def test_topics_are_named_as_the_acknowledgement_names_them():
    assert EXCHANGE.topics() == (
        Topic("public", "matches:BTC-USD", "trade", "BTC-USD"),
        Topic("public", "level2_batch:BTC-USD", "book", "BTC-USD"),
        Topic("public", "ticker:BTC-USD", "ticker", "BTC-USD"),
        Topic("public", "matches:DOGE-EUR", "trade", "DOGE-EUR"),
        Topic("public", "level2_batch:DOGE-EUR", "book", "DOGE-EUR"),
        Topic("public", "ticker:DOGE-EUR", "ticker", "DOGE-EUR"),
    )


def test_each_product_has_its_own_frame_for_an_unknown_one_spoils_the_whole_frame():
    requests = EXCHANGE.requests(EXCHANGE.topics(), 3)
    assert [(request.id, request.topics, json.loads(request.payload)) for request in requests] == [
        (
            number,
            EXCHANGE.topics()[at : at + 3],
            {
                "type": "subscribe",
                "product_ids": [product],
                "channels": ["matches", "level2_batch", "ticker", "heartbeat"],
            },
        )
        for number, at, product in ((3, 0, "BTC-USD"), (4, 3, "DOGE-EUR"))
    ]


def test_a_book_is_left_and_subscribed_anew_and_nothing_else():
    frames = EXCHANGE.renew(EXCHANGE.topics()[4], 9)
    assert [json.loads(frame) for frame in frames] == [
        {"type": method, "product_ids": ["DOGE-EUR"], "channels": ["level2_batch"]}
        for method in ("unsubscribe", "subscribe")
    ]


def update(*, bids=(), asks=(), snapshot=False):
    return BookUpdate("BTC-USD", 1_795_168_800_000_000, snapshot, bids, asks)


@pytest.mark.parametrize(
    ("bid", "said"),
    [
        ("81234.99", ""),
        ("81235.000", "the best bid 81235.000 meets the best ask 81235.00"),
        ("81236", "the best bid 81236 meets the best ask 81235.00"),
    ],
)
def test_a_crossed_book_shows_that_something_is_missing(bid, said):
    book = Book()
    book.apply(update(asks=[("81235.00", "0.5")], bids=[("81234.98", "1")], snapshot=True))
    delta = update(bids=[(bid, "0.1")])
    book.apply(delta)
    assert EXCHANGE.check_book(book, None, delta) == said


def test_an_empty_side_crosses_nothing():
    book = Book()
    book.apply(update(bids=[("81234.98", "1")], snapshot=True))
    assert EXCHANGE.check_book(book, None, update()) == ""


def test_products_are_read_with_their_steps_and_states():
    def product(name, **fields):
        base, quote = name.split("-")
        return {
            "id": name, "base_currency": base, "quote_currency": quote, "quote_increment": "0.01",
            "base_increment": "0.00000001", "status": "online", "trading_disabled": False, **fields,
        }  # fmt: skip

    body = [
        product("BTC-USD"),
        product("DOGE-EUR", quote_increment="0.00001", base_increment="0.1", status="delisted"),
        product("SOL-USD", trading_disabled=True),
    ]
    listing = Coinbase.read_instruments(json.dumps(body).encode())
    assert listing.next_url == ""
    assert listing.instruments == [
        Instrument(
            symbol="BTC-USD", base="BTC", quote="USD", kind="spot", contract_size="1", inverse=False,
            tick_size="0.01", quantity_step="0.00000001", state="trading",
        ),
        Instrument(
            symbol="DOGE-EUR", base="DOGE", quote="EUR", kind="spot", contract_size="1", inverse=False,
            tick_size="0.00001", quantity_step="0.1", state="delisted",
        ),
        Instrument(
            symbol="SOL-USD", base="SOL", quote="USD", kind="spot", contract_size="1", inverse=False,
            tick_size="0.01", quantity_step="0.00000001", state="disabled",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [b"", b'{"message":"NotFound"}', b'[{"id":"BTC-USD"}]'])
def test_an_answer_that_is_no_list_of_products_is_refused(body):
    with pytest.raises(msgspec.DecodeError):
        Coinbase.read_instruments(body)
