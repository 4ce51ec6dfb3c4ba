"""The one table that an instance writes, where the engine itself takes a batch once: MergeTree, a cluster's.

The fence is the batch's name, sent with its INSERT as a token. The name is in the journal before the INSERT,
and a batch keeps its name and its frames over a crash. So a batch whose outcome is unknown, in this run or an
earlier one, is sent again until an answer comes, to whichever replica. Nothing is compared: rows of somebody
else are not noticed here, and rows that a power cut took from a single server are not missed. The settings of
the table make them safe before the answer; in a cluster the replicas have them too.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mexcflow.clock import Clock
from mexcflow.journal import BatchRecord, Journal, Taken
from mexcflow.model import Row
from mexcflow.pipeline.table import InsertSettings, Table
from mexcflow.store import Store, check_table, ensure_table
from mexcflow.store.coverage import Interval, write_intervals
from mexcflow.store.forms import Kept, existing_tables, string_flaw
from mexcflow.store.tokens import check_tokens, insert_once, table_uuid

logger = logging.getLogger(__name__)

_NOT_COUNTED = -1
"""In the journal's record of a batch, in place of the rows that the table had before it."""


def open_table(
    store: Store, journal: Journal, settings: InsertSettings, clock: Clock
) -> "Table | TokenTable":
    """Return what writes the table as it is: StripeLog, or none yet, is fenced by the number of rows."""
    there = existing_tables(store).get(settings.table)
    if there is None or there.kept is Kept.STRIPELOG:
        return Table(store, journal, settings, clock)
    return TokenTable(store, journal, settings, clock)


class TokenTable:
    """Writes batches, each with its token; `in_doubt` is the batch that was sent, or may have been.

    It is used as `Table` is.
    """

    def __init__(self, store: Store, journal: Journal, settings: InsertSettings, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._name = settings.table
        self._stream = settings.stream
        self._clock = clock
        self._intervals_written = 0
        self._uuid = ""
        self.in_doubt: BatchRecord | None = None
        self.ready = False

    @property
    def folder(self) -> Path | None:
        """Where an embedded database is; None for a server."""
        return self._store.folder

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run must know: how other tables were left, should the stream go back to one.

        Of a table of this name nothing is kept: the next one that has it will be taken as it is found.
        """
        tables = self._journal.state.get("tables", {})
        return {"tables": {name: known for name, known in tables.items() if name != self._name}}

    def look(self) -> None:
        """Raise for a table that is not ours, and where tokens are switched off."""
        check_table(self._store, self._name)
        check_tokens(self._store)
        ensure_table(self._store, self._name, self._stream)
        self._uuid = table_uuid(self._store, self._name)
        self.ready = True

    def compare(self) -> None:
        """Do nothing: there is nothing to compare."""

    def forget(self, batch: BatchRecord) -> None:
        """Do nothing: of no table anything is known."""

    def write(self, taken: Taken, rows: Sequence[Row]) -> float | None:
        """Have these rows in the table once; returns the ms of the INSERT, None when none was needed.

        To be called again with the same frames after a transient error.
        """
        batch = self.in_doubt
        if batch is None and rows:
            batch = self.in_doubt = self._journal.begin(
                taken, table=self._name, uuid=self._uuid, rows_before=_NOT_COUNTED, rows=len(rows)
            )
        elapsed_ms = None
        if batch is not None and rows:
            started = self._clock.monotonic()
            insert_once(self._store, self._target(batch), rows, token=batch.name)
            elapsed_ms = (self._clock.monotonic() - started) * 1000
        self.in_doubt = None
        return elapsed_ms

    def _target(self, batch: BatchRecord) -> str:
        """Return the table that a batch goes to: where it was sent first, if tokens are kept there."""
        if batch.uuid == self._uuid:
            return self._name
        tables = existing_tables(self._store)
        there = tables.get(batch.table)
        if batch.table != self._name and there is not None and there.kept is not Kept.STRIPELOG:
            return self._name if string_flaw(batch.table, tables) else batch.table
        logger.warning(
            "batch %s of an earlier run was meant for another table than this %s: its %d rows are inserted "
            "here. If that one had them, and they were copied, they are here twice",
            batch.name,
            self._name,
            batch.rows,
        )
        return self._name

    def write_intervals(self, intervals: Sequence[Interval]) -> None:
        """Write down what we have and what we lack."""
        token = f"{self._journal.id}/{self._journal.stream.run}/coverage/{self._intervals_written}"
        write_intervals(self._store, intervals, token=token)
        self._intervals_written += 1

    def sync(self, *, force: bool = False) -> None:
        """Do nothing: the table's own settings force each INSERT down to the disk."""
