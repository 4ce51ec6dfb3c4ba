"""Record: wires the parts of one instance together, watches over them, and ends them in order.

Threads: receive (one a connection), insert, and the caller's own, which prints statistics. Shutdown
goes in order: stop receiving, flush, insert, acknowledge, close.
"""

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.config import Instance
from mexcflow.errors import DiskFailed, MexcflowError, StoreUnavailable, TooManyErrors
from mexcflow.exchanges import REGISTRY, check_channels, find_exchange
from mexcflow.journal import Journal
from mexcflow.metrics import Backlog, Metrics, Snapshot
from mexcflow.pipeline.connect import check_endpoint
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.parts import (
    Settings,
    connect,
    make_inserter,
    make_receiver,
    open_database,
    open_journal,
    refuse_second,
)
from mexcflow.pipeline.proxy import check_proxies, redacted
from mexcflow.pipeline.publish import Publisher
from mexcflow.pipeline.receive import STOPPED, Receiver
from mexcflow.store import Store

__all__ = ["Recorder", "Settings", "check_instance"]

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.25
_RECEIVER_GRACE_S = 1.0
_PROGRESS_S = 2.0
"""How long the insert thread may take for nothing at all before its attempts are given up ..."""
_FOLDER_PROGRESS_S = 10.0
"""... and where the database is a folder: its owner may stop as well, and one of us starts the engine."""
_LAST_TRY_S = 1.0
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from another. The default of 5 ms would delay receive
times while a batch is decoded, and an INSERT several times over."""


def check_instance(instance: Instance, *, where: str) -> None:
    """Raise `Misuse` for an exchange, a channel, a proxy or an endpoint that cannot be."""
    exchange = find_exchange(instance.exchange, where=where)
    check_channels(exchange, instance.channels, where=where)
    check_proxies(instance.all_proxies, where=where)
    if instance.endpoint:
        check_endpoint(instance.endpoint, where=where)


class Recorder:
    """One instance: `run` records until stopped, from any thread or signal handler, by `stop`."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        instance = settings.instance
        check_instance(instance, where=instance.source or "command line")
        self._exchange = REGISTRY[instance.exchange](instance.symbol, instance.channels)
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._failure: MexcflowError | None = None
        self._journal: Journal | None = None
        self._receiver: Receiver | None = None
        self._publisher: Publisher | None = None
        self._finished: Snapshot | None = None
        self._threads_ended = True
        self.metrics = Metrics(instance.symbol, instance.table, instance.channels, now=clock.monotonic())

    def stop(self) -> None:
        """End the run in order."""
        self._stop.set()

    @property
    def proxy_in_use(self) -> str:
        """The proxy that the exchange is reached through now, without its password; "" for none."""
        return self._receiver.proxy_in_use if self._receiver else ""

    def snapshot(self, *, final: bool = False, close: bool = False) -> Snapshot:
        """Return the statistics as they stand."""
        journal = self._journal
        return self.metrics.snapshot(
            now=self._clock.monotonic(),
            backlog=Backlog(journal.backlog, journal.backlog_age_s) if journal else Backlog(),
            final=final,
            close=close,
        )

    def run(self, on_statistics: Callable[[Snapshot], None], on_tick: Callable[[], None]) -> None:
        """Record until stopped; raises the error that ended it, once everything is closed.

        `on_statistics` gets the block at the end of each interval and a final one; `on_tick` is called
        four times a second.
        """
        settings = self._settings
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        refuse_second(settings)
        with contextlib.ExitStack() as closing:
            store = open_database(settings)
            if store is not None:
                closing.callback(store.close)
            settings.check_disk()
            gc.freeze()  # what is imported by now stays: no need to look through it again and again
            self._journal = journal = open_journal(settings, clock=self._clock)
            closing.callback(self._close_journal, journal)
            self._publisher = self._make_publisher(journal)
            closing.callback(self._publish_end, self._publisher)

            def database() -> Store:
                if store is not None:
                    return store
                opened = connect(settings)
                closing.callback(opened.close)
                logger.info("the database is back: %s", opened.location)
                return opened

            receiver = make_receiver(settings, self._exchange, journal, self.metrics, clock=self._clock)
            self._receiver = receiver
            inserter = make_inserter(
                settings, self._exchange, journal, database, self.metrics, clock=self._clock
            )
            self._announce(store)
            self._watch(receiver, inserter, on_statistics, on_tick)
        last = self.snapshot(final=True, close=True)
        if last.total.rows or self._failure is None:
            on_statistics(last)
        if self._failure is not None:
            raise self._failure

    def _announce(self, store: Store | None) -> None:
        instance = self._settings.instance
        proxies = ", then ".join(map(redacted, instance.all_proxies))
        through = f" through {proxies}" if proxies else ""
        logger.info(
            "%s %s from %s%s into %s, table mexc_data.%s",
            instance.exchange,
            instance.symbol,
            redacted(self._settings.url),
            through,
            store.location if store else "the journal",
            instance.table,
        )

    def _watch(
        self,
        receiver: Receiver,
        inserter: Inserter,
        on_statistics: Callable[[Snapshot], None],
        on_tick: Callable[[], None],
    ) -> None:
        receiving = self._thread("receive", receiver.run)
        inserting = self._thread("insert", inserter.run)
        started = statistics_started = self._clock.monotonic()
        instance = self._settings.instance
        try:
            while not self._clock.wait(self._stop, _WATCH_INTERVAL_S):
                now = self._clock.monotonic()
                if self.metrics.errors_in_interval > instance.max_errors:
                    self._fail(self._too_many_errors())
                if now - statistics_started >= instance.stats_interval:
                    statistics_started += instance.stats_interval
                    self._finished = self.snapshot(close=True)
                    on_statistics(self._finished)
                self._check_disk()
                if self._settings.duration_s and now - started >= self._settings.duration_s:
                    self._stop.set()
                self._publish()
                on_tick()
        finally:
            self._close(receiver, receiving, inserter, inserting)

    def _close(
        self,
        receiver: Receiver,
        receiving: threading.Thread,
        inserter: Inserter,
        inserting: threading.Thread,
    ) -> None:
        logger.info("stopping: no more frames, then the last rows")
        receiver.stop(self._failure.what if self._failure else STOPPED)
        receiving.join(_RECEIVER_GRACE_S)
        inserter.close()
        progress_s = _FOLDER_PROGRESS_S if self._settings.in_folder else _PROGRESS_S
        journal, left = self._journal, -1
        while journal is not None and inserting.is_alive() and journal.backlog != left:
            left = journal.backlog
            self._publish(stopping=True)
            inserting.join(progress_s)
        inserter.give_up()  # nothing moves: the database is away
        inserting.join(_LAST_TRY_S)
        self._threads_ended = not (receiving.is_alive() or inserting.is_alive())
        if inserting.is_alive():
            hint = "What waits is in the journal: the next run inserts it"
            self._fail(StoreUnavailable("the database does not answer", hint=hint))

    def _close_journal(self, journal: Journal) -> None:
        if journal.backlog:
            logger.warning(
                "%d frames are in the journal and not yet in the table: the next run inserts them",
                journal.backlog,
            )
        if self._threads_ended:
            journal.close()
        else:
            journal.sync()  # a thread still uses it; the process ends now, and its lock with it

    def _make_publisher(self, journal: Journal) -> Publisher:
        settings = self._settings
        database = settings.database
        return Publisher(
            settings.instance,
            journal,
            self.metrics,
            shown_database=redacted(database) if "://" in database else str(Path(database).absolute()),
            shown_proxy=lambda: self.proxy_in_use,
            clock=self._clock,
        )

    def _publish(self, *, stopping: bool = False) -> None:
        if self._publisher is not None:
            self._publisher.tick(lambda: self.snapshot().with_rates_of(self._finished), stopping=stopping)

    def _publish_end(self, publisher: Publisher) -> None:
        publisher.end(self.snapshot(final=True), self._failure)

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guard, args=(name, target), name=name, daemon=True)
        thread.start()
        return thread

    def _guard(self, name: str, target: Callable[[], None]) -> None:
        """Run a thread; whatever ends it before its time ends the run."""
        try:
            target()
        except MexcflowError as error:
            self._fail(error)
        except BaseException as error:  # a thread's outermost frame
            logger.exception("the %s thread failed", name)
            self._fail(MexcflowError(f"internal error in the {name} thread: {error!r}"))

    def _fail(self, error: MexcflowError) -> None:
        if self._failure is None:
            self._failure = error
        self._stop.set()

    def _check_disk(self) -> None:
        """Stop before the journal's disk is full, also while the database is away."""
        try:
            self._settings.check_disk()
        except DiskFailed as error:
            self._fail(error)

    def _too_many_errors(self) -> TooManyErrors:
        instance = self._settings.instance
        return TooManyErrors(
            f"{self.metrics.errors_in_interval} errors within {instance.stats_interval:g} s, more than "
            f"the {instance.max_errors} of --max-errors",
            hint="The log above has them",
        )
