"""The one table that an instance writes, behind the fence: each batch is in it once, whatever happens.

Before an INSERT the batch is named in the journal, together with the rows that the table has. After one
whose outcome is unknown, in this run or an earlier one, the rows that it has now decide: see `fence.py`.
Somebody else's rows are found at the start, after each error, and before each batch (embedded: every few
seconds).
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mexcflow.clock import Clock
from mexcflow.errors import DiskFailed, StatementRefused, StoreUnavailable
from mexcflow.journal import BatchRecord, Journal, Taken
from mexcflow.model import Row
from mexcflow.pipeline.fence import Known, Verdict, foreign, judge
from mexcflow.store import DATABASE, Store, check_table, ensure_table, torn_files
from mexcflow.store.coverage import Interval, write_intervals
from mexcflow.store.fence import TableState, insert_running, table_state
from mexcflow.store.scan import holds_rows
from mexcflow.store.statements import Stream

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0
"""How often a data folder's table is looked at, a millisecond each time: its rows are on this machine.
A server can, and may come back without its newest rows: its table is looked at before each batch, or a batch
would go behind a hole."""


@dataclass(frozen=True)
class InsertSettings:
    """Where rows go, when they are flushed, what is left free on the disk.

    `stream` is the exchange and the symbol that the table holds. `adopt`: take the table as it is, whoever
    wrote into it.
    """

    table: str
    stream: Stream | None = None
    flush_interval_s: float = 1.0
    sync_interval_s: float = 1.0
    batch_frames: int = 10_000
    min_free_bytes: int = 500_000_000
    adopt: bool = False


class Rewound(Exception):
    """The table had lost its newest rows, and the journal was taken back to where they begin."""


class Table:
    """Writes batches; `in_doubt` is the batch that was sent, or may have been, and is not acknowledged."""

    def __init__(self, store: Store, journal: Journal, settings: InsertSettings, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._name = settings.table
        self._known = Known(journal.state)
        self._adopt = settings.adopt
        self._foreign_from: int | None = None
        self._intervals_written = 0
        self._last_sync = self._last_look = clock.monotonic()
        self.in_doubt: BatchRecord | None = None
        self.ready = False
        self._looked = False

    @property
    def folder(self) -> Path | None:
        """Where the data folder is; None for a server."""
        return self._store.folder

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run must know."""
        return {"tables": self._known.checkpoint()}

    def look(self) -> None:
        """Raise for a table that is not ours; see whether it is there."""
        check_table(self._store, self._name)
        if table_state(self._store, self._name) is not None:
            ensure_table(self._store, self._name, self._settings.stream)
            self.ready = True

    def compare(self) -> None:
        """See that the table is as we left it; raises `Rewound`, `ForeignRows`."""
        if self.ready:
            self._as_we_left_it()

    def forget(self, batch: BatchRecord) -> None:
        """Take the table as it is after a batch of which nothing is known."""
        self._known.forget(batch.table)

    def write(self, taken: Taken, rows: Sequence[Row]) -> float | None:
        """Have these rows in the table once; returns the ms of the INSERT, None when none was needed.

        To be called again with the same frames after a transient error. Raises `Rewound`, `ForeignRows`.
        """
        if not self.ready:
            # not before the exchange has accepted the symbol: a typo must not leave a table behind
            ensure_table(self._store, self._name, self._settings.stream)
            self.ready = True
        if self.in_doubt is not None and self._landed(self.in_doubt, rows):
            return None
        if not rows or self._was_adopted(rows):
            self.in_doubt = None
            return None
        if self.in_doubt is None or self.in_doubt.rows != len(rows):
            before = self._as_we_left_it()
            self.in_doubt = self._journal.begin(
                taken, table=self._name, uuid=before.uuid, rows_before=before.rows, rows=len(rows)
            )
        batch = self.in_doubt
        started = self._clock.monotonic()
        self._store.insert_rows(self._name, rows, query_id=batch.name)
        elapsed_ms = (self._clock.monotonic() - started) * 1000
        self._known.set(self._name, TableState(batch.uuid, batch.rows_before + batch.rows))
        self._check_growth()  # it may have to ask the folder's owner, who may be gone: then the fence decides
        self.in_doubt = None
        return elapsed_ms

    def _landed(self, batch: BatchRecord, rows: Sequence[Row]) -> bool:
        """Say whether a batch in doubt is in its table."""
        if insert_running(self._store, [batch.name]):
            raise StoreUnavailable(f"the INSERT of batch {batch.name} is still running")
        before = TableState(batch.uuid, batch.rows_before)
        now = table_state(self._store, batch.table)
        verdict = judge(before, batch.rows, now)
        logger.info("batch %s: %s", batch.name, verdict.value)
        if verdict is Verdict.OTHER or now is None:
            self._known.forget(batch.table)
            self.in_doubt = None
            return False
        if verdict is Verdict.PRESENT:
            self._known.set(batch.table, now)
            self.in_doubt = None
            return True
        if verdict is Verdict.ABSENT:
            self._known.set(batch.table, before)
            if batch.table != self._name:
                self.in_doubt = None
            return False
        return self._resolved(batch, rows, now)

    def _resolved(self, batch: BatchRecord, rows: Sequence[Row], now: TableState) -> bool:
        """Go on with a table that others wrote into, or that lost rows; True when it has this batch."""
        if now.rows < batch.rows_before:
            self._rewind(batch.table, now)
        if not self._adopt:
            raise foreign(batch.table, batch.rows_before, now.rows)
        self._foreign_from = min(batch.rows_before, now.rows)
        there = holds_rows(self._store, batch.table, self._foreign_from, rows)
        logger.warning(
            "table %s is taken as it is, with %d rows; batch %s %s in it",
            batch.table,
            now.rows,
            batch.name,
            "is" if there else "is not",
        )
        self._known.set(batch.table, now)
        self.in_doubt = None
        return there

    def _as_we_left_it(self) -> TableState:
        """Return the table's state; raises when it is not as we left it."""
        now_s = self._clock.monotonic()
        known = self._known.get(self._name)
        is_safe = self._looked and not self._store.may_lose_rows_unseen
        recently = is_safe and now_s - self._last_look < _LOOK_EVERY_S
        if known is not None and recently:
            return known
        now = table_state(self._store, self._name)
        if now is None:
            raise StatementRefused(f"table {DATABASE}.{self._name} is gone", hint="A new start makes it anew")
        self._last_look, self._looked = now_s, True
        verdict = Verdict.OTHER if known is None else judge(known, 0, now)
        if known is not None and verdict is Verdict.SHORT:
            self._rewind(self._name, now)
        if known is not None and verdict in (Verdict.SHORT, Verdict.FOREIGN):
            if not self._adopt:
                raise foreign(self._name, known.rows, now.rows)
            logger.warning("table %s is taken as it is, with %d rows", self._name, now.rows)
            self._foreign_from = min(known.rows, now.rows)
        elif known is not None and verdict is Verdict.OTHER:
            logger.info("table %s is another one than before, with %d rows", self._name, now.rows)
        self._adopt = False  # what comes from now on is another matter
        self._known.set(self._name, now)
        return now

    def _was_adopted(self, rows: Sequence[Row]) -> bool:
        """Say whether these rows are among those that a table was adopted with: the journal is older then."""
        if self.in_doubt is None:
            self._as_we_left_it()
        if self._foreign_from is None:
            return False
        if holds_rows(self._store, self._name, self._foreign_from, rows):
            logger.warning("%d rows are in table %s already", len(rows), self._name)
            return True
        self._foreign_from = None
        return False

    def _rewind(self, table: str, now: TableState) -> None:
        """Go back in the journal to where the table's missing rows begin, if it is kept and wanted."""
        known = self._known.get(table)
        if self._adopt or not self._journal.rewind(now.uuid, now.rows):
            return
        missing = known.rows - now.rows if known is not None else 0
        self.in_doubt = None
        self._known = Known(self._journal.state)
        self._known.set(table, now)
        raise Rewound(
            f"table {table} has lost its newest {missing:,} rows (a power cut?): {self._journal.backlog:,} "
            "frames are inserted again from the journal"
        )

    def write_intervals(self, intervals: Sequence[Interval]) -> None:
        """Write down what we have and what we lack."""
        token = f"{self._journal.id}/{self._journal.stream.run}/coverage/{self._intervals_written}"
        write_intervals(self._store, intervals, token=token)
        self._intervals_written += 1

    def sync(self, *, force: bool = False) -> None:
        """Force the table's files down to the disk, when it is time."""
        now = self._clock.monotonic()
        never = math.isinf(self._settings.sync_interval_s)
        if self.ready and not never and (force or now - self._last_sync >= self._settings.sync_interval_s):
            self._store.sync(self._name)
            self._last_sync = now

    def _check_growth(self) -> None:
        """Raise when the table's files are not as long as the engine thinks: it said that all was well."""
        try:
            torn = torn_files(self._store, self._name)
        except DiskFailed as broken:  # its sizes.json
            torn = [broken.what]
        if torn:
            raise DiskFailed(
                f"table {self._name} is damaged: {torn[0]}",
                hint="Was the disk full for a moment, or did somebody touch the file? Start again: it is "
                "repaired, and what it lost is inserted from the journal",
            )
