"""Binance's spot market.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams, and frames seen live
from 2021 to 2026. What it shares with futures is in `binance_streams.py` and `binance_frames.py`.

| stream | rows |
|---|---|
| depth20@100ms | a whole book: best first, sequence `lastUpdateId` |
| depth@100ms | changes of a book (not subscribed): time `E`, sequence `u`, 0 removes a level |

Oddities that this file knows of:

- depth20 has neither symbol nor time nor type of event. The name of its stream tells the symbol; the book's
  `time_us` is 0, so the time it was received is the only one there is.
- Nothing chains one depth20 to the next; `lastUpdateId` only rises. Changes chain: `U` is the `u` before and
  one more. The first one behind a REST snapshot covers its `lastUpdateId` and one more; those up to that
  number are in it.
- There may be fewer than 20 levels.
- The host is the one for market data alone, which also answers where the others do not.
- `M` of aggTrade means nothing.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from mexcflow.exchanges.binance_frames import (
    DATA,
    INTERVALS,
    Combined,
    Count,
    Levels,
    Reader,
    other_symbol,
    read_candle,
    read_last,
    read_symbols,
    read_trade,
    us,
    why_crossed,
)
from mexcflow.exchanges.binance_streams import BinanceStreams
from mexcflow.exchanges.book import Book
from mexcflow.exchanges.typed import Limits, Listing
from mexcflow.model import BookUpdate, TypedReading

_NO_TIME = 0


class _Top(msgspec.Struct, gc=False):
    lastUpdateId: Count  # noqa: N815 - the exchange's name
    bids: Levels
    asks: Levels


class _Changes(msgspec.Struct, gc=False):
    E: int
    s: str
    U: Count
    u: Count
    b: Levels
    a: Levels


_decode_top = msgspec.json.Decoder(Combined[_Top]).decode
_decode_snapshot = msgspec.json.Decoder(_Top).decode
_decode_changes = msgspec.json.Decoder(Combined[_Changes]).decode


def _read_top(payload: bytes, symbol: str) -> TypedReading:
    return TypedReading(DATA, "book", (_whole(_decode_top(payload).data, symbol),))


def _whole(top: _Top, symbol: str) -> BookUpdate:
    return BookUpdate(symbol, _NO_TIME, True, top.bids, top.asks, top.lastUpdateId)


def _read_changes(payload: bytes, symbol: str) -> TypedReading:
    change = _decode_changes(payload).data
    if change.s != symbol:
        other_symbol(change.s, symbol)
    update = BookUpdate(symbol, us(change.E), False, change.b, change.a, change.u, change.U)
    return TypedReading(DATA, "book", (update,))


class BinanceSpot(BinanceStreams):
    """Several symbols of Binance's spot market."""

    name: ClassVar[str] = "binance_spot"
    channels: ClassVar[tuple[str, ...]] = ("trade", "book", "ticker", "candle")
    sockets: ClassVar[dict[str, str]] = {"market": "wss://data-stream.binance.vision/stream"}
    # 5 messages a second, our pongs among them; 1024 topics
    limits: ClassVar[Limits] = Limits(messages_per_s=4, topics=200, lifetime_s=86_400)
    ping_url: ClassVar[str] = "https://data-api.binance.vision/api/v3/ping"
    instruments_url: ClassVar[str] = (
        "https://data-api.binance.vision/api/v3/exchangeInfo?showPermissionSets=false"
    )
    silence_s: ClassVar[float] = 60.0
    intervals: ClassVar[tuple[str, ...]] = ("1s", *INTERVALS)
    channel_streams: ClassVar[Mapping[str, Sequence[tuple[str, str]]]] = {
        "trade": [("market", "aggTrade")],
        "book": [("market", "depth20@100ms")],
        "ticker": [("market", "ticker")],
        "candle": [("market", "kline_{}")],
    }
    readers: ClassVar[Mapping[str, Reader]] = {
        "aggTrade": read_trade,
        "depth5": _read_top,
        "depth10": _read_top,
        "depth20": _read_top,
        "depth": _read_changes,
        "ticker": read_last,
        "kline": read_candle,
    }
    events: ClassVar[Mapping[str, Reader]] = {
        "aggTrade": read_trade,
        "depthUpdate": _read_changes,
        "24hrTicker": read_last,
        "kline": read_candle,
    }

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return why an update shows that something is missing, with both numbers; "" if nothing is."""
        if last is None or update.sequence is None:
            return why_crossed(book)
        if update.first is None:
            backwards = update.sequence < last
            return f"lastUpdateId {update.sequence} after {last}" if backwards else why_crossed(book)
        if update.first <= last + 1 <= update.sequence:
            return why_crossed(book)
        return f"U {update.first} after u {last}"

    @staticmethod
    def read_snapshot(body: bytes, symbol: str) -> BookUpdate:
        """Return the book of a REST answer (/api/v3/depth), which names neither symbol nor time."""
        return _whole(_decode_snapshot(body), symbol)

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return the list of symbols: one page has them all."""
        return read_symbols(body, lambda _contract_type, _symbol: "spot")
