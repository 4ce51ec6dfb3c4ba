"""Frames captured from Kraken, where they are present beside the checkout; they are no part of the project.

The expected rows come from a second decoder, written here with nothing but `json` and `Decimal`.
"""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.kraken import Kraken
from mexcflow.model import BookUpdate, Candle, Kind, Ticker, Trade, Wanted

FRAMES = Path(__file__).resolve().parents[2] / "shared/data/frames"

pytestmark = pytest.mark.skipif(
    not FRAMES.is_dir(), reason="the captured frames are not beside this checkout"
)


class Number(str):
    """A number as it was written."""


def lines(name: str) -> list[str]:
    return (FRAMES / f"kraken_v2.{name}.jsonl").read_text().splitlines()


def parsed(line: str) -> dict:
    return json.loads(line, parse_float=Number, parse_int=Number)


def exchange(*symbols: str) -> Kraken:
    return Kraken(Wanted(symbols=symbols, channels=Kraken.channels))


def micros(text: str) -> int:
    moment = datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def expected(frame: dict) -> list:
    rows = []
    for said in frame["data"]:
        symbol, time_us = said["symbol"], micros(said["timestamp"])
        if frame["channel"] == "trade":
            quantity = said["qty"]
            rows.append(
                Trade(symbol, time_us, said["trade_id"], said["price"], quantity, quantity, said["side"])
            )
        elif frame["channel"] == "ticker":
            rows.append(Ticker(symbol, time_us, last=said["last"]))
        elif frame["channel"] == "ohlc":
            prices = [said[key] for key in ("open", "high", "low", "close", "volume")]
            opens, now_us = micros(said["interval_begin"]), micros(frame["timestamp"])
            rows.append(Candle(symbol, now_us, "1m", opens, *prices, trades=int(said["trades"])))
        else:
            sides = [[(level["price"], level["qty"]) for level in said[side]] for side in ("bids", "asks")]
            whole, checksum = frame["type"] == "snapshot", int(said["checksum"])
            rows.append(BookUpdate(symbol, time_us, whole, *sides, checksum=checksum))
    return rows


def test_every_captured_frame_of_data_gives_exactly_its_rows():
    checked = 0
    for name in ("trade", "ticker", "ohlc", "book", "book_session"):
        for line in lines(name):
            frame = parsed(line)
            if frame.get("channel") in ("trade", "ticker", "ohlc", "book"):
                reading = exchange(frame["data"][0]["symbol"]).read(line.encode())
                assert reading.kind is Kind.DATA
                assert list(reading.rows) == expected(frame)
                checked += 1
    assert checked == 37


def test_the_newest_captured_trade_and_candle_spelled_out():
    (trade,) = exchange("ETH/USD").read(lines("trade")[0].encode()).rows
    assert trade == Trade(
        "ETH/USD", 1783465204585581, "64175815", "1774.14", "0.00147959", "0.00147959", "buy"
    )
    (candle,) = exchange("BTC/USDT").read(lines("ohlc")[1].encode()).rows
    assert candle == Candle(
        "BTC/USDT", 1789061752114514, "1m", 1789061700000000, "77499.9", "77509.2", "77467.5", "77509.2",
        "0.58051276", trades=15,
    )  # fmt: skip


def test_the_captured_session_rebuilds_the_book_level_by_level_and_every_checksum_is_right():
    kraken = exchange("MINA/GBP")
    book = Book(25)
    model: dict[str, dict[Decimal, Decimal]] = {}
    kinds = []
    for line in lines("book_session"):
        reading = kraken.read(line.encode())
        kinds.append(reading.kind)
        if reading.kind is not Kind.DATA:
            continue
        (update,) = reading.rows
        (said,) = parsed(line)["data"]
        book.apply(update)
        assert kraken.check_book(book, None, update) == ""
        if update.is_snapshot:
            model = {"bids": {}, "asks": {}}
        for side, better in (("bids", True), ("asks", False)):
            model[side] |= {Decimal(level["price"]): Decimal(level["qty"]) for level in said[side]}
            left = sorted(((p, q) for p, q in model[side].items() if q), reverse=better)[:25]
            model[side] = dict(left)
            levels = getattr(book, side).top(25)
            assert [(Decimal(price), Decimal(quantity)) for price, quantity in levels] == left
    assert [kinds.count(kind) for kind in (Kind.DATA, Kind.PONG, Kind.ACK, Kind.SKIPPED)] == [30, 60, 1, 1]
    assert book.bids.top(4) == [
        ("0.0286", "74198.19125726"), ("0.0285", "18831.49589194"), ("0.0281", "173.01796684"),
        ("0.0278", "13018.62844188"),
    ]  # fmt: skip


def test_without_one_update_of_the_session_the_next_checksum_shows_it():
    kraken = exchange("MINA/GBP")
    updates = [
        update
        for line in lines("book_session")
        if (reading := kraken.read(line.encode())).kind is Kind.DATA
        for update in reading.rows
    ]
    unnoticed = []
    for missing in range(1, len(updates) - 1):
        book = Book(Kraken.book_levels)
        for update in updates[:missing]:
            book.apply(update)
        book.apply(updates[missing + 1])
        if not kraken.check_book(book, None, updates[missing + 1]):
            unnoticed.append(missing)
    assert unnoticed == [7]  # the 8th says anew all that the 7th said


def test_captured_control_frames_are_told_apart():
    kraken = exchange("BTC/USDT", "USDT/USD", "NOPE/USD")
    readings = [kraken.read(line.encode()) for line in lines("control")]
    assert [(reading.kind, reading.permanent, reading.topics) for reading in readings] == [
        (Kind.SKIPPED, False, ()),
        (Kind.ACK, False, ("ohlc:BTC/USDT",)),
        (Kind.ERROR, False, ()),
        (Kind.PONG, False, ()),
        (Kind.SKIPPED, False, ()),
        (Kind.ACK, False, ("ticker:USDT/USD",)),
        (Kind.ERROR, True, tuple(f"{theirs}:NOPE/USD" for theirs in ("trade", "book", "ticker", "ohlc"))),
    ]
    assert readings[2].text == "Currency pair not supported XBT/USDT"
