"""Frames captured from Coinbase, where they are present beside the checkout; they are no part of the project.

The expected rows come from a second decoder, written here with nothing but `json` and `Decimal`.
"""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.coinbase import Coinbase
from mexcflow.model import BookUpdate, Kind, Ticker, Trade, Wanted

FRAMES = Path(__file__).resolve().parents[2] / "shared/data/frames"

pytestmark = pytest.mark.skipif(
    not FRAMES.is_dir(), reason="the captured frames are not beside this checkout"
)


def lines(*patterns: str) -> list[str]:
    return [
        line
        for pattern in patterns
        for path in sorted(FRAMES.glob(pattern))
        for line in path.read_text().splitlines()
    ]


def exchange(*symbols: str) -> Coinbase:
    return Coinbase(Wanted(symbols=symbols, channels=Coinbase.channels))


def micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def test_every_captured_match_and_ticker_gives_exactly_its_row():
    checked = 0
    for line in lines("coinbase.matches*", "coinbase.ticker*"):
        frame = json.loads(line)
        product, time_us = frame["product_id"], micros(frame["time"])
        (row,) = exchange(product).read(line.encode()).rows
        if frame["type"] == "ticker":
            assert row == Ticker(product, time_us, last=frame["price"])
        else:
            aggressor = "buy" if frame["side"] == "sell" else "sell"
            size, number = frame["size"], str(frame["trade_id"])
            assert row == Trade(product, time_us, number, frame["price"], size, size, aggressor)
        checked += 1
    assert checked > 100


def test_the_side_of_every_captured_trade_is_the_one_its_ticker_names():
    said = {(t["product_id"], t["trade_id"]): t["side"] for t in map(json.loads, lines("coinbase.ticker*"))}
    sides = []
    for line in lines("coinbase.matches*"):
        frame = json.loads(line)
        key = (frame["product_id"], frame["trade_id"])
        if key in said:
            (row,) = exchange(key[0]).read(line.encode()).rows
            sides.append((row.side, said[key]))
    assert {("buy", "buy"), ("sell", "sell")} == set(sides)
    assert len(sides) >= 80


def test_the_newest_captured_trade_spelled_out():
    line = lines("coinbase.matches.jsonl")[0]
    assert exchange("BTC-USD").read(line.encode()).rows == (
        Trade(
            "BTC-USD", 1788335050104422, "1087540758", "77572.87", "0.00000009", "0.00000009", "sell"
        ),
    )  # fmt: skip


def test_the_books_of_2021_are_rebuilt_level_by_level_and_never_cross():
    frames = [json.loads(line) for line in lines("coinbase.level2.2021.jsonl")]
    coinbase = exchange(*{frame["product_id"] for frame in frames})
    books: dict[str, Book] = {}
    model: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    for number, (frame, line) in enumerate(zip(frames, lines("coinbase.level2.2021.jsonl"), strict=True)):
        product = frame["product_id"]
        reading = coinbase.read(line.encode())
        assert reading.kind is Kind.DATA
        (update,) = reading.rows
        assert isinstance(update, BookUpdate)
        assert update.is_snapshot == (frame["type"] == "snapshot")
        if update.is_snapshot:
            books[product] = Book(Coinbase.book_levels)
            changes = [("buy", *level) for level in frame["bids"]]
            changes += [("sell", *level) for level in frame["asks"]]
            model[product] = {"buy": {}, "sell": {}}
            assert update.time_us == 0
        else:
            changes = frame["changes"]
            assert update.time_us == micros(frame["time"])
        books[product].apply(update)
        for side, price, size in changes:
            model[product][side][Decimal(price)] = Decimal(size)
        assert coinbase.check_book(books[product], None, update) == ""
        if number % 50 == 0 or number > len(frames) - 20:
            assert_equal(books[product], model[product])
    for product, book in books.items():
        assert_equal(book, model[product])
    assert len(books) == 10


def assert_equal(book: Book, model: dict[str, dict[Decimal, Decimal]]) -> None:
    for side, levels, descending in (("buy", book.bids, True), ("sell", book.asks, False)):
        expected = sorted(((price, size) for price, size in model[side].items() if size), reverse=descending)
        assert [(Decimal(p), Decimal(s)) for p, s in levels.top(len(levels))] == expected


def test_captured_control_frames_are_told_apart():
    first, second = lines("coinbase.control.jsonl")
    coinbase = exchange("BTC-USD", "ETH-USD")
    ack, error = coinbase.read(first.encode()), coinbase.read(second.encode())
    assert (ack.kind, ack.topics) == (Kind.ACK, ("matches:BTC-USD", "ticker:BTC-USD"))
    assert (error.kind, error.permanent) == (Kind.ERROR, True)
    assert error.topics == ("matches:ETH-USD", "level2_batch:ETH-USD", "ticker:ETH-USD")
    (heartbeat,) = lines("coinbase.heartbeat.jsonl")
    assert coinbase.read(heartbeat.encode()).kind is Kind.PONG
    for line in lines("coinbase.control.2021.jsonl"):
        assert coinbase.read(line.encode()).kind is Kind.ACK
