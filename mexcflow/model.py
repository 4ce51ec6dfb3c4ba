"""The words the pipeline is written in: frame, row, reading.

A frame is one websocket message as bytes. A reading is what a frame turned out to be. A row is what
goes into a table, in column order.

Exchanges whose rows go into string tables return `Reading`; those with typed tables return `TypedReading`,
whose rows are `Trade`, `BookUpdate`, `Ticker` and `Candle`. In these, prices and quantities are decimals as
text, with the digits that were sent; times are Unix µs.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

Row = tuple[int, str, str]
"""A row of a string table, in column order: `ts` (Unix ms), `mt` ('t', 'd', 'dp', 'dl'), `m`."""

DEAD_LETTER_CHARS = 500
"""How much of a frame that cannot be decoded is kept."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One websocket message, verbatim, with the time (Unix ns) its last byte was read."""

    received_ns: int
    payload: bytes


class Kind(StrEnum):
    """What a frame can turn out to be; every frame is exactly one of these."""

    DATA = "data"  # market data: rows
    ACK = "ack"  # the exchange accepted a subscription
    PONG = "pong"  # answer to our heartbeat
    ERROR = "error"  # the exchange complains
    SKIPPED = "skipped"  # market data with nothing in it, e.g. an empty list of deals
    DEAD_LETTER = "dead_letter"  # could not be decoded


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one frame turned out to be.

    `channel` is in our words ('ticker', 'deal', 'depth') and set for DATA, SKIPPED and ACK.
    `rows` is set for DATA, dead letters included. `text` is the exchange's own text for ERROR and the
    reason for DEAD_LETTER. `permanent` marks an ERROR that would come again: an unknown contract.
    `sequence` is the exchange's own number of a DATA frame within its channel, 0 or more; None without one.
    """

    kind: Kind
    channel: str = ""
    rows: tuple[Row, ...] = ()
    text: str = ""
    permanent: bool = False
    sequence: int | None = None


class Undecodable(ValueError):
    """Raised inside an exchange's file for a frame that can never be decoded; becomes a dead letter."""


class Topic(NamedTuple):
    """One subscription: `name` is the exchange's own for it, `socket` which of its sockets carries it.

    `channel` is in our words. Several topics may make up one channel of a symbol.
    """

    socket: str
    name: str
    channel: str
    symbol: str


class Request(NamedTuple):
    """A subscribe frame, with our `id` in it where the exchange takes one, and the topics it asks for."""

    id: int
    topics: tuple[Topic, ...]
    payload: bytes


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded of an exchange with typed tables.

    `contract_sizes`: base units in one contract, by symbol, as text; a symbol that lacks is not known.
    """

    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    candle_interval: str = "1m"
    contract_sizes: Mapping[str, str] = {}


class Trade(msgspec.Struct, gc=False):
    """One execution; `side` is the aggressor's, 'buy' or 'sell'.

    `quantity` is in the exchange's own unit, `base_quantity` in base units: None where the contract size is
    not known.
    """

    symbol: str
    time_us: int
    id: str
    price: str
    quantity: str
    base_quantity: str | None
    side: str


class BookUpdate(msgspec.Struct, gc=False):
    """A snapshot of a book, or absolute new quantities for some of its levels (0 removes one).

    Levels are (price, quantity). `sequence` is the exchange's number of this state, `first` the first that
    this update covers, `previous` that of the update before, `checksum` what the book must come to: each
    None where there is none. A snapshot that comes as every frame of its topic is best first. `time_us` is 0
    where the frame says none: then it is the time of receiving.
    """

    symbol: str
    time_us: int
    is_snapshot: bool
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    sequence: int | None = None
    first: int | None = None
    previous: int | None = None
    checksum: int | None = None


class Ticker(msgspec.Struct, gc=False):
    """What a ticker's frame says; None where it says nothing: then what was said before goes on.

    `time_us` is 0 where the frame says none, as in `BookUpdate`.
    """

    symbol: str
    time_us: int
    last: str | None = None
    mark: str | None = None
    index: str | None = None
    open_interest: str | None = None
    funding_rate: str | None = None
    next_funding_us: int | None = None


class Candle(msgspec.Struct, gc=False):
    """One update of a candle. `interval` is in our words ('1m'), `open_us` when it begins.

    `volume` is in base units, `quote_volume` in the quote currency. `closed` is None where the exchange
    does not say it: then the next candle, or the clock, closes it. `time_us` is 0 as in `BookUpdate`.
    """

    symbol: str
    time_us: int
    interval: str
    open_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str | None
    quote_volume: str | None = None
    trades: int | None = None
    closed: bool | None = None


class TypedReading(msgspec.Struct, frozen=True, gc=False):
    """What one frame of an exchange with typed tables turned out to be.

    `channel` and `rows` are set for DATA; all rows are of the channel's kind. `topics` (names) or `request`
    (an id) say what an ACK or an ERROR is about, as far as it says so. `text` is the exchange's own text of
    an ERROR; `permanent` marks one that would come again, an unknown symbol. `restart`: the exchange asks us
    to connect anew. `polled`: it is the answer to a poll, and says nothing of the connection.
    """

    kind: Kind
    channel: str = ""
    rows: Sequence[Trade | BookUpdate | Ticker | Candle] = ()
    text: str = ""
    permanent: bool = False
    topics: tuple[str, ...] = ()
    request: int | None = None
    restart: bool = False
    polled: bool = False


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """What can be recorded: a line of an exchange's list of symbols.

    `kind` is 'spot', 'perpetual' or 'future'. One contract is `contract_size` base units ('1' where
    quantities are in base units); where `inverse`, it is that much of the quote currency. A size or step
    that the list does not give is ''. `state` is 'trading', or the exchange's own word in small letters.
    """

    symbol: str
    base: str
    quote: str
    kind: str
    contract_size: str = "1"
    inverse: bool = False
    tick_size: str = ""
    quantity_step: str = ""
    state: str = "trading"
