"""Bybit's captured frames, where they are present beside the checkout: they are not part of the project.

The expected rows come from a second decoder, written here with nothing but `json`; for the best known frames
they are spelled out.
"""

import json
from decimal import Decimal

import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.bybit import Bybit
from mexcflow.model import Kind, Undecodable, Wanted
from tests.typed_frames import CAPTURED, captured, plain, rows

EXCHANGE = Bybit(Wanted(symbols=("BTCUSDT",), channels=Bybit.channels))

pytestmark = pytest.mark.skipif(not CAPTURED.is_dir(), reason="the captured frames are not there")


def book_rows(frame: dict) -> list[dict]:
    data = frame["data"]
    return [
        {
            "symbol": data["s"],
            "time_us": frame["cts"] * 1000,
            "is_snapshot": frame["type"] == "snapshot",
            "bids": data["b"],
            "asks": data["a"],
            "sequence": data["u"],
        }
    ]


def trade_rows(frame: dict) -> list[dict]:
    return [
        {
            "symbol": trade["s"],
            "time_us": trade["T"] * 1000,
            "id": trade["i"],
            "price": trade["p"],
            "quantity": trade["v"],
            "base_quantity": trade["v"],
            "side": trade["S"].lower(),
        }
        for trade in frame["data"]
    ]


def ticker_rows(frame: dict) -> list[dict]:
    names = {
        "last": "lastPrice",
        "mark": "markPrice",
        "index": "indexPrice",
        "open_interest": "openInterest",
        "funding_rate": "fundingRate",
    }
    data = frame["data"]
    row = {ours: data[theirs] for ours, theirs in names.items() if theirs in data}
    if "nextFundingTime" in data:
        row["next_funding_us"] = int(data["nextFundingTime"]) * 1000
    return [{"symbol": data["symbol"], "time_us": frame["ts"] * 1000, **row}]


def candle_rows(frame: dict) -> list[dict]:
    return [
        {
            "symbol": "BTCUSDT",
            "time_us": frame["ts"] * 1000,
            "interval": "1m",
            "open_us": candle["start"] * 1000,
            "open": candle["open"],
            "high": candle["high"],
            "low": candle["low"],
            "close": candle["close"],
            "volume": candle["volume"],
            "quote_volume": candle["turnover"],
            "closed": candle["confirm"],
        }
        for candle in frame["data"]
    ]


FILES = {
    "bybit_linear.publicTrade.jsonl": ("trade", trade_rows),
    "bybit_*.orderbook50.jsonl": ("book", book_rows),
    "bybit_linear.tickers.jsonl": ("ticker", ticker_rows),
    "bybit_linear.kline.testnet.jsonl": ("candle", candle_rows),
}


@pytest.mark.parametrize("pattern", FILES)
def test_every_captured_frame_gives_exactly_its_rows(pattern):
    channel, expected = FILES[pattern]
    lines = captured(pattern)
    assert lines
    for line in lines:
        reading = EXCHANGE.read(line.encode())
        assert (reading.kind, reading.channel) == (Kind.DATA, channel)
        assert rows(reading) == expected(json.loads(line))
        assert EXCHANGE.is_market_data(line.encode())
        assert EXCHANGE.is_book_delta(line.encode()) is (channel == "book")


def test_some_captured_rows_spelled_out():
    trades = [row for line in captured("bybit_linear.publicTrade.jsonl") for row in trade_of(line)]
    assert ("109378.90", "0.020", "buy", 1758841135823000) in trades
    assert ("64345.20", "0.010", "sell", 1781415763021000) in trades
    assert trades[4] == ("69916.80", "0.032", "sell", 1774021164272000)
    tickers = [
        rows(EXCHANGE.read(line.encode()))[0]
        for line in captured("bybit_linear.tickers.jsonl")
        if '"snapshot"' in line
    ]
    assert {
        "symbol": "BTCUSDT",
        "time_us": 1786659827683000,
        "last": "63561.60",
        "mark": "63560.80",
        "index": "63585.51",
        "open_interest": "59972.256",
        "funding_rate": "0.00005013",
        "next_funding_us": 1786665600000000,
    } in tickers


def trade_of(line: str) -> list[tuple]:
    return [
        (trade.price, trade.quantity, trade.side, trade.time_us)
        for trade in EXCHANGE.read(line.encode()).rows
    ]


@pytest.mark.parametrize("market", ["linear", "spot"])
def test_the_captured_snapshot_and_delta_rebuild_the_book_level_by_level(market):
    lines = captured(f"bybit_{market}.orderbook50.jsonl")[:2]
    sides: dict[str, dict[str, list[str]]] = {"b": {}, "a": {}}
    book, last = Book(Bybit.book_levels), None
    for line in lines:
        (row,) = EXCHANGE.read(line.encode()).rows
        book.apply(row)
        assert EXCHANGE.check_book(book, last, row) == ""
        last = row.sequence
        for side, levels in sides.items():
            for price, quantity in json.loads(line)["data"][side]:
                assert quantity != "0" or price in levels, "the delta removes what is there"
                levels[price] = [price, quantity]
                if quantity == "0":
                    del levels[price]
    bids = sorted(sides["b"].values(), key=lambda level: -Decimal(level[0]))
    asks = sorted(sides["a"].values(), key=lambda level: Decimal(level[0]))
    assert (len(bids), len(asks)) == (50, 50)
    assert [list(level) for level in book.bids.top(99)] == bids
    assert [list(level) for level in book.asks.top(99)] == asks
    assert not book.crossed


def test_a_captured_delta_of_another_day_does_not_follow():
    snapshot, delta, other = [
        EXCHANGE.read(line.encode()).rows[0] for line in captured("bybit_linear.orderbook50.jsonl")
    ]
    assert EXCHANGE.check_book(None, snapshot.sequence, delta) == ""
    reason = f"gap: u 21111423 after {delta.sequence}"
    assert EXCHANGE.check_book(None, delta.sequence, other) == reason


def test_the_captured_answers_are_told_apart():
    readings = [plain(EXCHANGE.read(line.encode())) for line in captured("bybit_linear.control.jsonl")]
    assert readings[:3] == [{"kind": "ack"}, {"kind": "ack"}, {"kind": "pong"}]
    assert {reading["kind"] for reading in readings[3:]} <= {"error"}


def test_a_captured_book_of_another_depth_was_not_asked_for():
    for line in captured("bybit_linear.orderbook1.jsonl"):
        with pytest.raises(Undecodable, match=r"orderbook\.1\.BTCUSDT"):
            EXCHANGE.read(line.encode())
