"""Coinbase Exchange over its public websocket, `wss://ws-feed.exchange.coinbase.com`.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed/overview, and frames seen from 2021 to 2026.

| channel | theirs | rows |
|---|---|---|
| trade | matches | `match` and `last_match`: one trade, executed before the subscription in the latter |
| book | level2_batch | `snapshot` of the whole book, then every 50 ms `l2update`: absolute sizes, 0 removes |
| ticker | ticker | `ticker`: the last price; Coinbase has no more of what we store |

Oddities that this file knows of:

- `side` of a match is that of the **maker**; ours is the aggressor's, so it is turned round.
- Trade ids rise by one a product. `sequence` counts everything that happens to a product, so it jumps from
  match to match and is of no use; level2 has no number at all: only a crossed book shows that something is
  missing.
- An acknowledgement lists all that is subscribed. An unknown product is an `error` whose text alone names it,
  and takes its whole subscribe frame with it: hence one frame a product.
- Who has not subscribed within 5 s is cut off. No pings of ours are needed; `heartbeat`, asked for with every
  product, comes once a second and keeps quiet connections open.
- A snapshot may come without a time. Seen in the wild: the size `0.-10000` and the year 0001.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import orjson

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact
from mexcflow.exchanges.times import us_if_said, us_of_iso
from mexcflow.exchanges.typed import Limits, Listing
from mexcflow.model import (
    BookUpdate,
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

_THEIRS = {"trade": "matches", "book": "level2_batch", "ticker": "ticker"}
_AGGRESSOR = {"buy": "sell", "sell": "buy"}
_UNKNOWN_PRODUCT = re.compile(r"(\S+) is not a valid product").search
_DATA = re.compile(rb'"type"\s*:\s*"(?:match|last_match|l2update|snapshot|ticker)"').search
_BOOK = re.compile(rb'"type"\s*:\s*"(?:l2update|snapshot)"').search

_Side = Literal["buy", "sell"]
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Frame(msgspec.Struct, gc=False, tag_field="type"):
    """What every frame has: a `type`."""


class _Match(_Frame, tag="match"):
    product_id: str
    trade_id: _Id
    side: _Side
    size: str
    price: str
    time: str


class _LastMatch(_Match, tag="last_match"):
    pass


class _Ticker(_Frame, tag="ticker"):
    product_id: str
    price: str
    time: str = ""


class _Snapshot(_Frame, tag="snapshot"):
    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str = ""


class _Update(_Frame, tag="l2update"):
    product_id: str
    changes: list[tuple[_Side, str, str]]
    time: str


class _Heartbeat(_Frame, tag="heartbeat"):
    pass


class _Channel(msgspec.Struct, gc=False):
    name: str
    product_ids: list[str] = []


class _Subscriptions(_Frame, tag="subscriptions"):
    channels: list[_Channel]


class _Error(_Frame, tag="error"):
    message: str
    reason: str = ""


class _Product(msgspec.Struct, gc=False):
    id: str
    base_currency: str
    quote_currency: str
    quote_increment: str
    base_increment: str
    status: str
    trading_disabled: bool = False


_read_frame = msgspec.json.Decoder(
    _Match | _LastMatch | _Ticker | _Snapshot | _Update | _Heartbeat | _Subscriptions | _Error
).decode
_read_products = msgspec.json.Decoder(list[_Product]).decode


class Coinbase:
    """Products of Coinbase Exchange, written as in BTC-USD; quantities are in base units."""

    name: ClassVar[str] = "coinbase"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker")
    sockets: ClassVar[dict[str, str]] = {"public": "wss://ws-feed.exchange.coinbase.com"}
    # their page: 100 messages a second, 8 connections a second; 10 subscriptions of one channel of a product
    limits: ClassVar[Limits] = Limits(messages_per_s=50.0, topics=300, connects_per_s=4.0)
    ping_url: ClassVar[str] = "https://api.exchange.coinbase.com/time"
    instruments_url: ClassVar[str] = "https://api.exchange.coinbase.com/products"
    heartbeat: ClassVar[bytes] = b""
    silence_s: ClassVar[float] = 60.0
    ack_timeout_s: ClassVar[float] = 10.0
    intervals: ClassVar[tuple[str, ...]] = ()
    book_depth: ClassVar[int] = 20
    whole_books: ClassVar[bool] = False
    book_levels: ClassVar[int] = 0
    consecutive_trades: ClassVar[bool] = True
    example: ClassVar[str] = "BTC-USD"

    def __init__(self, wanted: Wanted) -> None:
        self._topics = tuple(
            Topic("public", f"{_THEIRS[channel]}:{symbol}", channel, symbol)
            for symbol in wanted.symbols
            for channel in wanted.channels
        )
        self._names = {topic.name for topic in self._topics}
        self._symbols = frozenset(wanted.symbols)

    def topics(self) -> tuple[Topic, ...]:
        """Return one topic a product and channel."""
        return self._topics

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return one frame a product."""
        by_symbol: dict[str, list[Topic]] = {}
        for topic in topics:
            by_symbol.setdefault(topic.symbol, []).append(topic)
        return [
            Request(
                request_id,
                tuple(mine),
                _frame("subscribe", symbol, [*(_THEIRS[topic.channel] for topic in mine), "heartbeat"]),
            )
            for request_id, (symbol, mine) in enumerate(by_symbol.items(), first_id)
        ]

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return frames that leave the product's book and subscribe it anew; they take no id."""
        return [
            _frame(method, topic.symbol, [_THEIRS[topic.channel]]) for method in ("unsubscribe", "subscribe")
        ]

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether the type is one of market data."""
        return _DATA(payload) is not None

    def is_book_delta(self, payload: bytes) -> bool:
        """Say whether the type is one of level2."""
        return _BOOK(payload) is not None

    def unwrap(self, payload: bytes) -> bytes:
        """Return it as it is: Coinbase compresses on the websocket's own level only."""
        return payload

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        frame = _read_frame(payload)
        return _BY_TYPE[type(frame)](self, frame)

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return what is wrong with a crossed book."""
        if book is not None and book.crossed:
            return f"the best bid {book.bids.best} meets the best ask {book.asks.best}"
        return ""

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return all products: there is but one page."""
        return Listing([_instrument(product) for product in _read_products(body)])

    def _match(self, frame: _Match) -> TypedReading:
        self._check_symbol(frame.product_id)
        size = exact(frame.size)
        trade = Trade(
            frame.product_id,
            us_of_iso(frame.time),
            str(frame.trade_id),
            exact(frame.price),
            size,
            size,
            _AGGRESSOR[frame.side],
        )
        return TypedReading(Kind.DATA, "trade", (trade,))

    def _update(self, frame: _Update) -> TypedReading:
        self._check_symbol(frame.product_id)
        changes = frame.changes
        update = BookUpdate(
            frame.product_id,
            us_of_iso(frame.time),
            False,
            [(price, size) for side, price, size in changes if side == "buy"],
            [(price, size) for side, price, size in changes if side == "sell"],
        )
        return TypedReading(Kind.DATA, "book", (update,))

    def _snapshot(self, frame: _Snapshot) -> TypedReading:
        self._check_symbol(frame.product_id)
        update = BookUpdate(frame.product_id, us_if_said(frame.time), True, frame.bids, frame.asks)
        return TypedReading(Kind.DATA, "book", (update,))

    def _ticker(self, frame: _Ticker) -> TypedReading:
        self._check_symbol(frame.product_id)
        ticker = Ticker(frame.product_id, us_if_said(frame.time), last=exact(frame.price))
        return TypedReading(Kind.DATA, "ticker", (ticker,))

    def _heartbeat(self, frame: _Heartbeat) -> TypedReading:
        return _PONG

    def _subscriptions(self, frame: _Subscriptions) -> TypedReading:
        listed = [
            f"{_THEIRS['book'] if channel.name.startswith('level2') else channel.name}:{product}"
            for channel in frame.channels
            for product in channel.product_ids
        ]
        return TypedReading(Kind.ACK, topics=tuple(name for name in listed if name in self._names))

    def _error(self, frame: _Error) -> TypedReading:
        text = f"{frame.message}: {frame.reason}" if frame.reason else frame.message
        unknown = _UNKNOWN_PRODUCT(text)
        names = tuple(topic.name for topic in self._topics if unknown and topic.symbol == unknown[1])
        return TypedReading(Kind.ERROR, text=text, permanent=bool(names), topics=names)

    def _check_symbol(self, symbol: str) -> None:
        if symbol not in self._symbols:
            raise Undecodable(f"a frame of {symbol[:40]!r}, which is not recorded here")


_BY_TYPE: dict[type, Callable[[Coinbase, Any], TypedReading]] = {
    _Match: Coinbase._match,
    _LastMatch: Coinbase._match,
    _Update: Coinbase._update,
    _Snapshot: Coinbase._snapshot,
    _Ticker: Coinbase._ticker,
    _Heartbeat: Coinbase._heartbeat,
    _Subscriptions: Coinbase._subscriptions,
    _Error: Coinbase._error,
}
_PONG = TypedReading(Kind.PONG)


def _frame(method: str, product: str, channels: list[str]) -> bytes:
    return orjson.dumps({"type": method, "product_ids": [product], "channels": channels})


def _instrument(product: _Product) -> Instrument:
    trading = product.status == "online" and not product.trading_disabled
    return Instrument(
        symbol=product.id,
        base=product.base_currency,
        quote=product.quote_currency,
        kind="spot",
        tick_size=product.quote_increment,
        quantity_step=product.base_increment,
        state="trading" if trading else ("disabled" if product.status == "online" else product.status),
    )
