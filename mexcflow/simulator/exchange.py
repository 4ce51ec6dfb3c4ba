"""What the server asks of an exchange: requests in, replies out, and the wire form of market events.

An exchange is a pure file (no sockets, no clock, no asyncio): `mexc.py` is the first. The times it
needs are given to it in Unix ms.
"""

from typing import NamedTuple, Protocol

from mexcflow.model import Kind
from mexcflow.simulator.market import Event


class Message(NamedTuple):
    """One websocket message; text need not be valid UTF-8 (that is one of the faults)."""

    payload: bytes
    is_text: bool = True


class Reply(NamedTuple):
    """An answer to a request; `kind` is ACK, PONG or ERROR. A PONG also proves a heartbeat."""

    kind: Kind
    payload: bytes


class Session(Protocol):
    """What one client has subscribed to."""

    @property
    def subscribed(self) -> bool:
        """Whether the client wants anything at present."""

    @property
    def accepted(self) -> int:
        """How many subscribe requests were accepted so far."""

    def answer(self, request: bytes, now_ms: int) -> Reply | None:
        """Take one request; None means silence."""

    def variant(self, event: Event) -> str | None:
        """In which form this client wants the event ('' if there is only one), None if it does not."""

    def garbage(self) -> tuple[Message, ...]:
        """Messages that no client can decode, aimed at what this client has subscribed to."""


class Exchange(Protocol):
    """One exchange's rules and wire."""

    def session(self) -> Session:
        """Return a new client, subscribed to nothing."""

    def frame(self, event: Event, variant: str, now_ms: int) -> bytes:
        """Spell the event for the wire."""

    def no_heartbeat(self, now_ms: int) -> bytes:
        """Last words before a connection without heartbeat is cut."""

    def rest(self, path: str, now_ms: int) -> bytes | None:
        """Return the JSON that a plain GET is answered with; None where there is nothing."""
