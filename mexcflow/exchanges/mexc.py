"""MEXC futures (contract) over its websocket, `wss://contract.mexc.com/edge`.

Source: https://www.mexc.com/api-docs/futures/websocket-api, and frames seen live in 2025 and 2026.

| frame | rows |
|---|---|
| push.ticker | one 't': `lastPrice|fairPrice|indexPrice|holdVol|fundingRate`, ts = frame `ts` |
| push.deal | a 'd' a deal: `price|volume|direction` (1 buy, 2 sell: the aggressor's), ts = the deal's `t` |
| push.depth.full | one 'dp': `bids|asks`, each `[price,amount],...` best first, ts = frame `ts` |

Oddities that this file knows of:

- `data` of push.deal is a list today and was one object until 2025; `i` and `cts` may be missing.
- Numbers are bare JSON numbers in any spelling: 77594, 0.080550, 7.548E+4, and
  25329.000000000000000000000000000000. They are taken as text (`msgspec.Raw`), never as floats.
- Acknowledgements carry no symbol. An unknown contract is an `rs.error` whose text alone names it; an
  unknown method is met with silence.
- `version` of push.depth.full rises within a connection; a new connection may begin with a lower one. It
  is no part of the row, so a frame without it, or with an odd one, is a frame like any other.
- Market data does not keep the socket open: without a JSON ping the exchange cuts it after 60 s.
- Only text frames are sent, but the manual knows gzip: binary frames are gunzipped.
"""

import re
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
import orjson
from msgspec import Raw

from mexcflow.exchanges.gunzip import gunzipped
from mexcflow.exchanges.mexc_contracts import read_contracts
from mexcflow.exchanges.numbers import plain, with_decimals
from mexcflow.exchanges.typed import Listing
from mexcflow.model import Kind, Reading, Row, Undecodable

_PUSH = b'"push.'
_METHODS = {"ticker": "ticker", "deal": "deal", "depth": "depth.full"}
_OUR_WORDS = {method: channel for channel, method in _METHODS.items()}
_DIRECTIONS: dict[float, str] = {1: "1", 2: "2"}
_LEVELS = 20
_FUNDING_DECIMALS = 8
_LAST_VERSION = 2**63 - 1
_FIRST_MS, _LAST_MS = 1_000_000_000_000, 9_999_999_999_999  # 13 digits: 2001 to 2286
_UNKNOWN_CONTRACT = re.compile(r"contract\s*(?:\[(?P<name>[^\]]*)\])?.*(?:not exist|n't exist)", re.I)

_Ms = int | float | str


class _Ticker(msgspec.Struct, gc=False):
    lastPrice: Raw  # noqa: N815 - the exchange's names
    fairPrice: Raw  # noqa: N815
    indexPrice: Raw  # noqa: N815
    holdVol: Raw  # noqa: N815
    fundingRate: Raw  # noqa: N815


class _Deal(msgspec.Struct, gc=False):
    p: Raw
    v: Raw
    T: int | float
    t: _Ms


class _Level(msgspec.Struct, array_like=True, gc=False):
    """`[price, amount, orders]`: what comes after the first two is dropped."""

    price: Raw
    amount: Raw


class _Book(msgspec.Struct, gc=False):
    asks: list[_Level]
    bids: list[_Level]
    version: Annotated[int, msgspec.Meta(ge=0, le=_LAST_VERSION)] | None = None


class _UnnumberedBook(msgspec.Struct, gc=False):
    version: ClassVar[None] = None
    asks: list[_Level]
    bids: list[_Level]


class _TickerFrame(msgspec.Struct, gc=False):
    symbol: str
    channel: Literal["push.ticker"]
    data: _Ticker
    ts: _Ms


class _DealFrame(msgspec.Struct, gc=False):
    symbol: str
    channel: Literal["push.deal"]
    data: list[_Deal] | _Deal


class _DepthFrame(msgspec.Struct, gc=False):
    symbol: str
    channel: Literal["push.depth.full"]
    data: _Book
    ts: _Ms


class _UnnumberedDepthFrame(msgspec.Struct, gc=False):
    symbol: str
    channel: Literal["push.depth.full"]
    data: _UnnumberedBook
    ts: _Ms


class _Control(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.UnsetType | Raw = msgspec.UNSET


_read_ticker = msgspec.json.Decoder(_TickerFrame).decode
_read_deals = msgspec.json.Decoder(_DealFrame).decode
_read_depth = msgspec.json.Decoder(_DepthFrame).decode
_read_unnumbered_depth = msgspec.json.Decoder(_UnnumberedDepthFrame).decode
_read_control = msgspec.json.Decoder(_Control).decode
_write_levels = msgspec.json.Encoder().encode


class Mexc:
    """One contract of MEXC futures."""

    name: ClassVar[str] = "mexc"
    channels: ClassVar[tuple[str, ...]] = ("ticker", "deal", "depth")
    url: ClassVar[str] = "wss://contract.mexc.com/edge"
    ping_url: ClassVar[str] = "https://api.mexc.com/api/v1/contract/ping"
    instruments_url: ClassVar[str] = "https://api.mexc.com/api/v1/contract/detail"
    heartbeat: ClassVar[bytes] = b'{"method":"ping"}'
    silence_s: ClassVar[float] = 30.0
    ack_timeout_s: ClassVar[float] = 10.0

    def __init__(self, symbol: str, channels: tuple[str, ...]) -> None:
        self.symbol = symbol
        self._wanted = channels or self.channels

    def subscriptions(self) -> dict[str, bytes]:
        """Return one frame a channel: a list of symbols would subscribe the first only, in silence."""
        frames = {}
        for channel in self._wanted:
            param: dict[str, str | int] = {"symbol": self.symbol}
            if channel == "depth":
                param["limit"] = _LEVELS
            frames[channel] = orjson.dumps({"method": f"sub.{_METHODS[channel]}", "param": param})
        return frames

    def is_market_data(self, payload: bytes) -> bool:
        """Say whether this looks like a push of a channel."""
        return payload.rfind(_PUSH) >= 0  # from the end: the channel comes after the data

    def unwrap(self, payload: bytes) -> bytes:
        """Return the text of a message; gzip is told by its magic number."""
        return gunzipped(payload)

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return the contract list."""
        return read_contracts(body)

    def read(self, payload: bytes) -> Reading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""
        text = self.unwrap(payload)
        # the bytes behind `"push.` tell the channel, unless they stand inside some other text
        at = text.rfind(_PUSH)
        read_data = _BY_NAME.get(text[at + len(_PUSH) : at + len(_PUSH) + 4]) if at >= 0 else None
        if read_data is not None:
            try:
                return read_data(self, text)
            except msgspec.ValidationError:
                pass
        return _BY_CHANNEL.get(_read_control(text).channel, Mexc._control)(self, text)

    def _deals(self, text: bytes) -> Reading:
        frame = _read_deals(text)
        self._check_symbol(frame.symbol)
        deals = frame.data if isinstance(frame.data, list) else [frame.data]
        rows = tuple(
            [
                (_event_ms(deal.t), "d", f"{_number(deal.p)}|{_number(deal.v)}|{_DIRECTIONS[deal.T]}")
                for deal in deals
            ]
        )
        return Reading(Kind.DATA if rows else Kind.SKIPPED, "deal", rows)

    def _depth(self, text: bytes) -> Reading:
        frame: _DepthFrame | _UnnumberedDepthFrame
        try:
            frame = _read_depth(text)
        except msgspec.ValidationError:  # a version that is no number must not cost the row
            frame = _read_unnumbered_depth(text)
        self._check_symbol(frame.symbol)
        row: Row = (_event_ms(frame.ts), "dp", f"{_side(frame.data.bids)}|{_side(frame.data.asks)}")
        return Reading(Kind.DATA, "depth", (row,), sequence=frame.data.version)

    def _ticker(self, text: bytes) -> Reading:
        frame = _read_ticker(text)
        self._check_symbol(frame.symbol)
        data = frame.data
        funding = with_decimals(_number(data.fundingRate), _FUNDING_DECIMALS)
        prices = "|".join(map(_number, (data.lastPrice, data.fairPrice, data.indexPrice, data.holdVol)))
        return Reading(Kind.DATA, "ticker", ((_event_ms(frame.ts), "t", f"{prices}|{funding}"),))

    def _control(self, text: bytes) -> Reading:
        frame = _read_control(text)
        if frame.channel == "pong":
            return Reading(Kind.PONG)
        said = "" if frame.data is msgspec.UNSET else _said(frame.data)
        if frame.channel == "rs.error":
            return Reading(Kind.ERROR, text=said, permanent=self._is_unknown_contract(said))
        if frame.channel.startswith("rs."):
            method = frame.channel.removeprefix("rs.").removeprefix("sub.")
            if said != "success":
                return Reading(Kind.ERROR, text=f"{frame.channel}: {said}")
            return Reading(Kind.ACK, _OUR_WORDS.get(method, method))
        raise Undecodable(f"unknown channel {frame.channel[:40]!r}")

    def _is_unknown_contract(self, said: str) -> bool:
        match = _UNKNOWN_CONTRACT.search(said)
        return match is not None and match["name"] in (None, self.symbol)

    def _check_symbol(self, symbol: str) -> None:
        if symbol != self.symbol:
            raise Undecodable(f"a frame of {symbol[:40]!r}, not of {self.symbol}")


_BY_CHANNEL: dict[str, Callable[[Mexc, bytes], Reading]] = {
    "push.deal": Mexc._deals,
    "push.depth.full": Mexc._depth,
    "push.ticker": Mexc._ticker,
}
_BY_NAME = {name[5:9].encode(): read_data for name, read_data in _BY_CHANNEL.items()}


def _said(raw: Raw) -> str:
    value = orjson.loads(bytes(raw))
    return value if isinstance(value, str) else bytes(raw).decode()


def _event_ms(value: _Ms) -> int:
    if type(value) is not int:
        if isinstance(value, float) and not value.is_integer():
            raise Undecodable(f"a time with a fraction: {value}")
        value = int(value)
    if _FIRST_MS <= value <= _LAST_MS:
        return value
    raise Undecodable(f"a time that is no Unix time in ms: {value}")


def _number(raw: Raw) -> str:
    # msgspec has checked that it is JSON, so digits alone are plain as they stand, and so are digits
    # with a point that end in another digit than 0
    text = str(raw, "ascii")
    if text.isdigit() or (text[-1] != "0" and text.replace(".", "", 1).isdigit()):
        return text
    return plain(text)


# A side of n levels once its digits and points are taken out: `[[,],[,]]`
_SHAPES = [b"[" + b",".join([b"[,]"] * n) + b"]" for n in range(_LEVELS + 1)]
_DIGITS = b"0123456789"
_strip_zeros = re.compile(rb"(?:(\.[0-9]*[1-9])|\.)0+(?=[,\]])").sub


def _side(levels: list[_Level]) -> str:
    """Return one side of the book as `[price,amount],...`, best first as sent, in plain numbers.

    msgspec writes the numbers back as they were read, digit for digit, so a side whose numbers are
    plain already is done in a handful of C calls. Going through the numbers one by one, which other
    spellings need, takes six times as long.
    """
    levels = levels[:_LEVELS]
    side = _write_levels(levels)
    marks = side.translate(None, _DIGITS)
    if marks.replace(b".", b"") != _SHAPES[len(levels)]:  # an exponent, or no number at all
        return ",".join([f"[{_number(level.price)},{_number(level.amount)}]" for level in levels])
    zeros = b"[." in marks and _ends_in_zero(side, b"[", b"0,")
    if zeros or (b",." in marks and _ends_in_zero(side, b",", b"0]")):
        side = _strip_zeros(rb"\1", side)
    return side[1:-1].decode("ascii")


def _ends_in_zero(side: bytes, before: bytes, end: bytes) -> bool:
    """Say whether a number between `before` and `end` has a point: whole numbers keep their zeros."""
    at = side.find(end)
    while at >= 0:
        if side.rfind(b".", side.rfind(before, 0, at), at) >= 0:
            return True
        at = side.find(end, at + 1)
    return False
