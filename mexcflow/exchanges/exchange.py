"""What every exchange's file offers: pure functions of bytes, no I/O, no clock.

A new exchange is one file with a class of this shape, one line in the registry, and its frames with
their expected rows.
"""

from typing import ClassVar, Protocol

from mexcflow.exchanges.typed import Listing
from mexcflow.model import Reading


class Exchange(Protocol):
    """One symbol's stream on one exchange."""

    name: ClassVar[str]
    """The registry's name."""
    channels: ClassVar[tuple[str, ...]]
    """The channels it has, in our words."""
    url: ClassVar[str]
    """Its websocket."""
    ping_url: ClassVar[str]
    """What answers a plain GET with 200 as long as its REST works for us."""
    instruments_url: ClassVar[str]
    """The list of symbols (its first page)."""
    heartbeat: ClassVar[bytes]
    """The frame that keeps a connection open."""
    silence_s: ClassVar[float]
    """A connection without market data for so long is dead."""
    ack_timeout_s: ClassVar[float]
    """How long the acknowledgements of all subscriptions may take."""

    symbol: str

    def __init__(self, symbol: str, channels: tuple[str, ...]) -> None: ...

    def subscriptions(self) -> dict[str, bytes]:
        """Return the subscribe frame of each channel, in the order to be sent."""

    def is_market_data(self, payload: bytes) -> bool:
        """Say cheaply whether this looks like market data; `read` decides what it is."""

    def unwrap(self, payload: bytes) -> bytes:
        """Return the text of a message, decompressed where the exchange compresses."""

    def read(self, payload: bytes) -> Reading:
        """Return what a message turned out to be; any exception means that it cannot be decoded."""

    @staticmethod
    def read_instruments(body: bytes) -> Listing:
        """Return a page of the list of symbols."""
