"""OKX's captured frames, where they are present beside the checkout: they are not part of the project.

The expected rows come from a second decoder, written here with nothing but `json` and `Decimal`; for the best
known frames they are spelled out. The books of 2022 prove themselves: each frame has a checksum of the book.
"""

import json
from decimal import Decimal

import pytest

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.okx import Okx
from mexcflow.model import Kind, Undecodable, Wanted
from tests.typed_frames import CAPTURED, captured, plain, rows

SIZES = {"BTC-USDT-SWAP": "0.01", "SOL-USDT-SWAP": "1"}

pytestmark = pytest.mark.skipif(not CAPTURED.is_dir(), reason="the captured frames are not there")


def exchange_of(line: str) -> Okx:
    symbol = json.loads(line)["arg"]["instId"]
    return Okx(Wanted(symbols=(symbol,), channels=Okx.channels, contract_sizes=SIZES))


def trade_rows(symbol: str, trade: dict) -> dict:
    size = "1" if symbol.count("-") == 1 else SIZES.get(symbol)
    row = {
        "symbol": symbol,
        "time_us": int(trade["ts"]) * 1000,
        "id": trade["tradeId"],
        "price": trade["px"],
        "quantity": trade["sz"],
        "side": trade["side"],
    }
    return {**row, "base_quantity": Decimal(trade["sz"]) * Decimal(size)} if size else row


def book_rows(symbol: str, book: dict) -> dict:
    names = {"sequence": "seqId", "previous": "prevSeqId", "checksum": "checksum"}
    row = {
        "symbol": symbol,
        "time_us": int(book["ts"]) * 1000,
        "bids": [level[:2] for level in book["bids"]],
        "asks": [level[:2] for level in book["asks"]],
    }
    numbers = {ours: book[theirs] for ours, theirs in names.items() if book.get(theirs, 0) not in (0, -1)}
    return {**row, **numbers}


def ticker_rows(symbol: str, ticker: dict) -> dict:
    return {"symbol": symbol, "time_us": int(ticker["ts"]) * 1000, "last": ticker["last"]}


def candle_rows(symbol: str, candle: list[str]) -> dict:
    row = dict(zip(("open", "high", "low", "close"), candle[1:5], strict=True))
    row["volume"] = candle[5] if symbol.count("-") == 1 else candle[6]
    if len(candle) == 9:
        row |= {"quote_volume": candle[7], "closed": candle[8] == "1"}
    return {"symbol": symbol, "interval": "1m", "time_us": 0, "open_us": int(candle[0]) * 1000, **row}


FILES = {
    "okx_*.trades*.jsonl": ("trade", trade_rows),
    "okx_*.books.*.jsonl": ("book", book_rows),
    "okx_*.books5.*.jsonl": ("book", book_rows),
    "okx_*.tickers*.jsonl": ("ticker", ticker_rows),
    "okx_*.candle1m*.jsonl": ("candle", candle_rows),
}


@pytest.mark.parametrize("pattern", FILES)
def test_every_captured_frame_gives_exactly_its_rows(pattern):
    channel, expected = FILES[pattern]
    lines = captured(pattern)
    assert lines
    for line in lines:
        frame, exchange = json.loads(line), exchange_of(line)
        reading = exchange.read(line.encode())
        assert (reading.kind, reading.channel) == (Kind.DATA, channel)
        symbol = frame["arg"]["instId"]
        found = rows(reading)
        for row in found:
            if channel == "book":
                assert row.pop("is_snapshot") is (frame.get("action") != "update")
            if "base_quantity" in row:
                row["base_quantity"] = Decimal(row["base_quantity"])
        assert found == [expected(symbol, data) for data in frame["data"]]
        assert exchange.is_market_data(line.encode())
        assert exchange.is_book_delta(line.encode()) is (frame["arg"]["channel"] == "books")


def test_some_captured_rows_spelled_out():
    found = [
        row
        for line in captured(
            "okx_swap.trades.jsonl", "okx_spot.candle1m.jsonl", "okx_swap.candle1m.2022.jsonl"
        )
        for row in rows(exchange_of(line).read(line.encode()))
    ]
    assert {
        "symbol": "BTC-USDT-SWAP",
        "time_us": 1781416584831000,
        "id": "2701364977",
        "price": "64311",
        "quantity": "31.27",
        "base_quantity": "0.3127",
        "side": "buy",
    } in found
    assert {
        "symbol": "BTC-USDT",
        "time_us": 0,
        "open_us": 1789470120000000,
        "interval": "1m",
        "open": "77082.7",
        "high": "77116.6",
        "low": "77082.6",
        "close": "77116.6",
        "volume": "1.57843610",
        "quote_volume": "121697.290334104",
        "closed": False,
    } in found
    assert [(row["symbol"], row["volume"]) for row in found[-2:]] == [
        ("BTC-USD-SWAP", "6.7561"),
        ("BTC-USDT-SWAP", "40.7"),
    ]
    assert "closed" not in found[-1]


def test_the_captured_funding_rate_has_no_time_and_is_due_at_its_funding_time():
    found = [
        row
        for line in captured("okx_swap.funding_rate.2022.jsonl")
        for row in rows(exchange_of(line).read(line.encode()))
    ]
    assert [(row["symbol"], row["funding_rate"]) for row in found] == [
        ("BTC-USD-SWAP", "0.0000734174532791"),
        ("BTC-USDT-SWAP", "0.0001534702159002"),
    ]
    assert {(row["time_us"], row["next_funding_us"]) for row in found} == {(0, 1646323200000000)}


def sequence(market: str) -> list[str]:
    return captured(f"okx_{market}.books.2022.jsonl")


@pytest.mark.parametrize("market", ["futures", "spot", "swap"])
def test_the_captured_sequence_rebuilds_the_book_level_by_level_and_every_checksum_is_right(market):
    lines = sequence(market)
    assert len(lines) > 60
    exchange, book = exchange_of(lines[0]), Book()
    sides: dict[str, dict[Decimal, list[str]]] = {"bids": {}, "asks": {}}
    for line in lines:
        (row,) = exchange.read(line.encode()).rows
        book.apply(row)
        assert row.checksum == json.loads(line)["data"][0]["checksum"] != 0
        assert exchange.check_book(book, None, row) == ""
        for side, levels in sides.items():
            for price, quantity, *_ in json.loads(line)["data"][0][side]:
                levels[Decimal(price)] = [price, quantity]
                if quantity == "0":
                    del levels[Decimal(price)]
        assert [list(level) for level in book.bids.top(500)] == best(sides["bids"], reverse=True)
        assert [list(level) for level in book.asks.top(500)] == best(sides["asks"], reverse=False)
        assert not book.crossed


def best(levels: dict[Decimal, list[str]], *, reverse: bool) -> list[list[str]]:
    return [level for _, level in sorted(levels.items(), reverse=reverse)]


@pytest.mark.parametrize("market", ["futures", "spot", "swap"])
def test_a_captured_update_that_is_left_out_shows_in_the_checksum(market):
    lines = sequence(market)
    exchange, book = exchange_of(lines[0]), Book()
    reasons = []
    for line in lines[:5] + lines[6:]:
        (row,) = exchange.read(line.encode()).rows
        book.apply(row)
        reasons.append(exchange.check_book(book, None, row))
    assert not any(reasons[:5])
    assert reasons[5].startswith("checksum ")
    assert reasons[5].endswith(f"should be {json.loads(lines[6])['data'][0]['checksum']}")


def test_the_captured_update_of_2026_follows_its_snapshot():
    lines = captured("okx_spot.books.trimmed.jsonl")
    exchange = exchange_of(lines[0])
    snapshot, update = [exchange.read(line.encode()).rows[0] for line in lines]
    book = Book()
    book.apply(snapshot)
    assert exchange.check_book(book, None, snapshot) == ""
    book.apply(update)
    assert exchange.check_book(book, 32032594283, update) == ""
    assert exchange.check_book(book, 32032594282, update) == "gap: prevSeqId 32032594283 after 32032594282"
    assert book.bids.top(9) == [("120.65", "46.716665")]
    assert book.asks.top(9) == [("120.67", "60.475897"), ("120.68", "83.806786")]


def test_the_captured_answers_are_told_apart():
    exchange = Okx(Wanted(symbols=("BTC-USDT",), channels=Okx.channels))
    for line in captured("okx_*.control*.jsonl"):
        frame, reading = json.loads(line), plain(exchange.read(line.encode()))
        if frame["event"] == "subscribe":
            name = f"{frame['arg']['channel']}:{frame['arg']['instId']}"
            assert reading == {"kind": "ack", "topics": [name]}
        else:
            assert reading == {
                "kind": "error",
                "topics": ["candle1m:BTC-USDT"],
                "permanent": True,
                "text": f"60018 {frame['msg']}",
            }


def test_captured_frames_of_other_channels_are_dead_letters():
    for line in captured("okx_swap.bbo_tbt*", "okx_swap.books_l2_tbt*"):
        with pytest.raises(Undecodable, match="unknown channel"):
            exchange_of(line).read(line.encode())
