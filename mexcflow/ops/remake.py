"""Making a table from pieces: decode what is kept as frames, copy the rest from the old table, in order."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from mexcflow.errors import DiskFailed
from mexcflow.exchanges import Exchange
from mexcflow.model import Row
from mexcflow.ops.layout import Frames, Piece, Pieces
from mexcflow.pipeline.decode import decode
from mexcflow.pipeline.disk import check_free
from mexcflow.store import Store, torn_files
from mexcflow.store.rows import copy_rows

_ROWS_AN_INSERT = 10_000
"""Larger ones cost memory; smaller ones, such as a recording's own, cost disk and every later read."""
_TELL_EVERY = 1000

BEFORE = "older than the frames that are kept"
GONE = "their frames are damaged, gone or unknown"
BEHIND = "behind the last batch: not from this journal"


class How(IntEnum):
    """How a section of the new table came about."""

    KEPT = 0  # copied: no piece has it
    DECODED = 1  # a piece, decoded
    DAMAGED = 2  # a piece whose frames are not all there: copied


class Section(NamedTuple):
    """So many rows of the old table, and what stands in their place in the new one, from top to bottom."""

    how: How
    old_rows: int
    new_rows: int


class Sections:
    """Sections in order, 24 bytes each."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def add(self, how: How, old_rows: int, new_rows: int) -> None:
        """Add a section behind the others."""
        self._numbers.extend((how, old_rows, new_rows))

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def __iter__(self) -> Iterator[Section]:
        numbers = self._numbers
        return (
            Section(How(numbers[at]), numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3)
        )


@dataclass
class Kept:
    """Rows that were copied from the old table: the number of the first one, how many, and why."""

    row: int
    rows: int
    reason: str


@dataclass
class Remade:
    """What was decoded, what was copied, and how many rows neither the old table nor the journal has."""

    frames: int = 0
    batches: int = 0
    dead_letters: int = 0
    missing_rows: int = 0
    kept: list[Kept] = field(default_factory=list)

    @property
    def kept_rows(self) -> int:
        """All rows that were copied."""
        return sum(one.rows for one in self.kept)


class Remaker:
    """Fills `target`; `source` is the old table, and how many of its rows count."""

    def __init__(
        self,
        store: Store,
        exchange: Exchange,
        *,
        source: tuple[str, int],
        target: str,
        min_free_bytes: int,
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._source, self._source_rows = source
        self._target = target
        self._min_free_bytes = min_free_bytes
        self._rows: list[Row] = []
        self._to_copy = range(0)
        self._pieces = Pieces()
        self._remade = Remade()
        self.sections = Sections()

    def run(self, pieces: Pieces, frames: Frames, *, progress: Callable[[str], None]) -> Remade:
        """Fill the table, from the first row to the last."""
        self._pieces = pieces
        at = 0
        for number, piece in enumerate(pieces):
            if number % _TELL_EVERY == 0:
                progress(f"decoding: {self._remade.frames:,} frames")
            if piece.rows_before > at:
                self._keep(How.KEPT, at, piece.rows_before - at, self._reason())
            self._piece(piece, frames)
            at = piece.rows_end
        if self._source_rows > at:
            self._keep(How.KEPT, at, self._source_rows - at, BEHIND)
        self._copy()
        self._insert()
        return self._remade

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces with the rows that they are in the new table."""
        at, number = 0, 0
        for how, _, rows in self.sections:
            if how is not How.KEPT:
                yield self._pieces[number]._replace(rows_before=at, rows=rows)
                number += 1
            at += rows

    def _piece(self, piece: Piece, frames: Frames) -> None:
        found = frames.between(piece.start, piece.end)
        if len(found) != piece.frames:
            self._keep(How.DAMAGED, piece.rows_before, piece.rows, self._reason())
            return
        batch = decode(self._exchange, found)
        self._copy()
        self._rows += batch.rows
        self.sections.add(How.DECODED, self._there(piece.rows_before, piece.rows), len(batch.rows))
        self._remade.frames += piece.frames
        self._remade.batches += bool(piece.rows or batch.rows)
        self._remade.dead_letters += batch.tally.dead_letters
        if len(self._rows) >= _ROWS_AN_INSERT:
            self._insert()

    def _reason(self) -> str:
        return GONE if self._remade.frames else BEFORE

    def _there(self, at: int, rows: int) -> int:
        """Return how many of these rows the old table has: a power cut may have taken its end."""
        return max(0, min(self._source_rows, at + rows) - at)

    def _keep(self, how: How, at: int, rows: int, reason: str) -> None:
        """Have rows of the old table in the new one, as soon as it is known where they end."""
        there = self._there(at, rows)
        self._remade.missing_rows += rows - there
        self.sections.add(how, there, there)
        if not there:
            return
        kept = self._remade.kept
        if kept and kept[-1].reason == reason and kept[-1].row + kept[-1].rows == at:
            kept[-1].rows += there
        else:
            kept.append(Kept(at, there, reason))
        if self._to_copy and self._to_copy.stop == at:
            self._to_copy = range(self._to_copy.start, at + there)
        else:
            self._copy()
            self._to_copy = range(at, at + there)

    def _copy(self) -> None:
        if self._to_copy:
            self._insert()
            offset, rows = self._to_copy.start, len(self._to_copy)
            self._to_copy = range(0)
            self._guard()
            copy_rows(self._store, self._source, self._target, offset=offset, rows=rows)
            self._check()

    def _insert(self) -> None:
        if self._rows:
            self._guard()
            self._store.insert_rows(self._target, self._rows)
            self._rows = []
            self._check()

    def _guard(self) -> None:
        if self._store.folder is not None:
            check_free(self._store.folder, self._min_free_bytes)

    def _check(self) -> None:
        """Raise when the engine says that all was well and the files say otherwise."""
        if torn := torn_files(self._store, self._target):
            raise DiskFailed(
                f"the new table {self._target} is damaged: {torn[0]}",
                hint="Is the disk full? The old table is as it was",
            )
