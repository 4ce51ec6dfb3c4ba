"""The frames that Binance's futures and its spot market have in common, and their lists of symbols.

| stream | rows |
|---|---|
| aggTrade | a trade: id `a`, time `T`, price `p`, quantity `q`; `m` true: the buyer rested, the seller took |
| kline_1m | a candle: `k`, closed where `k.x`, time `E` |
| ticker | a ticker with the last price `c`, time `E` |

Oddities that this file knows of:

- aggTrade waits to aggregate, on futures often 150 ms: `E` is later than the trade by that, so `T` counts.
- Futures print spaces after the commas inside `k`, in no other frame.
- On a quiet symbol the candle's closing frame comes only with the next trade.
- `timeUnit=MICROSECOND` in spot's URL gives µs in place of ms: told apart by the number of digits.
- `st` 2 marks coin-margined contracts, whose quantities are contracts. They have hosts of their own.
"""

import re
from collections.abc import Callable
from typing import Annotated, Generic, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from mexcflow.exchanges.book import Book
from mexcflow.exchanges.numbers import exact
from mexcflow.exchanges.times import us_of_ms
from mexcflow.exchanges.typed import Listing
from mexcflow.model import Candle, Instrument, Kind, Ticker, Trade, TypedReading, Undecodable

DATA = Kind.DATA
INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
"""Of candles, on both markets."""

Reader = Callable[[bytes, str], TypedReading]
"""Reads a frame of a stream that is known already, of the symbol that the stream names."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[str, str]]
COIN_MARGINED = 2
"""The `st` of contracts that are counted in contracts."""

_FIRST_MS, _LAST_MS = 1_000_000_000_000, 9_999_999_999_999
_FIRST_US, _LAST_US = 1_000_000_000_000_000, 9_999_999_999_999_999  # 16 digits: 2001 to 2286
_KNOWN_INTERVALS = frozenset((*INTERVALS, "1s"))
_is_plain = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,18})?").fullmatch
_Data = TypeVar("_Data")


class Combined(msgspec.Struct, Generic[_Data], gc=False):
    """A frame whose stream is known already."""

    data: _Data


class _Trade(msgspec.Struct, gc=False):
    s: str
    a: Count
    p: str
    q: str
    T: int
    m: bool
    st: int = 0


class _Last(msgspec.Struct, gc=False):
    E: int
    s: str
    c: str


class _Kline(msgspec.Struct, gc=False):
    t: int
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - the exchange's name
    c: str
    v: str
    q: str
    n: Count
    x: bool


class _Candle(msgspec.Struct, gc=False):
    E: int
    s: str
    k: _Kline


class _Filter(msgspec.Struct, gc=False):
    filterType: str  # noqa: N815 - the exchange's names
    tickSize: str = ""  # noqa: N815
    stepSize: str = ""  # noqa: N815


class _Symbol(msgspec.Struct, gc=False):
    symbol: str
    status: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    contractType: str = ""  # noqa: N815
    filters: list[_Filter] = []


class _Symbols(msgspec.Struct, gc=False):
    symbols: list[_Symbol]


_decode_trade = msgspec.json.Decoder(Combined[_Trade]).decode
_decode_last = msgspec.json.Decoder(Combined[_Last]).decode
_decode_candle = msgspec.json.Decoder(Combined[_Candle]).decode
_decode_symbols = msgspec.json.Decoder(_Symbols).decode


def us(value: int) -> int:
    """Return a time of Binance's, Unix ms or µs, in µs."""
    return value if _FIRST_US <= value <= _LAST_US else us_of_ms(value)


def positive(number: str) -> str:
    """Return a price or a quantity as `exact` does; `Undecodable` for one below 0."""
    spelled = exact(number)
    if spelled[0] == "-":
        raise Undecodable(f"below zero: {number[:40]}")
    return spelled


def other_symbol(sent: str, symbol: str) -> NoReturn:
    """Raise `Undecodable` for a frame whose symbol is not that of its stream."""
    raise Undecodable(f"a frame of {sent[:40]!r} in a stream of {symbol}")


def other_unit(symbol: str) -> NoReturn:
    """Raise `Undecodable` for what is counted in contracts."""
    raise Undecodable(f"{symbol} is counted in contracts, not in base units")


def read_trade(payload: bytes, symbol: str) -> TypedReading:
    """Read a frame of aggTrade."""
    trade = _decode_trade(payload).data
    if trade.s != symbol:
        other_symbol(trade.s, symbol)
    if trade.st == COIN_MARGINED:
        other_unit(symbol)
    # as `us` and `positive` do, without a call where they would return what they are given
    time, price, quantity = trade.T, trade.p, trade.q
    time = time * 1000 if _FIRST_MS <= time <= _LAST_MS else us(time)
    if not (_is_plain(price) and _is_plain(quantity)):
        price, quantity = positive(price), positive(quantity)
    row = Trade(symbol, time, str(trade.a), price, quantity, quantity, "sell" if trade.m else "buy")
    return TypedReading(DATA, "trade", (row,))


def read_last(payload: bytes, symbol: str) -> TypedReading:
    """Read a frame of ticker, of which the last price is taken."""
    ticker = _decode_last(payload).data
    if ticker.s != symbol:
        other_symbol(ticker.s, symbol)
    return TypedReading(DATA, "ticker", (Ticker(symbol, us(ticker.E), last=positive(ticker.c)),))


def read_candle(payload: bytes, symbol: str) -> TypedReading:
    """Read a frame of kline_<interval>."""
    candle = _decode_candle(payload).data
    if candle.s != symbol:
        other_symbol(candle.s, symbol)
    k = candle.k
    if k.i not in _KNOWN_INTERVALS:
        raise Undecodable(f"unknown interval {k.i[:40]!r}")
    row = Candle(
        symbol=symbol,
        time_us=us(candle.E),
        interval=k.i,
        open_us=us(k.t),
        open=positive(k.o),
        high=positive(k.h),
        low=positive(k.l),
        close=positive(k.c),
        volume=positive(k.v),
        quote_volume=positive(k.q),
        trades=k.n,
        closed=k.x,
    )
    return TypedReading(DATA, "candle", (row,))


def why_crossed(book: Book | None) -> str:
    """Return what is wrong with a book whose best bid is not below its best ask, "" if nothing is."""
    if book is None or not book.crossed:
        return ""
    return f"the book is crossed: bid {book.bids.best}, ask {book.asks.best}"


def read_symbols(body: bytes, kind: Callable[[str, str], str]) -> Listing:
    """Read an exchangeInfo, whole as it is; `kind` tells ours from contract type and symbol."""
    return Listing(
        [_instrument(one, kind(one.contractType, one.symbol)) for one in _decode_symbols(body).symbols]
    )


def _instrument(one: _Symbol, kind: str) -> Instrument:
    filters = {each.filterType: each for each in one.filters}
    tick, step = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    return Instrument(
        symbol=one.symbol,
        base=one.baseAsset,
        quote=one.quoteAsset,
        kind=kind,
        tick_size=exact(tick.tickSize) if tick and tick.tickSize else "",
        quantity_step=exact(step.stepSize) if step and step.stepSize else "",
        state=one.status.lower(),
    )
