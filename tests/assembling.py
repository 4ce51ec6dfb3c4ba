"""Frames of simulated exchanges through the typed pipeline's pure parts, cut and crashed as a test wants.

A tape is what an instance was sent: frames with the times they were received at, and the beginnings and ends
of connections among them. `Feed` plays it as the insert thread does; a crash takes everything but the JSON
of the last acknowledgement.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from mexcflow.exchanges import TYPED, TypedExchange
from mexcflow.journal import Kind, Record
from mexcflow.journal.records import Connected, Disconnected
from mexcflow.model import Frame, Wanted
from mexcflow.pipeline.plan import plan
from mexcflow.pipeline.typed_witness import TypedWitness
from mexcflow.store.coverage import Interval
from tests.simulated import START_MS, Player

START_NS = START_MS * 1_000_000
SECOND_NS = 1_000_000_000


class Began(NamedTuple):
    """A connection that stands."""

    at_ns: int
    handover: bool = False


class Ended(NamedTuple):
    """One that is lost."""

    at_ns: int


Event = Frame | Began | Ended


def exchange_of(name: str, symbols: Sequence[str], **wanted: object) -> TypedExchange:
    """Return what reads every channel of these symbols."""
    return TYPED[name](Wanted(**{"symbols": tuple(symbols), "channels": TYPED[name].channels, **wanted}))


@cache
def simulated(name: str, seconds: float = 3.0, symbols: int = 2) -> tuple[tuple[str, ...], tuple[Event, ...]]:
    """Return the symbols of a simulated exchange, and the tape of its first socket with a reconnect in it."""
    player = Player(name)
    known = tuple(contract.symbol for contract in player.exchange.contracts)[:symbols]
    exchange = exchange_of(name, known)
    events: list[Event] = []
    for _ in range(2):
        events.append(Began(player.now_ms * 1_000_000))
        clients = []
        for connection in plan(exchange):
            payloads = [one.payload for one in exchange.requests(connection.topics, 1)]
            clients.append(player.client(urlsplit(connection.url).path, *payloads))
        seen = [0] * len(clients)
        for _ in range(int(seconds * 2)):
            player.run(0.5)  # candles are looked at four times a second
            for number, client in enumerate(clients):
                at_ns = player.now_ms * 1_000_000
                events += [Frame(at_ns + i, one) for i, one in enumerate(client.frames[seen[number] :])]
                seen[number] = len(client.frames)
        player.clients.clear()
        player.run(0.5)
        events.append(Ended(player.now_ms * 1_000_000))
    return known, tuple(events)


class Feed:
    """One line's witness, with what it gave out: lines by table, gaps by symbol."""

    def __init__(self, exchange: TypedExchange, *, book_interval_us: int = 0) -> None:
        self._exchange = exchange
        self._interval_us = book_interval_us
        self.rows: dict[str, list[str]] = {}
        self.gaps: list[tuple[str, str, int, int, str]] = []
        self.intervals: list[Interval] = []
        self.counts: list[tuple[int, int, int]] = []
        self.state: dict = {}
        self._open()

    def _open(self) -> None:
        journal = SimpleNamespace(state=self.state)
        clock = SimpleNamespace(monotonic=lambda: 0.0)
        channels = {topic.symbol: () for topic in self._exchange.topics()}
        self.witness = TypedWitness(
            self._exchange, channels, journal, clock, book_interval_us=self._interval_us
        )

    def crash(self) -> None:
        """Be killed, and go on from the newest acknowledgement."""
        self._open()

    def take(self, events: Sequence[Event]) -> None:
        """Take a batch, as a journal gives it: frames, or the beginning or end of a connection alone."""
        frames: list[Frame] = []
        for event in events:
            if isinstance(event, Frame):
                frames.append(event)
                continue
            self._decode(frames)
            frames = []
            self._control(event)
        self._decode(frames)

    def _control(self, event: Began | Ended) -> None:
        if isinstance(event, Began):
            content = Connected("run", "host", [], "ws://nowhere", event.handover)
            record = Record(Kind.CONNECTED, event.at_ns, msgspec.json.encode(content))
        else:
            ended = Disconnected(reason="lost", since_ns=event.at_ns)
            record = Record(Kind.DISCONNECTED, event.at_ns, msgspec.json.encode(ended))
        self.witness.control(record)
        self._acknowledge()

    def _decode(self, frames: list[Frame]) -> None:
        if not frames:
            return
        batch = self.witness.decode(frames)
        for table, block in batch.rows:
            self.rows.setdefault(table.name, []).extend(block.decode().splitlines())
        for symbol, heard in sorted(batch.heard.items()):
            self.gaps += [(symbol, *gap) for gap in heard.gaps]
        tally = batch.tally
        self.counts.append((tally.duplicates, tally.backwards, tally.dead_letters))
        self.witness.stored(batch)
        self._acknowledge()

    def _acknowledge(self) -> None:
        self.intervals += self.witness.to_write()
        self.witness.written()
        self.state = json.loads(msgspec.json.encode(self.witness.checkpoint()))

    @property
    def sums(self) -> list[int]:
        """Duplicates, backwards, dead letters of all batches."""
        return [sum(column) for column in zip(*self.counts, strict=True)]


def play(
    exchange: TypedExchange,
    events: Sequence[Event],
    cuts: Iterable[int] = (),
    crashes: Iterable[int] = (),
    *,
    book_interval_us: int = 0,
) -> Feed:
    """Play a tape, cut into batches at `cuts`; behind those in `crashes` too the process is killed."""
    feed, before, crashed = Feed(exchange, book_interval_us=book_interval_us), 0, set(crashes)
    for at in sorted({*cuts, *crashed, len(events)}):
        feed.take(events[before:at])
        if at in crashed:
            feed.crash()
        before = at
    return feed
