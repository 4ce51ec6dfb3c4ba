"""Insert: one thread that turns the journal's frames into rows of the table.

The flush interval is a real timer: rows leave when it ends, however few, or earlier when a batch is
full. An interval of 0 means: as soon as the previous INSERT is back. A batch is one INSERT, in the
table whole or not at all. It gets its name in the journal before it is sent, and is acknowledged when the
table has it. When it is not known whether it has (no answer came; the process was killed), the table's
row count decides: see `fence.py`; where the engine takes tokens, the batch is sent again: `token_table.py`.
So the first thing a new run does is to finish what the last one left.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import OwnerGone, Transient
from mexcflow.journal import Journal, Taken
from mexcflow.metrics import Metrics, Tally
from mexcflow.pipeline.disk import check_free
from mexcflow.pipeline.table import InsertSettings, Rewound
from mexcflow.pipeline.target import AnyBatch, Target
from mexcflow.store import Store

logger = logging.getLogger(__name__)

_IDLE_WAIT_S = 1.0
_HURRIED_WAIT_S = 0.2


class Inserter:
    """Moves frames from the journal into one table until it is closed and the journal is empty."""

    def __init__(
        self,
        journal: Journal,
        connect: Callable[[], Store],
        metrics: Metrics,
        *,
        target: Target,
        settings: InsertSettings,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._target = target
        self._journal = journal
        self._connect = connect
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._closing = threading.Event()
        self._giving_up = threading.Event()
        self._to_recover = journal.recovered_frames
        self._recovered_frames = self._recovered_rows = 0
        self._witness = target.witness()
        self._due = clock.monotonic()

    def close(self) -> None:
        """Nothing more will come: insert what is left, then let `run` return."""
        self._closing.set()
        self._journal.finish()

    def give_up(self) -> None:
        """Let `run` raise instead of trying again."""
        self._giving_up.set()

    def run(self) -> None:
        """Insert until closed; raises what no further attempt can mend."""
        store = self._retrying("connect to the database")(self._connect)
        self._table = self._retrying("look at the table")(self._target.open, store)
        self._retrying("look at the table")(self._table.look)
        self._settle()
        while not (self._closing.is_set() and self._journal.drained):
            self._wait_until_due()
            self._due = self._clock.monotonic() + self._settings.flush_interval_s
            self._flush()
        self._write_down(force=True)
        self._sync(force=True)

    def _wait_until_due(self) -> None:
        if self._settings.flush_interval_s:
            remaining_s = max(0.0, self._due - self._clock.monotonic())
            self._journal.wait(self._settings.batch_frames, remaining_s)
        else:
            self._journal.wait(1, _IDLE_WAIT_S)

    def _settle(self) -> None:
        """Finish the batch that an earlier run named and did not acknowledge; find what a power cut took."""
        pending = self._journal.pending
        if pending is None:
            try:
                self._retrying("look at the table")(self._table.compare)
            except Rewound as rewound:
                self._go_back(rewound)
            return
        taken = self._journal.take_pending()
        if taken is None or taken.control is not None:
            logger.error("batch %s: its frames cannot be read from the journal any more", pending.name)
            self._table.forget(pending)
            return
        logger.info(
            "batch %s of an earlier run was not acknowledged: %d frames", pending.name, pending.frames
        )
        self._table.in_doubt = pending
        self._deal_with(taken)

    def _flush(self) -> None:
        """Insert what waits, batch by batch, until less than a full batch is left."""
        while taken := self._journal.take(self._settings.batch_frames):
            self._deal_with(taken)
            if not taken.full:
                break
        self._write_down()
        self._journal.tidy()

    def _deal_with(self, taken: Taken) -> None:
        try:
            if taken.control is not None:
                self._witness.control(taken.control)
                self._write_down()
                self._acknowledge(taken)
            else:
                self._insert(taken, self._witness.decode(taken.frames))
        except Rewound as rewound:
            self._go_back(rewound)

    def _go_back(self, rewound: Rewound) -> None:
        logger.warning("%s", rewound)
        self._to_recover = self._journal.backlog
        self._witness = self._target.witness()

    def _insert(self, taken: Taken, batch: AnyBatch) -> None:
        tally = batch.tally
        if batch.rows or tally.acks or self._table.in_doubt is not None:
            insert_ms = self._retrying(f"insert into {self._target.name}")(self._write, taken, batch)
            if insert_ms is not None:
                tally.inserts = 1
                tally.insert_ms = tally.insert_ms_max = insert_ms
        self._witness.stored(batch)
        self._write_down()
        self._acknowledge(taken)
        self._recovered(taken, tally)
        self._metrics.count(tally)
        self._sync()

    def _sync(self, *, force: bool = False) -> None:
        self._retrying(f"sync {self._target.name}")(self._table.sync, force=force)

    def _write(self, taken: Taken, batch: AnyBatch) -> float | None:
        self.check_disk()
        return self._table.write(taken, batch.rows)

    def _acknowledge(self, taken: Taken) -> None:
        self._journal.acknowledge(taken, self._witness.checkpoint() | self._table.checkpoint())

    def _recovered(self, taken: Taken, tally: Tally) -> None:
        if self._to_recover:
            tally.recovered_frames = min(self._to_recover, len(taken.frames))
            self._to_recover -= tally.recovered_frames
            self._recovered_frames += tally.recovered_frames
            self._recovered_rows += tally.rows
            if not self._to_recover:
                logger.info(
                    "recovered from the journal: %d frames, %d rows; they are in the table now",
                    self._recovered_frames,
                    self._recovered_rows,
                )

    def _write_down(self, *, force: bool = False) -> None:
        """Write coverage, once there is a table: before that nobody knows whether the symbol exists."""
        if self._table.ready and (intervals := self._witness.to_write(force=force)):
            self._retrying("insert into coverage")(self._table.write_intervals, intervals)
            self._witness.written()
            self._journal.keep()

    def check_disk(self) -> None:
        """Raise `DiskFailed` when a disk that we write to is nearly full."""
        for folder in self._folders():
            check_free(folder, self._settings.min_free_bytes)

    def _folders(self) -> list[Path]:
        folder = self._table.folder
        return [self._journal.folder] if folder is None else [self._journal.folder, folder]

    def _retrying(self, doing: str) -> Retrying:
        def report(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if state.attempt_number == 1 and isinstance(error, OwnerGone):
                logger.info("%s", error)  # owners come and go: nothing is wrong unless it stays so
                return
            self._metrics.error()
            logger.warning("%s failed, attempt %d: %s", doing, state.attempt_number, error)

        return Retrying(
            retry=retry_if_exception_type(Transient),
            wait=wait_random_exponential(multiplier=0.5, max=30.0, min=0.1),
            stop=stop_when_event_set(self._giving_up),
            sleep=self._pause,
            before_sleep=report,
            reraise=True,
        )

    def _pause(self, seconds: float) -> None:
        if not self._clock.wait(self._closing, seconds):
            return
        self._clock.wait(self._giving_up, _HURRIED_WAIT_S)
