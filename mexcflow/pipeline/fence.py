"""The fence: what a table's row count says about a batch whose fate is in doubt.

A string table has one writer, and a batch is in it as a whole or not at all. So the rows that it has now,
beside those it had before the batch, leave four cases, and a fifth: that it is another table.
"""

from enum import Enum
from typing import Any

from mexcflow.errors import ForeignRows
from mexcflow.store import DATABASE
from mexcflow.store.fence import TableState


class Verdict(Enum):
    """What became of a batch."""

    ABSENT = "absent"  # as many rows as before it: insert it (again)
    PRESENT = "present"  # grown by exactly the batch: acknowledge it
    SHORT = "short"  # fewer: a power cut took the table's end; replay from there
    FOREIGN = "foreign"  # anything else: somebody else writes
    OTHER = "other"  # the table is gone, or another one has its name: nothing of ours is in it


def judge(before: TableState, rows: int, now: TableState | None) -> Verdict:
    """Say what became of a batch of `rows` rows, or with 0 rows whether the table is as we left it."""
    if now is None or now.uuid != before.uuid:
        return Verdict.OTHER
    if now.rows == before.rows:
        return Verdict.ABSENT
    if now.rows == before.rows + rows:
        return Verdict.PRESENT
    return Verdict.SHORT if now.rows < before.rows else Verdict.FOREIGN


def foreign(table: str, expected: int, found: int) -> ForeignRows:
    """Return the error for a table with rows that are not ours, or without rows that were."""
    full = f"{DATABASE}.{table}"
    if found > expected:
        what = (
            f"table {full} has {found:,} rows and should have {expected:,}: somebody else writes into it, or "
            "the journal is older than the table (a power cut with --fsync never; a backup)"
        )
        hint = "Stop the other writer, or give one of the two another --table"
    else:
        what = (
            f"table {full} has {found:,} rows and should have {expected:,}, and the journal does not "
            f"reach back to where they are missing"
        )
        hint = "If it was restored from a backup, `mexcflow rebuild` has what was kept with --keep-raw"
    return ForeignRows(
        what, hint=f"{hint}. To go on with the table as it is, start once with --adopt; the journal keeps all"
    )


class Known:
    """The tables that this stream was written into, as we left them; kept in the journal."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._tables = {name: TableState(*known) for name, known in state.get("tables", {}).items()}

    def get(self, table: str) -> TableState | None:
        """Return a table as we left it."""
        return self._tables.get(table)

    def set(self, table: str, state: TableState) -> None:
        """Remember a table as it is now."""
        self._tables[table] = state

    def forget(self, table: str) -> None:
        """Take the table as it will be found."""
        self._tables.pop(table, None)

    def checkpoint(self) -> dict[str, Any]:
        """Return it for the journal."""
        return {name: list(state) for name, state in self._tables.items()}
