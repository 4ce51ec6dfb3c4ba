"""The shapes of OKX's messages, and their decoders; what they mean stands in `okx.py`.

A field that is not named here is skipped. A decoder raises `msgspec.DecodeError` for what is no JSON, and its
`ValidationError` for other shapes.
"""

from typing import Annotated, Generic, Literal, TypeVar

import msgspec

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""Part of the key of a trade: never empty."""
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A sequence number that a UInt64 holds."""

_Row = TypeVar("_Row")


class Arg(msgspec.Struct, gc=False, rename="camel"):
    """What a frame or an answer is about."""

    channel: str
    inst_id: str = ""


class Frame(msgspec.Struct, Generic[_Row], gc=False):
    """A frame with data; only the channel `books` has an action."""

    arg: Arg
    data: list[_Row]
    action: Literal["snapshot", "update"] | None = None


class AnyFrame(msgspec.Struct, gc=False):
    """A frame of any kind: `event` is set for answers and notices."""

    arg: Arg | None = None
    event: str = ""
    code: str = ""
    msg: str = ""
    id: str = ""


class Trade(msgspec.Struct, gc=False, rename="camel"):
    """One of `trades`."""

    inst_id: str
    trade_id: Id
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str


class Level(msgspec.Struct, array_like=True, gc=False):
    """`[price, contracts, "0", orders]`: what comes after the first two is dropped."""

    price: str
    quantity: str


class Book(msgspec.Struct, gc=False, rename="camel"):
    """A snapshot of `books5` or `books`, or a delta of `books`; numbers are absent in 2022."""

    asks: list[Level]
    bids: list[Level]
    ts: str
    checksum: int | None = None
    seq_id: Sequence | None = None
    prev_seq_id: int | None = None


class Part(msgspec.Struct, gc=False, rename="camel"):
    """What the channels of our `ticker` say; None for what the others say."""

    inst_id: str
    ts: str = ""
    last: str | None = None
    mark_px: str | None = None
    idx_px: str | None = None
    oi: str | None = None
    funding_rate: str | None = None
    funding_time: str | None = None


read_any = msgspec.json.Decoder(AnyFrame).decode
read_trades = msgspec.json.Decoder(Frame[Trade]).decode
read_books = msgspec.json.Decoder(Frame[Book]).decode
read_parts = msgspec.json.Decoder(Frame[Part]).decode
read_candles = msgspec.json.Decoder(Frame[list[str]]).decode
