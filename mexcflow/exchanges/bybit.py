"""Bybit v5, linear contracts (USDT and USDC), over `wss://stream.bybit.com/v5/public/linear`.

Source: https://bybit-exchange.github.io/docs/v5/ws/connect, and frames seen live in 2025 and 2026.

| topic | rows |
|---|---|
| publicTrade.{symbol} | a trade each; `S` is the taker's side, `v` base units, `i` a UUID |
| orderbook.50.{symbol} | a snapshot, then deltas, at `cts` (the engine's clock, as in trades) or else `ts` |
| tickers.{symbol} | a snapshot, then deltas with nothing but the changed fields |
| kline.{interval}.{symbol} | one or two candles (on the hour the closed one and the new one), at frame `ts` |

Oddities that this file knows of:

- One topic that does not exist fails its whole request: the others of that request stay silent. So a
  request asks for the topics of one symbol. The answer carries `req_id`, and only its text names the topic.
- A topic that is subscribed already is answered as a failure, and goes on: for us that is an acknowledgement.
- A pong is `"op":"ping"` with `"ret_msg":"pong"` here, `"op":"pong"` on other sockets of this exchange.
- `u` of the book rises by one a message; 1 means that the service was restarted, and is a snapshot
  whatever the frame's type. `seq` orders events across topics; it is no number of a message.
- `openInterest` counts both sides, twice what `singleOpenInterest` says. It is stored as sent.
- Fields that a contract does not have (funding of a future with a last day) are empty texts, or times of 0.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec
import orjson

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact, exact_or_none
from mexcflow.exchanges.times import us_of_ms
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

_REST = "https://api.bybit.com/v5/market/"
_LEVELS = 50
_PREFIXES = {"trade": "publicTrade.", "book": f"orderbook.{_LEVELS}.", "ticker": "tickers."}
_SIDES = {"Buy": "buy", "Sell": "sell"}
_INTERVALS = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "2h": "120", "4h": "240",
    "6h": "360", "12h": "720", "1d": "D", "1w": "W", "1M": "M",
}  # fmt: skip
_KLINES = {f"kline.{theirs}.": ours for ours, theirs in _INTERVALS.items()}
_NAMED_TOPICS = re.compile(r"(?:orderbook|publicTrade|tickers|kline)\.[^\s,\[\]\"]+").findall

_Data = TypeVar("_Data")
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Trade(msgspec.Struct, gc=False):
    T: int
    s: str
    S: str
    v: str
    p: str
    i: _Id


class _Book(msgspec.Struct, gc=False):
    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: _Sequence


class _Ticker(msgspec.Struct, gc=False, rename="camel"):
    symbol: str
    last_price: str = ""
    mark_price: str = ""
    index_price: str = ""
    open_interest: str = ""
    funding_rate: str = ""
    next_funding_time: str = ""


class _Candle(msgspec.Struct, gc=False):
    start: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    confirm: bool


class _Frame(msgspec.Struct, Generic[_Data], gc=False):
    topic: str
    type: Literal["snapshot", "delta"]
    ts: int
    data: _Data
    cts: int = 0


class _AnyFrame(msgspec.Struct, gc=False):
    topic: str = ""
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


_read_trades = msgspec.json.Decoder(_Frame[list[_Trade]]).decode
_read_book = msgspec.json.Decoder(_Frame[_Book]).decode
_read_ticker = msgspec.json.Decoder(_Frame[_Ticker]).decode
_read_candles = msgspec.json.Decoder(_Frame[list[_Candle]]).decode
_read_any = msgspec.json.Decoder(_AnyFrame).decode


class Bybit:
    """Several linear contracts of Bybit over one socket; quantities are in base units."""

    name: ClassVar[str] = "bybit"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "candle")
    sockets: ClassVar[dict[str, str]] = {"linear": "wss://stream.bybit.com/v5/public/linear"}
    # 21,000 characters of args a connection: 42 a topic; 500 connects in 5 min; no word about messages
    limits: ClassVar[Limits] = Limits(messages_per_s=20, topics=500, connects_per_s=1.5)
    ping_url: ClassVar[str] = _REST + "time"
    instruments_url: ClassVar[str] = _REST + "instruments-info?category=linear&limit=1000"
    heartbeat: ClassVar[bytes] = b'{"op":"ping"}'
    silence_s: ClassVar[float] = 65.0  # quiet books say nothing for 36 s, a candle comes once a minute
    ack_timeout_s: ClassVar[float] = 15.0
    intervals: ClassVar[tuple[str, ...]] = tuple(_INTERVALS)
    book_depth: ClassVar[int] = _LEVELS
    whole_books: ClassVar[bool] = False
    book_levels: ClassVar[int] = _LEVELS
    consecutive_trades: ClassVar[bool] = False
    example: ClassVar[str] = "BTCUSDT"

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._prefixes = _PREFIXES | {"candle": f"kline.{_INTERVALS[wanted.candle_interval]}."}
        self._symbols = {p + s: s for s in wanted.symbols for p in (*_PREFIXES.values(), *_KLINES)}

    def topics(self) -> tuple[Topic, ...]:
        """Return a topic a symbol and channel."""
        return tuple(
            Topic("linear", self._prefixes[channel] + symbol, channel, symbol)
            for symbol in self._wanted.symbols
            for channel in self._wanted.channels
        )

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return one request a symbol: one that is not known then fails alone."""
        by_symbol: dict[str, list[Topic]] = {}
        for topic in topics:
            by_symbol.setdefault(topic.symbol, []).append(topic)
        return [
            Request(request, tuple(group), _ask("subscribe", group, request))
            for request, group in enumerate(by_symbol.values(), first_id)
        ]

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return two frames, with the next two ids: a new subscription begins with a snapshot."""
        return [_ask("unsubscribe", [topic], first_id), _ask("subscribe", [topic], first_id + 1)]

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether there is a topic; answers have none."""
        return b'"topic"' in payload

    def is_book_delta(self, payload: bytes) -> bool:
        """Say whether a topic of the book is named."""
        return b'"orderbook.' in payload

    def unwrap(self, payload: bytes) -> bytes:
        """Return the message as it is: nothing is compressed."""
        return payload

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        # behind `{"topic":"` stands the channel, unless the keys come in another order
        read_data = _BY_START.get(payload[10:14])
        if read_data is None:
            frame = _read_any(payload)
            if not frame.topic:
                return _control(frame)
            read_data = _BY_CHANNEL.get(frame.topic.partition(".")[0])
            if read_data is None:
                raise Undecodable(f"unknown channel {frame.topic[:60]!r}")
        return read_data(self, payload)

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return why a delta is not the next one."""
        if update.is_snapshot or (last is not None and update.sequence == last + 1):
            return ""
        return f"gap: u {update.sequence} after {'no snapshot' if last is None else last}"

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return a page of linear contracts; those that are not traded are not listed."""
        answer = orjson.loads(body)
        if answer["retCode"] != 0:
            raise Undecodable(f"no list of symbols: {answer['retCode']} {answer['retMsg'][:200]}")
        result = answer["result"]
        cursor = quote(result["nextPageCursor"], safe="%")  # it comes with its %3D and %26
        next_url = f"{Bybit.instruments_url}&cursor={cursor}" if cursor else ""
        return Listing([_instrument(row) for row in result["list"]], next_url)

    def _trades(self, payload: bytes) -> TypedReading:
        frame = _read_trades(payload)
        symbol = self._symbol_of(frame.topic)
        rows = []
        for t in frame.data:
            if t.s != symbol:
                raise Undecodable(f"a trade of {t.s[:40]!r} in {frame.topic}")
            quantity = exact(t.v)
            rows.append(Trade(symbol, us_of_ms(t.T), t.i, exact(t.p), quantity, quantity, _SIDES[t.S]))
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "trade", rows)

    def _book(self, payload: bytes) -> TypedReading:
        frame = _read_book(payload)
        symbol, data = self._symbol_of(frame.topic, frame.data.s), frame.data
        is_snapshot = frame.type == "snapshot" or data.u == 1
        update = BookUpdate(symbol, us_of_ms(frame.cts or frame.ts), is_snapshot, data.b, data.a, data.u)
        return TypedReading(Kind.DATA, "book", (update,))

    def _ticker(self, payload: bytes) -> TypedReading:
        frame = _read_ticker(payload)
        symbol, data = self._symbol_of(frame.topic, frame.data.symbol), frame.data
        said = data.last_price, data.mark_price, data.index_price, data.open_interest, data.funding_rate
        last, mark, index, interest, funding = map(exact_or_none, said)
        due_us = None if data.next_funding_time in ("", "0") else us_of_ms(data.next_funding_time)
        row = Ticker(symbol, us_of_ms(frame.ts), last, mark, index, interest, funding, due_us)
        if row == Ticker(symbol, row.time_us):  # a delta of the best bid, of the day's volume, ...
            return TypedReading(Kind.SKIPPED, "ticker")
        return TypedReading(Kind.DATA, "ticker", (row,))

    def _candles(self, payload: bytes) -> TypedReading:
        frame = _read_candles(payload)
        symbol, at_us = self._symbol_of(frame.topic), us_of_ms(frame.ts)
        length, rows = _KLINES[frame.topic.removesuffix(symbol)], []
        for c in frame.data:
            prices = exact(c.open), exact(c.high), exact(c.low), exact(c.close)
            volumes = exact(c.volume), exact(c.turnover)
            rows.append(Candle(symbol, at_us, length, us_of_ms(c.start), *prices, *volumes, None, c.confirm))
        return TypedReading(Kind.DATA if rows else Kind.SKIPPED, "candle", rows)

    def _symbol_of(self, topic: str, named: str | None = None) -> str:
        symbol = self._symbols.get(topic)
        if symbol is None or named not in (None, symbol):
            raise Undecodable(f"nobody asked for {topic[:60]!r}, symbol {(named or '')[:40]!r}")
        return symbol


_BY_CHANNEL: dict[str, Callable[[Bybit, bytes], TypedReading]] = {
    "publicTrade": Bybit._trades,
    "orderbook": Bybit._book,
    "tickers": Bybit._ticker,
    "kline": Bybit._candles,
}
_BY_START = {name[:4].encode(): read_data for name, read_data in _BY_CHANNEL.items()}


def _ask(op: str, topics: list[Topic], request: int) -> bytes:
    return orjson.dumps({"op": op, "args": [topic.name for topic in topics], "req_id": str(request)})


def _control(frame: _AnyFrame) -> TypedReading:
    if frame.op == "pong" or frame.ret_msg == "pong":
        return TypedReading(Kind.PONG)
    if frame.success is None:
        raise Undecodable("neither a topic nor an answer")
    request = int(frame.req_id) if frame.req_id.isdecimal() else None
    if frame.success:
        return TypedReading(Kind.ACK if frame.op == "subscribe" else Kind.SKIPPED, request=request)
    text, topics = frame.ret_msg, tuple(_NAMED_TOPICS(frame.ret_msg))
    if topics and "already subscribed" in text:
        return TypedReading(Kind.ACK, topics=topics)  # of the request's other topics it says nothing
    permanent = bool(topics) and "not found" in text
    if request is not None:
        topics = ()  # the request failed whole: the one that is named is not the only one
    return TypedReading(Kind.ERROR, text=text, permanent=permanent, topics=topics, request=request)


def _instrument(row: dict[str, Any]) -> Instrument:
    return Instrument(
        symbol=row["symbol"],
        base=row["baseCoin"],
        quote=row["quoteCoin"],
        kind="perpetual" if row["contractType"] == "LinearPerpetual" else "future",
        tick_size=row["priceFilter"]["tickSize"],
        quantity_step=row["lotSizeFilter"]["qtyStep"],
        state=row["status"].lower(),
    )
