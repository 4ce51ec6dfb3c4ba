"""Insert: one thread that turns the journal's frames into rows of the table.

The flush interval is a real timer: rows leave when it ends, however few, or earlier when a batch is
full. An interval of 0 means: as soon as the previous INSERT is back. A batch is one INSERT, in the
table whole or not at all; after an error that may pass it is sent again, unchanged, and its frames are
acknowledged to the journal only when the table has it.
"""

import logging
import threading
from dataclasses import dataclass

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import DiskFailed, Transient
from mexcflow.exchanges import Exchange
from mexcflow.metrics import Metrics
from mexcflow.pipeline.decode import Batch, decode
from mexcflow.pipeline.journal import Journal
from mexcflow.store import Store, ensure_table, torn_files

logger = logging.getLogger(__name__)

_IDLE_WAIT_S = 1.0
_HURRIED_WAIT_S = 0.2
_LEAST_FREE_BYTES = 50_000_000
"""Several of the largest batches, and the temporary files of their inserts."""


@dataclass(frozen=True)
class InsertSettings:
    """Where rows go, when they are flushed, and what is left free on the disk."""

    table: str
    flush_interval_s: float = 1.0
    sync_interval_s: float = 1.0
    batch_frames: int = 10_000
    min_free_bytes: int = 500_000_000


class Inserter:
    """Moves frames from the journal into one table until it is closed and the journal is empty."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        store: Store,
        metrics: Metrics,
        *,
        settings: InsertSettings,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._exchange = exchange
        self._journal = journal
        self._store = store
        self._metrics = metrics
        self._settings = settings
        self._table = settings.table
        self._clock = clock
        self._closing = threading.Event()
        self._giving_up = threading.Event()
        self._table_ready = False
        self._due = self._last_sync = clock.monotonic()

    def close(self) -> None:
        """Nothing more will come: insert what is left, then let `run` return."""
        self._closing.set()
        self._journal.close()

    def give_up(self) -> None:
        """Let `run` raise instead of trying again."""
        self._giving_up.set()

    def run(self) -> None:
        """Insert until closed; raises what no further attempt can mend."""
        while not (self._closing.is_set() and self._journal.backlog == 0):
            self._wait_until_due()
            self._due = self._clock.monotonic() + self._settings.flush_interval_s
            self._flush()
        self._sync(force=True)

    def _wait_until_due(self) -> None:
        if self._settings.flush_interval_s:
            remaining_s = max(0.0, self._due - self._clock.monotonic())
            self._journal.wait(self._settings.batch_frames, remaining_s)
        else:
            self._journal.wait(1, _IDLE_WAIT_S)

    def _flush(self) -> None:
        """Insert what waits, batch by batch, until less than a full batch is left."""
        while True:
            frames = self._journal.take(self._settings.batch_frames)
            if frames:
                self._insert(decode(self._exchange, frames))
                self._journal.acknowledge()
                self._sync()
            if len(frames) < self._settings.batch_frames:
                return

    def _insert(self, batch: Batch) -> None:
        if batch.rows or batch.tally.acks:
            self._retrying()(self._write, batch)
        self._metrics.count(batch.tally)

    def _write(self, batch: Batch) -> None:
        self.check_disk()
        if not self._table_ready:
            # not before the exchange has accepted the symbol: a typo must not leave a table behind
            ensure_table(self._store, self._table)
            self._table_ready = True
        if not batch.rows:
            return
        started = self._clock.monotonic()
        self._store.insert_rows(self._table, batch.rows)
        elapsed_ms = (self._clock.monotonic() - started) * 1000
        batch.tally.inserts = 1
        batch.tally.insert_ms = batch.tally.insert_ms_max = elapsed_ms

    def check_disk(self) -> None:
        """Raise `DiskFailed` when the disk is nearly full.

        chDB reports success on a full disk and leaves a table that cannot be read (measured), so there
        is no looking away from it: whatever --min-free says, some room must be left.
        """
        free = self._store.free_bytes()
        least = max(self._settings.min_free_bytes, _LEAST_FREE_BYTES)
        if free is not None and free < least:
            raise DiskFailed(
                f"{self._store.location}: {free / 1e6:,.0f} MB free on the disk, less than the "
                f"{least / 1e6:,.0f} MB that have to stay free (--min-free)",
                hint="Free some space and start again; what is stored is unharmed",
            )

    def _sync(self, *, force: bool = False) -> None:
        now = self._clock.monotonic()
        if self._table_ready and (force or now - self._last_sync >= self._settings.sync_interval_s):
            self._last_sync = now
            self._store.sync(self._table)
            torn = torn_files(self._store, self._table)
            if torn:  # the engine said that all was well
                raise DiskFailed(
                    f"table {self._table} is damaged: {torn[0]}",
                    hint="Was the disk full for a moment, or did somebody touch the file?",
                )

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(Transient),
            wait=wait_random_exponential(multiplier=0.5, max=30.0, min=0.1),
            stop=stop_when_event_set(self._giving_up),
            sleep=self._pause,
            before_sleep=self._report,
            reraise=True,
        )

    def _pause(self, seconds: float) -> None:
        if not self._clock.wait(self._closing, seconds):
            return
        self._clock.wait(self._giving_up, _HURRIED_WAIT_S)

    def _report(self, state: RetryCallState) -> None:
        self._metrics.error()
        error = state.outcome.exception() if state.outcome else None
        logger.warning("insert into %s failed, attempt %d: %s", self._table, state.attempt_number, error)
