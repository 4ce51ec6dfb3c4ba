"""Feed: one connection's way from the socket into its tables: receiver, journal, inserter.

An instance with a string table is one feed. One with typed tables has a feed for each connection that its
topics need; each keeps a journal of its own, in a folder below the instance's.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mexcflow.clock import Clock
from mexcflow.config import read_duration
from mexcflow.exchanges import REGISTRY, TYPED, Exchange, TypedExchange
from mexcflow.journal import Journal, Stream
from mexcflow.metrics import Metrics
from mexcflow.model import Wanted
from mexcflow.pipeline.connect import Line, open_line
from mexcflow.pipeline.converse import Conversation
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.parts import Settings, open_journal
from mexcflow.pipeline.plan import Connection, Pace, plan
from mexcflow.pipeline.poll import Poller
from mexcflow.pipeline.receive import Receiver, SessionMaker
from mexcflow.pipeline.route import Route
from mexcflow.pipeline.session import StringSession
from mexcflow.pipeline.table import InsertSettings
from mexcflow.pipeline.target import Target
from mexcflow.pipeline.token_table import open_table
from mexcflow.pipeline.typed_table import TypedTables
from mexcflow.pipeline.typed_witness import TypedWitness
from mexcflow.pipeline.witness import Witness
from mexcflow.store import Store
from mexcflow.store.forms import MARKET


@dataclass(frozen=True)
class Feed:
    """The parts of one connection; `name` is '' for the only one of an instance.

    `poller`: where something of its symbols comes over REST only.
    """

    name: str
    journal: Journal
    receiver: Receiver
    inserter: Inserter
    poller: Poller | None = None

    def stop_receiving(self, reason: str) -> None:
        """End soon what writes the journal, which is told the reason."""
        if self.poller is not None:
            self.poller.stop()
        self.receiver.stop(reason)


@dataclass(frozen=True)
class Maker:
    """What all feeds of an instance share."""

    settings: Settings
    stream: Stream
    connect: Callable[[], Store]
    metrics: Metrics
    clock: Clock
    wanted: Wanted

    def feeds(self) -> list[Feed]:
        """Return the feeds of an instance; opens (and makes) their journals."""
        instance, wanted = self.settings.instance, self.wanted
        if not instance.is_typed:
            exchange = REGISTRY[instance.exchange](instance.symbol, instance.channels)
            return [self._string_feed(exchange)]
        typed = TYPED[instance.exchange](wanted)
        pace = Pace(typed.limits.connects_per_s, self.clock)
        feeds: list[Feed] = []
        with contextlib.ExitStack() as stack:
            for connection in plan(typed, instance.endpoint):
                feeds.append(self._typed_feed(typed, connection, pace))
                stack.callback(feeds[-1].journal.close)
            stack.pop_all()
        return feeds

    def _string_feed(self, exchange: Exchange) -> Feed:
        settings = self.settings
        journal = open_journal(settings, settings.folder, self.stream, clock=self.clock)
        return Feed(
            "",
            journal,
            self._receiver(string_sessions(exchange), partial(open_line, settings.url), journal, ""),
            self.inserter(journal, string_target(exchange, journal, insert_settings(settings), self.clock)),
        )

    def _typed_feed(self, exchange: TypedExchange, connection: Connection, pace: Pace) -> Feed:
        settings, name = self.settings, connection.name

        def open_paced(proxy: str) -> Line:
            pace.wait()
            return open_line(connection.url, proxy)

        journal = open_journal(settings, settings.folder / name, self.stream, clock=self.clock)
        sessions = partial(Conversation, exchange, connection.topics)
        lifetime_s = settings.lifetime_s or exchange.limits.lifetime_s
        receiver = self._receiver(sessions, open_paced, journal, name, lifetime_s=lifetime_s)
        inserter = self.inserter(journal, self.typed_target(exchange, connection.channels, journal))
        if not connection.polls:
            return Feed(name, journal, receiver, inserter)
        proxies = settings.instance.all_proxies
        poller = Poller(
            exchange, connection.polls, journal, lambda: receiver.stands, proxies, clock=self.clock
        )
        return Feed(name, journal, receiver, inserter, poller)

    def _receiver(
        self,
        sessions: SessionMaker,
        open_one: Callable[[str], Line],
        journal: Journal,
        name: str,
        *,
        lifetime_s: float = math.inf,
    ) -> Receiver:
        instance = self.settings.instance
        return Receiver(
            sessions,
            Route(open_one, instance.all_proxies, clock=self.clock),
            journal,
            self.metrics,
            ping_interval_s=instance.ping_interval,
            name=name,
            lifetime_s=lifetime_s,
            clock=self.clock,
        )

    def inserter(self, journal: Journal, target: Target) -> Inserter:
        """Return what takes a journal's frames into their tables."""
        return Inserter(
            journal,
            self.connect,
            self.metrics,
            target=target,
            settings=insert_settings(self.settings),
            clock=self.clock,
        )

    def typed_target(
        self, exchange: TypedExchange, channels: dict[str, tuple[str, ...]], journal: Journal
    ) -> Target:
        """Return the typed tables as where a journal's frames go."""
        interval_s = read_duration(str(self.settings.instance.book_interval), where="book_interval")
        interval_us = round(interval_s * 1_000_000)
        return Target(
            MARKET,
            lambda: TypedWitness(exchange, channels, journal, self.clock, book_interval_us=interval_us),
            lambda store: TypedTables(store, journal, self.clock),
        )


def string_sessions(exchange: Exchange) -> SessionMaker:
    """Return what makes the sessions of a string table's symbol."""
    return partial(StringSession, exchange)


def string_target(exchange: Exchange, journal: Journal, settings: InsertSettings, clock: Clock) -> Target:
    """Return a string table as where a journal's frames go."""
    return Target(
        settings.table,
        lambda: Witness(exchange, journal, clock),
        lambda store: open_table(store, journal, settings, clock),
    )


def insert_settings(settings: Settings) -> InsertSettings:
    """Return what of an instance's settings concerns the insert thread."""
    instance = settings.instance
    return InsertSettings(
        table=instance.table,
        stream=(instance.exchange, instance.symbol),
        flush_interval_s=instance.flush_interval,
        sync_interval_s=settings.fsync_s,
        batch_frames=settings.batch_frames,
        min_free_bytes=settings.min_free_bytes,
        adopt=settings.adopt,
    )
