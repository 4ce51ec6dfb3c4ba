"""What the server asks of an exchange: requests in, replies out, and the wire form of market events.

An exchange is a pure file (no sockets, no clock, no asyncio): `mexc.py` is the first, those with typed
tables build on `typed.py`. The times it needs are given to it in Unix ms, by the exchange's clock.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from mexcflow.model import Kind
from mexcflow.simulator.contracts import Contract
from mexcflow.simulator.market import Event


class Message(NamedTuple):
    """One websocket message; text need not be valid UTF-8 (that is one of the faults)."""

    payload: bytes
    is_text: bool = True


class Reply(NamedTuple):
    """An answer to a request; `kind` is ACK, PONG, ERROR, or DATA for the snapshot that follows an ACK.

    A PONG also proves a heartbeat.
    """

    kind: Kind
    payload: bytes


class RestAnswer(NamedTuple):
    """What a plain GET is answered with."""

    body: bytes
    status: int = 200


class Rules(NamedTuple):
    """What an exchange does to a connection, in seconds; the defaults mean: nothing.

    `paths`: where its websockets are, one a socket that a client needs. `heartbeat_s`: a client that did
    not prove to be alive for so long is cut. What proves it: a ping that was answered, a pong to a ping
    of the server, and with `traffic_counts` any message either way. `server_ping_s`: websocket pings by
    the server. `beat_every_s`: heartbeat messages by the server. `subscribe_within_s`: who has asked for
    nothing by then is cut. `messages_per_s`: who sends more is cut.
    """

    paths: tuple[str, ...]
    heartbeat_s: float = math.inf
    traffic_counts: bool = False
    server_ping_s: float | None = None
    beat_every_s: float | None = None
    subscribe_within_s: float | None = None
    messages_per_s: float = math.inf


class Session(Protocol):
    """What one client has subscribed to, on one of the exchange's sockets."""

    @property
    def subscribed(self) -> bool:
        """Whether the client wants anything at present."""

    @property
    def accepted(self) -> int:
        """How many subscriptions were accepted so far."""

    def greeting(self, now_ms: int) -> list[bytes]:
        """Return what a client is sent as soon as it has connected."""

    def beats(self, now_ms: int) -> list[bytes]:
        """Return the heartbeat messages of now; see `Rules.beat_every_s`."""

    def farewell(self, now_ms: int) -> list[bytes]:
        """Return what a client is sent before its connection ends of age."""

    def answer(self, request: bytes, now_ms: int) -> list[Reply]:
        """Take one request; [] means silence."""

    def variants(self, event: Event) -> tuple[str, ...]:
        """In which forms this client wants the event ('' if there is only one); () if it does not.

        Asked once for each event, after the exchange took it.
        """

    def garbage(self) -> tuple[Message, ...]:
        """Messages that no client can decode, aimed at what this client has subscribed to."""


class Exchange(Protocol):
    """One exchange's rules and wire."""

    rules: ClassVar[Rules]
    levels: ClassVar[int]
    """Levels a side of its market's books."""

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """What is traded, in this exchange's spelling."""

    def session(self, path: str, query: Mapping[str, str]) -> Session | None:
        """Return a new client of the socket with that path; None where there is no socket."""

    def take(self, event: Event, now_ms: int) -> None:
        """Keep what must be known of an event before it is published."""

    def due(self, now_ms: int) -> list[Event]:
        """Return the events that come by the clock: candles. Asked for several times a second."""

    def frames(self, event: Event, variant: str, now_ms: int) -> list[bytes]:
        """Spell the event for the wire, after `take`; one event may be several messages."""

    def no_heartbeat(self, now_ms: int) -> bytes:
        """Last words before a connection without heartbeat is cut; b"" where it has none."""

    def rest(self, path: str, query: Mapping[str, str], now_ms: int) -> RestAnswer | None:
        """Return what a plain GET is answered with; None where there is nothing."""
