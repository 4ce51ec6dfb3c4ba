"""Binance USD-M futures: perpetual and delivery contracts, in base units.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams, and
frames seen live from 2021 to 2026. What it shares with spot is in `binance_streams.py` and
`binance_frames.py`.

| stream | rows |
|---|---|
| depth20@100ms | a whole book: `b` and `a` best first, time `T`, sequence `u` |
| depth@100ms | changes of a book (not subscribed): prices ascending on both sides, 0 removes a level |
| markPrice@1s | a ticker: mark `p`, index `i`, funding rate `r`, next funding time `T`; time `E` |

Oddities that this file knows of:

- Since April 2026 there are two sockets. /public has the books, /market everything else; the old path still
  acknowledges everything and sends the books alone.
- depth20 and depth have the same event type and the same keys.
- `pu` is the `u` of the frame before, while `U` need not be the number behind it. The first change behind a
  REST snapshot either covers its `lastUpdateId` or has it as `pu`; those up to that number are in it.
- Delivery contracts have an empty funding rate and 0 as next funding time.
- Open interest comes over REST only, a symbol at a time, in base units. One request weighs 1, and 2400 a
  minute are allowed to an address.
- `@trade`, which is not documented, sends `X:"NA"` with price and quantity 0. It is not subscribed.
- `q` of aggTrade has the retail price improvement orders in it, `nq` has not. `q` is taken.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

import msgspec

from mexcflow.exchanges.binance_frames import (
    COIN_MARGINED,
    DATA,
    INTERVALS,
    Combined,
    Count,
    Levels,
    Reader,
    other_symbol,
    other_unit,
    positive,
    read_candle,
    read_last,
    read_symbols,
    read_trade,
    us,
    why_crossed,
)
from mexcflow.exchanges.binance_streams import BinanceStreams
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact
from mexcflow.exchanges.typed import Limits, Listing, Poll
from mexcflow.model import BookUpdate, Ticker, TypedReading


class _Depth(msgspec.Struct, gc=False):
    T: int
    s: str
    U: Count
    u: Count
    pu: Count
    b: Levels
    a: Levels
    st: int = 0


class _Snapshot(msgspec.Struct, gc=False):
    lastUpdateId: Count  # noqa: N815 - the exchange's name
    T: int
    bids: Levels
    asks: Levels


class _Mark(msgspec.Struct, gc=False):
    E: int
    s: str
    p: str
    i: str = ""
    r: str = ""
    T: int = 0


class _OpenInterest(msgspec.Struct, gc=False):
    symbol: str
    openInterest: str  # noqa: N815
    time: int


_POLL_EVERY_S, _POLLS_PER_S = 10.0, 4.0
_decode_depth = msgspec.json.Decoder(Combined[_Depth]).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_mark = msgspec.json.Decoder(Combined[_Mark]).decode
_decode_open_interest = msgspec.json.Decoder(_OpenInterest).decode


def _read_top(payload: bytes, symbol: str) -> TypedReading:
    return TypedReading(DATA, "book", (_update(payload, symbol, is_snapshot=True),))


def _read_changes(payload: bytes, symbol: str) -> TypedReading:
    return TypedReading(DATA, "book", (_update(payload, symbol, is_snapshot=False),))


def _update(payload: bytes, symbol: str, *, is_snapshot: bool) -> BookUpdate:
    depth = _decode_depth(payload).data
    if depth.s != symbol:
        other_symbol(depth.s, symbol)
    if depth.st == COIN_MARGINED:
        other_unit(symbol)
    return BookUpdate(symbol, us(depth.T), is_snapshot, depth.b, depth.a, depth.u, depth.U, depth.pu)


def _read_mark(payload: bytes, symbol: str) -> TypedReading:
    mark = _decode_mark(payload).data
    if mark.s != symbol:
        other_symbol(mark.s, symbol)
    row = Ticker(
        symbol,
        us(mark.E),
        mark=positive(mark.p),
        index=positive(mark.i) if mark.i else None,
        funding_rate=exact(mark.r) if mark.r else None,
        next_funding_us=us(mark.T) if mark.T else None,
    )
    return TypedReading(DATA, "ticker", (row,))


class Binance(BinanceStreams):
    """Several contracts of Binance USD-M futures."""

    name: ClassVar[str] = "binance"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "candle")
    sockets: ClassVar[dict[str, str]] = {
        "public": "wss://fstream.binance.com/public/stream",
        "market": "wss://fstream.binance.com/market/stream",
    }
    # 10 messages a second, our pongs among them; 1024 topics, which an older page gives as 200
    limits: ClassVar[Limits] = Limits(messages_per_s=8, topics=200, lifetime_s=86_400)
    ping_url: ClassVar[str] = "https://fapi.binance.com/fapi/v1/ping"
    instruments_url: ClassVar[str] = "https://fapi.binance.com/fapi/v1/exchangeInfo"
    silence_s: ClassVar[float] = 30.0
    intervals: ClassVar[tuple[str, ...]] = INTERVALS
    channel_streams: ClassVar[Mapping[str, Sequence[tuple[str, str]]]] = {
        "trade": [("market", "aggTrade")],
        "book": [("public", "depth20@100ms")],
        "ticker": [("market", "markPrice@1s"), ("market", "ticker")],
        "candle": [("market", "kline_{}")],
    }
    readers: ClassVar[Mapping[str, Reader]] = {
        "aggTrade": read_trade,
        "depth5": _read_top,
        "depth10": _read_top,
        "depth20": _read_top,
        "depth": _read_changes,
        "markPrice": _read_mark,
        "ticker": read_last,
        "kline": read_candle,
    }
    events: ClassVar[Mapping[str, Reader]] = {
        "aggTrade": read_trade,
        "markPriceUpdate": _read_mark,
        "24hrTicker": read_last,
        "kline": read_candle,
    }

    def polls(self) -> tuple[Poll, ...]:
        """Return what brings the open interest of each symbol: with many of them more seldom."""
        if "ticker" not in self._wanted.channels:
            return ()
        symbols = self._wanted.symbols
        every_s = max(_POLL_EVERY_S, len(symbols) / _POLLS_PER_S)
        url = "https://fapi.binance.com/fapi/v1/openInterest?symbol="
        return tuple(Poll("market", symbol, url + quote(symbol), every_s) for symbol in symbols)

    def read_polled(self, payload: bytes, symbol: str) -> TypedReading:
        """Return the open interest that was asked for."""
        said = _decode_open_interest(payload)
        if said.symbol != symbol:
            other_symbol(said.symbol, symbol)
        row = Ticker(symbol, us(said.time), open_interest=positive(said.openInterest))
        return TypedReading(DATA, "ticker", (row,), polled=True)

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return why an update shows that something is missing, with both numbers; "" if nothing is."""
        if last is None or update.previous is None or update.first is None or update.sequence is None:
            return why_crossed(book)  # of a REST snapshot, too
        if update.previous == last or update.first <= last <= update.sequence:
            return why_crossed(book)
        return f"pu {update.previous} after u {last}"

    @staticmethod
    def read_snapshot(body: bytes, symbol: str) -> BookUpdate:
        """Return the book of a REST answer (/fapi/v1/depth), which does not name its symbol."""
        book = _decode_snapshot(body)
        return BookUpdate(symbol, us(book.T), True, book.bids, book.asks, book.lastUpdateId)

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return the list of symbols: one page has them all."""
        return read_symbols(body, _kind)


def _kind(contract_type: str, symbol: str) -> str:
    # PERPETUAL, TRADIFI_PERPETUAL, PERPETUAL_DELIVERING; CURRENT_QUARTER, NEXT_QUARTER and the like; empty
    # before a contract is listed: delivery contracts have their date in the symbol, BTCUSDT_261225
    if not contract_type:
        return "future" if "_" in symbol else "perpetual"
    return "perpetual" if "PERPETUAL" in contract_type else "future"
