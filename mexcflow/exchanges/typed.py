"""What the file of an exchange with typed tables offers: pure functions of bytes, no I/O, no clock.

A new exchange is one file with a class of this shape, one line in the registry, and its frames with
their expected rows: `README.md` in this folder leads through it.
"""

import math
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from mexcflow.exchanges.book import Book
from mexcflow.model import BookUpdate, Instrument, Request, Topic, TypedReading, Wanted


class Limits(NamedTuple):
    """What one connection may be asked for, from the exchange's own page.

    `messages_per_s`: frames that we send. `topics`: subscriptions. `lifetime_s`: the exchange cuts a
    connection of that age. `connects_per_s`: new connections from one address.
    """

    messages_per_s: float
    topics: int
    lifetime_s: float = math.inf
    connects_per_s: float = 1.0


class Listing(NamedTuple):
    """One page of an exchange's list of symbols, and the URL of the next one ("" after the last)."""

    instruments: list[Instrument]
    next_url: str = ""


class Poll(NamedTuple):
    """A GET that is repeated every so many seconds, for what no websocket brings of a symbol.

    `socket`: the answers go with the connection of that socket which carries the symbol, and only while it
    stands.
    """

    socket: str
    symbol: str
    url: str
    every_s: float


class TypedExchange(Protocol):
    """Several symbols of one exchange, over one or more sockets."""

    name: ClassVar[str]
    """The registry's name."""
    channels: ClassVar[tuple[str, ...]]
    """The channels it has, of 'trade', 'book', 'ticker', 'candle'."""
    sockets: ClassVar[dict[str, str]]
    """Its websockets: our short name of each, and its URL."""
    limits: ClassVar[Limits]
    ping_url: ClassVar[str]
    """What answers a plain GET with 200 as long as its REST works for us."""
    instruments_url: ClassVar[str]
    """The list of symbols (its first page)."""
    heartbeat: ClassVar[bytes]
    """The frame that keeps a connection open; empty where none is needed."""
    silence_s: ClassVar[float]
    """A connection without market data for so long is dead."""
    ack_timeout_s: ClassVar[float]
    """How long the acknowledgements of all subscriptions may take."""
    intervals: ClassVar[tuple[str, ...]]
    """The candle intervals it has, in our words: 1m, 5m, 1h, 1d."""
    book_depth: ClassVar[int]
    """How many levels a side of a book are stored."""
    whole_books: ClassVar[bool]
    """Whether every frame of the book's topic is a whole snapshot; else deltas follow one."""
    book_levels: ClassVar[int]
    """Levels a side that the exchange keeps us informed of, beyond which a book is cut; 0: all of them."""
    consecutive_trades: ClassVar[bool]
    """Whether trade ids are numbers that rise by one, so that a hole shows."""
    example: ClassVar[str]
    """A symbol, to show how it is written."""

    def __init__(self, wanted: Wanted) -> None: ...

    def topics(self) -> tuple[Topic, ...]:
        """Return everything that is to be subscribed."""

    def requests(self, topics: tuple[Topic, ...], first_id: int) -> list[Request]:
        """Return the subscribe frames for topics of one socket, in the order to be sent."""

    def renew(self, topic: Topic, first_id: int) -> list[bytes]:
        """Return the frames that bring a new snapshot of a book; [] where every frame is one."""

    def is_market_data(self, payload: bytes) -> bool:
        """Say cheaply whether this looks like market data; `read` decides what it is."""

    def is_book_delta(self, payload: bytes) -> bool:
        """Say cheaply whether this may be of a book that is built from deltas (its snapshot, too)."""

    def unwrap(self, payload: bytes) -> bytes:
        """Return the text of a message, decompressed where the exchange compresses."""

    def read(self, payload: bytes) -> TypedReading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""

    def check_book(self, book: Book | None, last: int | None, update: BookUpdate) -> str:
        """Return why an update shows that something is missing, with both numbers; "" if nothing is.

        `book` is the one it was applied to (None for whole books), `last` the `sequence` of the update
        before, None if there was none.
        """

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return a page of the list of symbols; `ValueError` for an answer that is none."""


@runtime_checkable
class Polled(Protocol):
    """What the file of an exchange offers as well, if some of it comes over REST only."""

    def polls(self) -> tuple[Poll, ...]:
        """Return what is to be asked, so seldom that all symbols together keep well within its limits.

        `read` tells the answers from all frames, and marks their readings as `polled`.
        """
