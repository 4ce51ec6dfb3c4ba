"""Kraken spot over its websocket v2, `wss://ws.kraken.com/v2`.

Source: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2, and frames seen from 2024 to 2026.

| channel | theirs | rows |
|---|---|---|
| trade | trade | one a trade; the first frame has the last 50, executed before the subscription |
| book | book | a snapshot of 10 levels a side, then absolute quantities, 0 removes |
| ticker | ticker | the last price; Kraken spot has no more of what we store |
| candle | ohlc | one a candle; the first frame has several, those of minutes without a trade are absent |

Oddities that this file knows of:

- A book has no number, but every frame the CRC32 of its ten best levels, made from the digits as they were
  sent: `0.0280` is another text than `0.028`. Hence all numbers, which are bare JSON, are taken as text.
- A level that falls below the last one is not removed by a message; it is sent again when it comes into view.
- Pairs are `BTC/USD` and `DOGE/USD` here; the list of symbols still calls them `XBT/USD` and `XDG/USD`,
  which the websocket refuses.
- A subscribe frame is answered once for each of its pairs, so that an unknown one costs no other. Some errors
  name no pair, only our id.
- Heartbeats go on whatever is subscribed. A candle is not said to be closed; its own `timestamp` is its end.
"""

import re
import zlib
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec
import orjson
from msgspec import Raw

from mexcflow.exchanges.book import Book, Level
from mexcflow.exchanges.numbers import exact
from mexcflow.exchanges.times import us_if_said, us_of_iso
from mexcflow.exchanges.typed import Limits, Listing
from mexcflow.model import (
    BookUpdate,
    Candle,
    Instrument,
    Kind,
    Request,
    Ticker,
    Topic,
    Trade,
    TypedReading,
    Undecodable,
    Wanted,
)

_LEVELS = 10  # the checksum covers so many; of 25 a lost change could go unseen
_THEIRS = {"trade": "trade", "book": "book", "ticker": "ticker", "candle": "ohlc"}
_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440, "1w": 10080}
_OURS = {theirs: ours for ours, theirs in _THEIRS.items()}
_INTERVALS = {minutes: interval for interval, minutes in _MINUTES.items()}
_TODAY = {"XBT": "BTC", "XDG": "DOGE"}
_DATA = re.compile(rb'"channel"\s*:\s*"(trade|book|ticker|ohlc)"').search
_METHOD = b'"method"'  # what answers to us have and data has not; they name channels, too

_Said = TypeVar("_Said", "_Trade", "_Book", "_Ticker", "_Candle")
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: _Count
    timestamp: str

    def row(self, frame: "_Frame[_Trade]") -> Trade:
        size, time_us = _number(self.qty), us_of_iso(self.timestamp)
        return Trade(self.symbol, time_us, str(self.trade_id), _number(self.price), size, size, self.side)


class _Level(msgspec.Struct, gc=False):
    price: Raw
    qty: Raw


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level]
    asks: list[_Level]
    checksum: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    timestamp: str = ""

    def row(self, frame: "_Frame[_Book]") -> BookUpdate:
        bids, asks = _as_sent(self.bids), _as_sent(self.asks)
        whole, time_us = frame.type == "snapshot", us_if_said(self.timestamp)
        return BookUpdate(self.symbol, time_us, whole, bids, asks, checksum=self.checksum)


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    last: Raw
    timestamp: str = ""

    def row(self, frame: "_Frame[_Ticker]") -> Ticker:
        return Ticker(self.symbol, us_if_said(self.timestamp), last=_number(self.last))


class _Candle(msgspec.Struct, gc=False):
    symbol: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    trades: _Count
    interval_begin: str
    interval: Literal[1, 5, 15, 30, 60, 240, 1440, 10080]

    def row(self, frame: "_Frame[_Candle]") -> Candle:
        interval, open_us = _INTERVALS[self.interval], us_of_iso(self.interval_begin)
        numbers = (self.open, self.high, self.low, self.close, self.volume)
        first, high, low, last, volume = map(_number, numbers)
        time_us, trades = us_of_iso(frame.timestamp), self.trades
        return Candle(self.symbol, time_us, interval, open_us, first, high, low, last, volume, trades=trades)


class _Frame(msgspec.Struct, Generic[_Said], gc=False):
    channel: Literal["trade", "book", "ticker", "ohlc"]
    type: Literal["snapshot", "update"]
    data: list[_Said]
    timestamp: str = ""


class _Control(msgspec.Struct, gc=False):
    channel: str = ""
    method: str = ""
    success: bool = True
    result: dict[str, Any] = {}
    error: str = ""
    symbol: str = ""
    req_id: int | None = None


class _Pair(msgspec.Struct, gc=False):
    lot_decimals: int
    wsname: str = ""
    tick_size: str = ""
    status: str = "online"


class _Pairs(msgspec.Struct, gc=False):
    error: list[str]
    result: dict[str, _Pair] = {}


_READ: dict[bytes, Callable[[bytes], _Frame[Any]]] = {
    b"trade": msgspec.json.Decoder(_Frame[_Trade]).decode,
    b"book": msgspec.json.Decoder(_Frame[_Book]).decode,
    b"ticker": msgspec.json.Decoder(_Frame[_Ticker]).decode,
    b"ohlc": msgspec.json.Decoder(_Frame[_Candle]).decode,
}
_read_control = msgspec.json.Decoder(_Control).decode
_read_pairs = msgspec.json.Decoder(_Pairs).decode


class Kraken:
    """Pairs of Kraken spot, written as in BTC/USD; quantities are in base units."""

    name: ClassVar[str] = "kraken"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "candle")
    sockets: ClassVar[dict[str, str]] = {"public": "wss://ws.kraken.com/v2"}
    # their page: 150 connections in 10 minutes; it says nothing of messages and topics
    limits: ClassVar[Limits] = Limits(messages_per_s=10.0, topics=400, connects_per_s=0.25)
    ping_url: ClassVar[str] = "https://api.kraken.com/0/public/Time"
    instruments_url: ClassVar[str] = "https://api.kraken.com/0/public/AssetPairs"
    heartbeat: ClassVar[bytes] = b'{"method":"ping"}'
    silence_s: ClassVar[float] = 60.0
    ack_timeout_s: ClassVar[float] = 10.0
    intervals: ClassVar[tuple[str, ...]] = tuple(_MINUTES)
    book_depth: ClassVar[int] = _LEVELS
    whole_books: ClassVar[bool] = False
    book_levels: ClassVar[int] = _LEVELS
    consecutive_trades: ClassVar[bool] = True
    example: ClassVar[str] = "BTC/USD"

    def __init__(self, wanted: Wanted) -> None:
        self._topics = tuple(
            Topic("public", f"{_THEIRS[channel]}:{symbol}", channel, symbol)
            for channel in wanted.channels
            for symbol in wanted.symbols
        )
        self._symbols = frozenset(wanted.symbols)
        self._minutes = _MINUTES[wanted.candle_interval] if "candle" in wanted.channels else 0

    def topics(self) -> tuple[Topic, ...]:
        """Return one topic a channel and pair."""
        return self._topics

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return one frame a channel: each of its pairs is answered for itself."""
        by_channel: dict[str, list[Topic]] = {}
        for topic in topics:
            by_channel.setdefault(topic.channel, []).append(topic)
        return [
            Request(number, tuple(mine), self._frame("subscribe", mine, number))
            for number, mine in enumerate(by_channel.values(), first_id)
        ]

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return frames that leave the pair's book and subscribe it anew."""
        methods = ("unsubscribe", "subscribe")
        return [self._frame(method, [topic], number) for number, method in enumerate(methods, first_id)]

    def _frame(self, method: str, topics: list[Topic], request_id: int) -> bytes:
        channel, symbols = topics[0].channel, [topic.symbol for topic in topics]
        more = {"book": {"depth": _LEVELS}, "candle": {"interval": self._minutes}}.get(channel, {})
        params = {"channel": _THEIRS[channel], "symbol": symbols, "snapshot": True, **more}
        return orjson.dumps({"method": method, "params": params, "req_id": request_id})

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether the channel is one of market data."""
        return _DATA(payload) is not None and _METHOD not in payload

    def is_book_delta(self, payload: bytes) -> bool:
        """Say whether the channel is that of books."""
        found = _DATA(payload)
        return found is not None and found[1] == b"book" and _METHOD not in payload

    def unwrap(self, payload: bytes) -> bytes:
        """Return it as it is: Kraken does not compress."""
        return payload

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        found = _DATA(payload)
        if found is None or _METHOD in payload:
            return self._control(_read_control(payload))
        frame = _READ[found[1]](payload)
        rows = []
        for said in frame.data:
            if said.symbol not in self._symbols:
                raise Undecodable(f"a frame of {said.symbol[:40]!r}, which is not recorded here")
            rows.append(said.row(frame))
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, _OURS[frame.channel], rows)

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Compare the checksum of the ten best levels a side, asks first, with the one that was sent."""
        if book is None or update.checksum is None:
            return ""
        levels = [*book.asks.top(_LEVELS), *book.bids.top(_LEVELS)]
        checksum = zlib.crc32("".join(map(_digits, levels)).encode())
        same = checksum == update.checksum
        return "" if same else f"the book comes to the checksum {checksum}, Kraken's is {update.checksum}"

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return all pairs: there is but one page."""
        pairs = _read_pairs(body)
        if pairs.error:
            raise Undecodable(f"no list of pairs: {'; '.join(pairs.error)[:200]}")
        return Listing([_instrument(pair) for pair in pairs.result.values() if pair.wsname])

    def _control(self, frame: _Control) -> TypedReading:
        if frame.channel == "heartbeat" or frame.method == "pong":
            return TypedReading(Kind.PONG)
        said, pair = frame.error, frame.symbol
        if not frame.success or said:
            unknown = said.startswith("Currency pair not supported")
            names = tuple(topic.name for topic in self._topics if unknown and topic.symbol == pair)
            return TypedReading(Kind.ERROR, "", (), said, bool(names), names, None if pair else frame.req_id)
        if frame.method == "subscribe":
            name = f"{frame.result['channel']}:{frame.result['symbol']}"
            return TypedReading(Kind.ACK, topics=tuple(t.name for t in self._topics if t.name == name))
        if frame.channel == "status" or frame.method == "unsubscribe":
            return TypedReading(Kind.SKIPPED)
        raise Undecodable(f"unknown channel {frame.channel[:40]!r}, or method {frame.method[:40]!r}")


@lru_cache(maxsize=4096)  # of twenty levels an update changes one or two
def _digits(level: Level) -> str:
    return "".join([number.replace(".", "").lstrip("0") for number in level])


def _number(raw: Raw) -> str:
    return exact(str(raw, "ascii"))


def _as_sent(levels: list[_Level]) -> list[Level]:
    return [(str(level.price, "ascii"), str(level.qty, "ascii")) for level in levels]


def _instrument(pair: _Pair) -> Instrument:
    base, quote = (_TODAY.get(name, name) for name in pair.wsname.split("/"))
    return Instrument(
        symbol=f"{base}/{quote}",
        base=base,
        quote=quote,
        kind="spot",
        tick_size=pair.tick_size,
        quantity_step=format(Decimal(1).scaleb(-pair.lot_decimals), "f"),
        state="trading" if pair.status == "online" else pair.status,
    )
