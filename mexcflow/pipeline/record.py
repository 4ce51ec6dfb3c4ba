"""Record: wires the parts of one instance together, watches over them, and ends them in order.

Threads: receive (one a connection), insert, and the caller's own, which prints statistics. Shutdown
goes in order: stop receiving, flush, insert, acknowledge, close.
"""

import gc
import logging
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.config import NEVER, Instance
from mexcflow.errors import MexcflowError, TooManyErrors
from mexcflow.exchanges import REGISTRY, check_channels, find_exchange
from mexcflow.metrics import Metrics, Snapshot
from mexcflow.pipeline.connect import check_endpoint, check_proxy, open_line, redacted
from mexcflow.pipeline.insert import Inserter, InsertSettings
from mexcflow.pipeline.journal import Journal, MemoryJournal
from mexcflow.pipeline.receive import Receiver
from mexcflow.store import check_table, open_store

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.25
_RECEIVER_GRACE_S = 1.0
_PROGRESS_S = 2.0
"""How long the insert thread may take for nothing at all before its attempts are given up."""
_LAST_TRY_S = 1.0
_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from another. The default of 5 ms would delay receive
times while a batch is decoded, and an INSERT several times over."""


@dataclass(frozen=True)
class Settings:
    """What one run needs beyond its instance; `duration_s` 0 means without end."""

    instance: Instance
    database: str
    duration_s: float = 0.0
    min_free_bytes: int = InsertSettings.min_free_bytes
    batch_frames: int = InsertSettings.batch_frames


def check_instance(instance: Instance, *, where: str) -> None:
    """Raise `Misuse` for an exchange, a channel, a proxy or an endpoint that cannot be."""
    exchange = find_exchange(instance.exchange, where=where)
    check_channels(exchange, instance.channels, where=where)
    check_proxy(instance.proxy, where=where)
    if instance.endpoint:
        check_endpoint(instance.endpoint, where=where)


class Recorder:
    """One instance: `run` records until stopped, from any thread or signal handler, by `stop`."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        instance = settings.instance
        check_instance(instance, where=instance.source or "command line")
        exchange_class = REGISTRY[instance.exchange]
        self._url = instance.endpoint or exchange_class.url
        self._exchange = exchange_class(instance.symbol, instance.channels)
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._failure: MexcflowError | None = None
        self._journal: Journal = MemoryJournal()
        self.metrics = Metrics(instance.symbol, instance.table, instance.channels, now=clock.monotonic())

    def stop(self) -> None:
        """End the run in order."""
        self._stop.set()

    def snapshot(self, *, final: bool = False, close: bool = False) -> Snapshot:
        """Return the statistics as they stand."""
        return self.metrics.snapshot(
            now=self._clock.monotonic(), backlog_frames=self._journal.backlog, final=final, close=close
        )

    def run(self, on_statistics: Callable[[Snapshot], None], on_tick: Callable[[], None]) -> None:
        """Record until stopped; raises the error that ended it, once everything is closed.

        `on_statistics` gets the block at the end of each interval and a final one; `on_tick` is called
        four times a second.
        """
        instance = self._settings.instance
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        store = open_store(self._settings.database)
        gc.freeze()  # what is imported by now stays: no need to look through it again and again
        try:
            check_table(store, instance.table)
            receiver = Receiver(
                self._exchange,
                lambda: open_line(self._url, instance.proxy),
                self._journal,
                self.metrics,
                ping_interval_s=instance.ping_interval,
                clock=self._clock,
            )
            inserter = Inserter(
                self._exchange,
                self._journal,
                store,
                self.metrics,
                settings=InsertSettings(
                    table=instance.table,
                    flush_interval_s=instance.flush_interval,
                    sync_interval_s=math.inf if instance.fsync == NEVER else float(instance.fsync),
                    batch_frames=self._settings.batch_frames,
                    min_free_bytes=self._settings.min_free_bytes,
                ),
                clock=self._clock,
            )
            inserter.check_disk()
            self._announce(store.location)
            self._watch(receiver, inserter, on_statistics, on_tick)
        finally:
            store.close()
        last = self.snapshot(final=True, close=True)
        if last.total.rows or self._failure is None:
            on_statistics(last)
        if self._failure is not None:
            raise self._failure

    def _announce(self, location: str) -> None:
        instance = self._settings.instance
        through = f" through {redacted(instance.proxy)}" if instance.proxy else ""
        logger.info(
            "%s %s from %s%s into %s, table mexc_data.%s",
            instance.exchange,
            instance.symbol,
            redacted(self._url),
            through,
            location,
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
                    on_statistics(self.snapshot(close=True))
                if self._settings.duration_s and now - started >= self._settings.duration_s:
                    self._stop.set()
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
        receiver.stop()
        receiving.join(_RECEIVER_GRACE_S)
        inserter.close()
        left = -1
        while inserting.is_alive() and self._journal.backlog != left:
            left = self._journal.backlog
            inserting.join(_PROGRESS_S)
        inserter.give_up()  # nothing moves: the database is away
        inserting.join(_LAST_TRY_S)
        if self._journal.backlog:
            logger.error("%d frames that were received are not in the table", self._journal.backlog)

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

    def _too_many_errors(self) -> TooManyErrors:
        instance = self._settings.instance
        return TooManyErrors(
            f"{self.metrics.errors_in_interval} errors within {instance.stats_interval:g} s, more than "
            f"the {instance.max_errors} of --max-errors",
            hint="The log above has them",
        )
