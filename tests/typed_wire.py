"""What frames of exchanges with typed tables say, told as simply as can be, and what the tables hold.

A second decoder, for the tests of whole recordings: JSON with its digits kept, books as dicts, one function
an exchange. It shares nothing with the one it judges. It reads what the simulator sends and no more.

Rows of both sides: a trade is (symbol, time µs, id, price, quantity, base quantity, side), a book (symbol,
time µs, sequence, bids, asks), a ticker (symbol, time µs, last, mark, index, open interest, funding rate,
next funding ms), a candle (symbol, interval, open ms) and what it came to: open, high, low, close, volume,
quote volume, trades, closed. Numbers are `Decimal`. A time that the frame does not say is 0.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from mexcflow.store import Store, open_store

Levels = tuple[tuple[Decimal, Decimal], ...]

DEPTHS = {"bybit": 50, "coinbase": 20, "kraken": 10}
"""Levels a side that are stored, of the books that are built from deltas."""
SIZES = {"BTC-USDT-SWAP": Decimal("0.01"), "ETH-USDT-SWAP": Decimal("0.1"), "SOL-USDT-SWAP": Decimal(1)}
"""Base units in one contract."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Rows:
    """Rows by table; of each candle what was said last."""

    trades: list[tuple] = field(default_factory=list)
    books: list[tuple] = field(default_factory=list)
    tickers: list[tuple] = field(default_factory=list)
    candles: dict[tuple, tuple] = field(default_factory=dict)

    def add(self, other: "Rows") -> None:
        """Take what another connection said."""
        self.trades += other.trades
        self.books += other.books
        self.tickers += other.tickers
        self.candles |= other.candles


class Wire:
    """One connection of an exchange; `read` tells of one frame, in the order they were sent."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.rows = Rows()
        self._books: dict[str, tuple[dict, dict]] = {}
        self._tickers: dict[str, list] = {}
        self._newest: dict[str, int] = {}
        self._read: Callable[[Any], None] = getattr(self, f"_{exchange.removesuffix('_spot')}")

    def read(self, payload: bytes) -> None:
        """Take one frame; what is no market data says nothing."""
        self._read(json.loads(payload, parse_float=Decimal, parse_int=Decimal))

    # ---- an exchange each

    def _binance(self, frame: Any) -> None:
        if "stream" not in frame:
            return
        data, kind = frame["data"], frame["stream"].partition("@")[2]
        symbol = frame["stream"].partition("@")[0].upper()
        if kind == "aggTrade":
            self._trade(
                symbol, ms(data["T"]), data["a"], data["p"], data["q"], "sell" if data["m"] else "buy"
            )
        elif kind == "depth20@100ms" and self.exchange == "binance":
            self._book(symbol, ms(data["T"]), data["u"], data["b"], data["a"])
        elif kind == "depth20@100ms":
            self._book(symbol, 0, data["lastUpdateId"], data["bids"], data["asks"])
        elif kind == "ticker":
            self._ticker(symbol, ms(data["E"]), {0: data["c"]})
        elif kind == "markPrice@1s":
            said = {1: data["p"], 2: data["i"], 4: data["r"], 5: data["T"]}
            self._ticker(symbol, ms(data["E"]), said)
        else:
            k = data["k"]
            prices = k["o"], k["h"], k["l"], k["c"]
            self._candle(symbol, k["i"], k["t"], prices, (k["v"], k["q"], k["n"]), k["x"])

    def _bybit(self, frame: Any) -> None:
        kind, data = frame.get("topic", ""), frame.get("data")
        if kind.startswith("publicTrade"):
            for one in data:
                side = {"Buy": "buy", "Sell": "sell"}[one["S"]]
                self._trade(one["s"], ms(one["T"]), one["i"], one["p"], one["v"], side)
        elif kind.startswith("orderbook"):
            self._delta(data["s"], data["b"], data["a"], is_whole=frame["type"] == "snapshot")
            self._built(data["s"], ms(frame["cts"]), data["u"])
        elif kind.startswith("tickers"):
            names = ("lastPrice", "markPrice", "indexPrice", "openInterest", "fundingRate", "nextFundingTime")
            said = {place: data[name] for place, name in enumerate(names) if name in data}
            if said:
                self._ticker(data["symbol"], ms(frame["ts"]), said)
        elif kind.startswith("kline"):
            for k in data:
                prices = k["open"], k["high"], k["low"], k["close"]
                more = k["volume"], k["turnover"], None
                self._candle(kind.split(".")[2], "1m", k["start"], prices, more, k["confirm"])

    def _okx(self, frame: Any) -> None:
        if "data" not in frame:
            return
        kind, of = frame["arg"]["channel"], frame["arg"]["instId"]
        places = {"tickers": (0, "last"), "mark-price": (1, "markPx"), "index-tickers": (2, "idxPx")}
        for data in frame["data"]:
            if kind == "trades":
                self._trade(of, ms(data["ts"]), data["tradeId"], data["px"], data["sz"], data["side"])
            elif kind == "books5":
                sides = [[level[:2] for level in data[side]] for side in ("bids", "asks")]
                self._book(of, ms(data["ts"]), data["seqId"], *sides)
            elif kind in places:
                place, name = places[kind]
                of = of if of.endswith("-SWAP") else f"{of}-SWAP"
                self._ticker(of, ms(data["ts"]), {place: data[name]})
            elif kind == "open-interest":
                self._ticker(of, ms(data["ts"]), {3: data["oi"]})
            elif kind == "funding-rate":
                self._ticker(of, ms(data["ts"]), {4: data["fundingRate"], 5: data["fundingTime"]})
            else:
                assert kind == "candle1m"
                self._candle(of, "1m", data[0], data[1:5], (data[6], data[7], None), data[8] == "1")

    def _coinbase(self, frame: Any) -> None:
        kind, symbol = frame["type"], frame.get("product_id", "")
        at = iso(frame["time"]) if "time" in frame else 0
        if kind in ("match", "last_match"):  # its side is that of the order that was resting
            side = {"buy": "sell", "sell": "buy"}[frame["side"]]
            self._trade(symbol, at, frame["trade_id"], frame["price"], frame["size"], side)
        elif kind == "snapshot":
            self._delta(symbol, frame["bids"], frame["asks"], is_whole=True)
            self._built(symbol, at, 0)
        elif kind == "l2update":
            sides = [[c[1:] for c in frame["changes"] if c[0] == side] for side in ("buy", "sell")]
            self._delta(symbol, *sides, is_whole=False)
            self._built(symbol, at, 0)
        elif kind == "ticker":
            self._ticker(symbol, at, {0: frame["price"]})

    def _kraken(self, frame: Any) -> None:
        kind = frame.get("channel")
        for data in frame["data"] if kind in ("trade", "book", "ticker", "ohlc") else ():
            symbol, at = data["symbol"], iso(data["timestamp"])
            if kind == "trade":
                self._trade(symbol, at, data["trade_id"], data["price"], data["qty"], data["side"])
            elif kind == "book":
                sides = [
                    [(level["price"], level["qty"]) for level in data[side]] for side in ("bids", "asks")
                ]
                self._delta(symbol, *sides, is_whole=frame["type"] == "snapshot")
                self._built(symbol, at, 0)
            elif kind == "ticker":
                self._ticker(symbol, at, {0: data["last"]})
            else:
                prices = data["open"], data["high"], data["low"], data["close"]
                begin_ms = iso(data["interval_begin"][:19] + "Z") // 1000
                self._candle(symbol, "1m", begin_ms, prices, (data["volume"], None, data["trades"]), None)

    # ---- a table each

    def _trade(self, symbol: str, at: int, number: Any, price: Any, quantity: Any, side: str) -> None:
        base = Decimal(quantity) * SIZES.get(symbol, 1)
        self.rows.trades.append((symbol, at, str(number), Decimal(price), Decimal(quantity), base, side))

    def _book(self, symbol: str, at: int, sequence: Any, bids: Any, asks: Any) -> None:
        self.rows.books.append((symbol, at, int(sequence), levels(bids), levels(asks)))

    def _delta(self, symbol: str, bids: Any, asks: Any, *, is_whole: bool) -> None:
        if is_whole:
            self._books[symbol] = ({}, {})
        for side, changes in zip(self._books[symbol], (bids, asks), strict=True):
            for price, quantity in changes:
                side[Decimal(price)] = Decimal(quantity)
                if not side[Decimal(price)]:
                    del side[Decimal(price)]

    def _built(self, symbol: str, at: int, sequence: Any) -> None:
        depth = DEPTHS[self.exchange]
        bids, asks = self._books[symbol]
        best = sorted(bids.items(), reverse=True)[:depth], sorted(asks.items())[:depth]
        if self.exchange == "kraken":  # who subscribes to 10 levels forgets those beyond
            self._books[symbol] = dict(best[0]), dict(best[1])
        self._book(symbol, at, sequence, *best)

    def _ticker(self, symbol: str, at: int, said: dict[int, Any]) -> None:
        known = self._tickers.setdefault(symbol, [None] * 6)
        for place, value in said.items():
            known[place] = Decimal(value)
        self.rows.tickers.append((symbol, at, *known))

    def _candle(
        self, symbol: str, interval: str, open_ms: Any, prices: Any, more: Any, closed: bool | None
    ) -> None:
        begun = int(open_ms)
        values = (*map(Decimal, prices), *(None if value is None else Decimal(value) for value in more))
        self.rows.candles[symbol, interval, begun] = (*values, bool(closed))
        before = (symbol, interval, self._newest.get(symbol, begun))
        if closed is None and before[2] < begun:  # no word of a close: the next one closes it
            self.rows.candles[before] = (*self.rows.candles[before][:-1], True)
        self._newest[symbol] = begun


def said(exchange: str, connections: Iterable[Iterable[bytes]]) -> Rows:
    """Return what was said on these connections."""
    rows = Rows()
    for frames in connections:
        wire = Wire(exchange)
        for frame in frames:
            wire.read(frame)
        rows.add(wire.rows)
    return rows


def ms(text: Any) -> int:
    """Return Unix ms as µs."""
    return int(text) * 1000


def iso(text: str) -> int:
    """Return an ISO time as Unix µs."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def levels(pairs: Iterable) -> Levels:
    """Return levels as numbers."""
    return tuple((Decimal(price), Decimal(quantity)) for price, quantity in pairs)


# ---- what the tables hold

_STREAM = "symbol, if(event_time = receive_time, 0, toUnixTimestamp64Micro(event_time))"
_BOOKS = f"""
SELECT {_STREAM}, sequence, toString(`bids.price`), toString(`bids.quantity`), toString(`asks.price`),
       toString(`asks.quantity`)
FROM market_data.books WHERE %s ORDER BY receive_time, event_time, sequence SETTINGS max_threads = 1"""
_TICKERS = f"""
SELECT {_STREAM}, last_price, mark_price, index_price, open_interest, funding_rate,
       toUnixTimestamp64Milli(next_funding_time)
FROM market_data.tickers WHERE %s"""
_CANDLES = """
SELECT symbol, interval, toUnixTimestamp64Milli(open_time), open, high, low, close, volume, quote_volume,
       trades, closed
FROM market_data.candles FINAL WHERE %s"""
_TRADES = f"""
SELECT {_STREAM}, trade_id, price, quantity, base_quantity, toString(side)
FROM market_data.trades FINAL WHERE %s ORDER BY receive_time, trade_id"""


def stored(data: Path, exchange: str = "") -> Rows:
    """Return what the typed tables of a data folder hold, of one exchange or of all."""
    with open_store(str(data), create=False) as store:
        return held(store, exchange)


def held(store: Store, exchange: str = "") -> Rows:
    """Return what the typed tables of a database hold, of one exchange or of all."""
    of = f"exchange = '{exchange}'" if exchange else "true"
    rows = Rows(
        trades=store.query(_TRADES % of),
        books=[
            (*row[:3], levels(_pairs(*row[3:5])), levels(_pairs(*row[5:])))
            for row in store.query(_BOOKS % of)
        ],
        tickers=store.query(_TICKERS % of),
    )
    for symbol, interval, begun, *values in store.query(_CANDLES % of):
        rows.candles[symbol, interval, begun] = (*values[:-1], bool(values[-1]))
    return rows


def _pairs(prices: str, quantities: str) -> Iterator[tuple[str, str]]:
    columns = [column.strip("[]").split(",") for column in (prices, quantities)]
    return zip(*columns, strict=True) if columns[0] != [""] else iter(())


def trades_written(data: Path) -> int:
    """Return how many rows of trades were written, before FINAL."""
    with open_store(str(data), create=False) as store:
        return store.query("SELECT count() FROM market_data.trades")[0][0]


def dead_letters(data: Path) -> list[tuple[str, str, str, str, str]]:
    """Return exchange, symbol, channel, reason and text of each, in the order they came."""
    with open_store(str(data), create=False) as store:
        return store.query(
            "SELECT exchange, symbol, channel, reason, text FROM market_data.dead_letters "
            "ORDER BY receive_time SETTINGS max_threads = 1"
        )


def coverage(data: Path) -> list[tuple[str, str, str, str, int, int]]:
    """Return symbol, channel, state, reason, frames and rows of each interval, by its beginning."""
    with open_store(str(data), create=False) as store:
        return store.query(
            "SELECT symbol, channel, toString(state), reason, frames, rows FROM market_data.coverage FINAL "
            "ORDER BY `from`, symbol, channel, state"
        )
