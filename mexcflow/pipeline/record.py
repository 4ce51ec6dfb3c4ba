"""Record: wires the parts of one instance together, watches over them, and ends them in order.

Threads: receive and insert (one each a connection), poll where REST is asked as well, and the caller's own,
which prints statistics. Shutdown goes in order: stop receiving, flush, insert, acknowledge, close.
"""

import contextlib
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import DiskFailed, MexcflowError, StoreUnavailable, TooManyErrors
from mexcflow.exchanges import find_exchange
from mexcflow.journal import this_run
from mexcflow.metrics import Backlog, Metrics, Snapshot
from mexcflow.model import Wanted
from mexcflow.pipeline.address import redacted
from mexcflow.pipeline.check import check_instance
from mexcflow.pipeline.feed import Feed, Maker
from mexcflow.pipeline.hold import Hold
from mexcflow.pipeline.leftover import Leftovers
from mexcflow.pipeline.parts import Database, Settings, open_database, refuse_second
from mexcflow.pipeline.publish import Publisher
from mexcflow.pipeline.receive import STOPPED
from mexcflow.pipeline.reference import Reference
from mexcflow.store import Store
from mexcflow.store.forms import MARKET

__all__ = ["Recorder", "Settings"]

logger = logging.getLogger(__name__)

Threads = list[threading.Thread]

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


class Recorder:
    """One instance: `run` records until stopped, from any thread or signal handler, by `stop`."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        instance = settings.instance
        check_instance(instance, where=instance.source or "command line")
        self._exchange = find_exchange(instance.exchange, where="command line")
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._failure: MexcflowError | None = None
        self._stream = this_run(instance.exchange, instance.symbol)
        self._feeds: list[Feed] = []
        self._publisher: Publisher | None = None
        self._finished: Snapshot | None = None
        self._threads_ended = True
        self._reference = Reference(instance, clock)
        self._channels = instance.channels or self._exchange.channels
        table = instance.table or MARKET
        self.metrics = Metrics(instance.symbol, table, self._channels, now=clock.monotonic())

    def stop(self) -> None:
        """End the run in order."""
        self._stop.set()

    @property
    def proxy_in_use(self) -> str:
        """The proxy that the exchange is reached through now, without its password; "" for none."""
        return next((feed.receiver.proxy_in_use for feed in self._feeds), "")

    def snapshot(self, *, final: bool = False, close: bool = False) -> Snapshot:
        """Return the statistics as they stand."""
        journals = [feed.journal for feed in self._feeds]
        oldest_s = max((journal.backlog_age_s for journal in journals), default=0.0)
        return self.metrics.snapshot(
            now=self._clock.monotonic(),
            backlog=Backlog(self._backlog, oldest_s),
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
            if settings.instance.is_typed:
                hold = Hold(settings.folder, settings.instance.all_symbols, self._stream)
                closing.callback(hold.close)
            database = Database(settings, store, closing)
            wanted = self._wanted(store)
            maker = Maker(settings, self._stream, database.connect, self.metrics, self._clock, wanted)
            self._feeds = maker.feeds()
            closing.callback(self._close_journals)
            self._publisher = self._make_publisher()
            closing.callback(self._publish_end, self._publisher)
            self._announce(store)
            if settings.instance.is_typed:
                leftovers = Leftovers(maker, self._feeds)
                closing.callback(self._end_leftovers, leftovers, self._thread("leftover", leftovers.run))
            closing.callback(self._reference.keep_looking(database.connect))
            self._watch(on_statistics, on_tick)
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
            "%s %s from %s%s into %s, %s",
            instance.exchange,
            instance.symbol,
            ", ".join(map(redacted, self._settings.url.split(", "))),
            through,
            store.location if store else "the journal",
            f"tables of {MARKET}" if instance.is_typed else f"table mexc_data.{instance.table}",
        )

    @property
    def _backlog(self) -> int:
        return sum(feed.journal.backlog for feed in self._feeds)

    def _wanted(self, store: Store | None) -> Wanted:
        instance = self._settings.instance
        return Wanted(
            symbols=instance.all_symbols,
            channels=self._channels,
            candle_interval=instance.candle_interval,
            contract_sizes=self._reference.sizes(store) if instance.is_typed else {},
        )

    def _watch(self, on_statistics: Callable[[Snapshot], None], on_tick: Callable[[], None]) -> None:
        receiving = [self._thread(f"receive {one.name}".strip(), one.receiver.run) for one in self._feeds]
        polling = [self._thread(f"poll {one.name}", one.poller.run) for one in self._feeds if one.poller]
        inserting = [self._thread(f"insert {one.name}".strip(), one.inserter.run) for one in self._feeds]
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
            self._close(receiving, inserting, polling)

    def _close(self, receiving: Threads, inserting: Threads, polling: Threads) -> None:
        logger.info("stopping: no more frames, then the last rows")
        for feed in self._feeds:
            feed.stop_receiving(self._failure.what if self._failure else STOPPED)
        # one that still awaits an answer ends with the process: without a connection it keeps nothing
        _join([*receiving, *polling], _RECEIVER_GRACE_S)
        for feed in self._feeds:
            feed.inserter.close()
        progress_s = _FOLDER_PROGRESS_S if self._settings.in_folder else _PROGRESS_S
        left = -1
        while _alive(inserting) and self._backlog != left:
            left = self._backlog
            self._publish(stopping=True)
            _join(inserting, progress_s)
        for feed in self._feeds:
            feed.inserter.give_up()  # nothing moves: the database is away
        _join(inserting, _LAST_TRY_S)
        self._threads_ended = not _alive([*receiving, *inserting])
        if _alive(inserting):
            hint = "What waits is in the journal: the next run inserts it"
            self._fail(StoreUnavailable("the database does not answer", hint=hint))

    def _close_journals(self) -> None:
        if self._backlog:
            logger.warning(
                "%d frames are in the journal and not yet in the table: the next run inserts them",
                self._backlog,
            )
        with contextlib.ExitStack() as stack:
            for feed in self._feeds:
                # a thread that still uses it ends with the process, and its lock then, too
                stack.callback(feed.journal.close if self._threads_ended else feed.journal.sync)

    def _end_leftovers(self, leftovers: Leftovers, thread: threading.Thread) -> None:
        leftovers.stop()
        thread.join(_RECEIVER_GRACE_S)
        self._threads_ended &= not thread.is_alive()

    def _make_publisher(self) -> Publisher:
        settings = self._settings
        database = settings.database
        return Publisher(
            settings.instance,
            self._stream,
            settings.folder,
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


def _join(threads: Threads, seconds: float) -> None:
    """Wait for all of them, so long at most."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _alive(threads: Threads) -> bool:
    return any(thread.is_alive() for thread in threads)
