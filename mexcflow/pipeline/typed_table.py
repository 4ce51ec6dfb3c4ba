"""The typed tables that one connection writes: each batch is in them once, whatever happens.

The fence is that of `token_table.py`: the batch's name, with the table's behind it, is the deduplication
token of each INSERT. A batch goes into several tables, one INSERT each; when one of them has no answer, or
the process is killed between two, all are sent again, and the tables that have theirs take them for done.

A table remembers its last 10,000 INSERTs, of all who write into it: many connections use them up within
hours. So before a batch is sent again, the tables without a natural key are asked for its rows.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mexcflow.clock import Clock
from mexcflow.journal import BatchRecord, Journal, Taken
from mexcflow.pipeline.blocks import Blocks
from mexcflow.store import Store
from mexcflow.store.coverage import Interval, write_intervals
from mexcflow.store.forms import MARKET
from mexcflow.store.market import check_market, ensure_market, holds_row
from mexcflow.store.tokens import check_tokens, once

logger = logging.getLogger(__name__)

_NOT_COUNTED = -1


class TypedTables:
    """Writes batches; used as `Table` is."""

    def __init__(self, store: Store, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._intervals_written = 0
        self.in_doubt: BatchRecord | None = None
        self.ready = False

    @property
    def folder(self) -> Path | None:
        """Where an embedded database is; None for a server."""
        return self._store.folder

    def checkpoint(self) -> dict[str, Any]:
        """Return nothing: the tables know what they have by its token."""
        return {}

    def look(self) -> None:
        """Make the tables that are missing; raises for one that is not ours, and where tokens are off."""
        check_market(self._store)
        check_tokens(self._store)
        ensure_market(self._store)
        self.ready = True

    def compare(self) -> None:
        """Do nothing: there is nothing to compare."""

    def forget(self, batch: BatchRecord) -> None:
        """Do nothing: of no table anything is known."""

    def write(self, taken: Taken, rows: Blocks) -> float | None:
        """Have these rows in their tables once; returns the ms of the INSERTs, None when none was needed.

        To be called again with the same frames after a transient error.
        """
        batch = self.in_doubt
        again = batch is not None
        if batch is None and rows:
            batch = self.in_doubt = self._journal.begin(
                taken, table=MARKET, uuid="", rows_before=_NOT_COUNTED, rows=len(rows)
            )
        elapsed_ms = None
        if batch is not None and rows:
            started = self._clock.monotonic()
            for table, block in rows:
                # an INSERT is in as a whole or not at all, so two of its rows speak for all
                if again and all(holds_row(self._store, table, line) for line in _ends(rows.lines(table))):
                    continue
                self._store.insert_block(table.name, table.columns, block, once(f"{batch.name}/{table.name}"))
            elapsed_ms = (self._clock.monotonic() - started) * 1000
        self.in_doubt = None
        return elapsed_ms

    def write_intervals(self, intervals: Sequence[Interval]) -> None:
        """Write down what we have and what we lack."""
        token = f"{self._journal.id}/{self._journal.stream.run}/coverage/{self._intervals_written}"
        write_intervals(self._store, intervals, token=token)
        self._intervals_written += 1

    def sync(self, *, force: bool = False) -> None:
        """Do nothing: the tables' own settings force each INSERT down to the disk."""


def _ends(lines: Sequence[str]) -> set[str]:
    """Return the first line and the last: rows of two months are two parts."""
    return {lines[0], lines[-1]}
