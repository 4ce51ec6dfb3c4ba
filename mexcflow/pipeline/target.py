"""Target: what the insert thread needs to know of where frames go, a string table or the typed tables.

Both are a witness, which decodes and follows what was listened to, and a table, which has each batch once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mexcflow.journal import BatchRecord, Record, Taken
from mexcflow.model import Frame
from mexcflow.store import Store
from mexcflow.store.coverage import Interval

Rows = Any
"""What a batch holds for its table: `Row`s, or `Blocks`."""
AnyBatch = Any
"""`decode.Batch` or `typed_decode.TypedBatch`: both have `rows` and a `tally`."""


class AnyWitness(Protocol):
    """What `witness.Witness` and `typed_witness.TypedWitness` have in common."""

    def decode(self, frames: Sequence[Frame]) -> AnyBatch:
        """Return what these frames become."""

    def control(self, record: Record) -> None:
        """Take in that a connection began or ended."""

    def stored(self, batch: AnyBatch) -> None:
        """Count a batch that the table has."""

    def to_write(self, *, force: bool = False) -> list[Interval]:
        """Return the intervals that are to be written now."""

    def written(self) -> None:
        """Forget what `to_write` returned."""

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run goes on from."""


class AnyTable(Protocol):
    """What `table.Table`, `token_table.TokenTable` and `typed_table.TypedTables` have in common."""

    in_doubt: BatchRecord | None
    ready: bool

    @property
    def folder(self) -> Path | None:
        """Where the data folder is; None for a server."""

    def checkpoint(self) -> dict[str, Any]:
        """Return what a later run must know."""

    def look(self) -> None:
        """Raise for a table that is not ours."""

    def compare(self) -> None:
        """See that the table is as it was left."""

    def forget(self, batch: BatchRecord) -> None:
        """Take the table as it is after a batch of which nothing is known."""

    def write(self, taken: Taken, rows: Rows) -> float | None:
        """Have these rows in the table once; returns the ms that it took, None when it had them."""

    def write_intervals(self, intervals: Sequence[Interval]) -> None:
        """Write down what we have and what we lack."""

    def sync(self, *, force: bool = False) -> None:
        """Force the table's files down to the disk, when it is time."""


@dataclass(frozen=True)
class Target:
    """`name` is for people; `witness` goes on from the journal's newest acknowledgement each time."""

    name: str
    witness: Callable[[], AnyWitness]
    open: Callable[[Store], AnyTable]
