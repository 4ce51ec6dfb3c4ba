"""Which frames of the journal became which rows of a table, from the journal's own records.

An acknowledged batch is a piece: its frames stand between two positions, its rows between two row numbers.
Frames that were acknowledged and gave no row are pieces of no rows: a mended decoder may find some in them.
What is not acknowledged is no piece: the next run deals with it.

A piece counts only if the acknowledgement says that the table then had exactly the rows before the batch
and those of the batch: with --adopt, a batch may be somewhere else than its record says.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from mexcflow.errors import Permanent
from mexcflow.journal import BatchRecord, Kind, Position, Record
from mexcflow.journal.format import FORMAT
from mexcflow.journal.records import Acknowledged, read_acknowledged, read_batch, read_head
from mexcflow.model import Frame
from mexcflow.pipeline.fence import Known
from mexcflow.store import TableState


class Piece(NamedTuple):
    """Frames from the record at `start` to before `end`, and the rows they became."""

    start: Position
    end: Position
    frames: int
    rows_before: int
    rows: int

    @property
    def rows_end(self) -> int:
        """The number of the row behind its last one."""
        return self.rows_before + self.rows


class Pieces:
    """Pieces in order, 56 bytes each: a year has thirty million of them."""

    _WIDTH = 7

    def __init__(self) -> None:
        self._numbers = array("q")

    def place(self, piece: Piece) -> None:
        """Add a piece. What stood where it begins is gone: the table had lost it, and it was done again."""
        while len(self) and (self[-1].rows_end > piece.rows_before or self[-1].end > piece.start):
            del self._numbers[-self._WIDTH :]
        self._numbers.extend((*piece.start, *piece.end, piece.frames, piece.rows_before, piece.rows))

    def cut(self, end: Position, *, least: int) -> None:
        """Take away the last pieces as long as they reach beyond `end`, all but the first `least`."""
        while len(self) > least and self[-1].end > end:
            del self._numbers[-self._WIDTH :]

    def __len__(self) -> int:
        return len(self._numbers) // self._WIDTH

    def __getitem__(self, index: int) -> Piece:
        at = (index if index >= 0 else len(self) + index) * self._WIDTH
        one, two, three, four, frames, before, rows = self._numbers[at : at + self._WIDTH]
        return Piece(Position(one, two), Position(three, four), frames, before, rows)

    def __iter__(self) -> Iterator[Piece]:
        return (self[index] for index in range(len(self)))


@dataclass
class Layout:
    """What the journal says of one table. `end`: everything before it is acknowledged.

    `in_doubt` is a batch for this table that was named and not acknowledged. `tables` are all tables that
    the stream was written into, as it left them.
    """

    pieces: Pieces
    end: Position
    in_doubt: BatchRecord | None
    tables: dict[str, TableState]


def read_layout(records: Iterable[tuple[Position, Record]], uuid: str, pieces: Pieces) -> Layout:
    """Return the layout of the table of that uuid; `pieces` are those known otherwise, before all others."""
    reader = _Reader(uuid, pieces)
    for _, record in records:
        reader.take(record)
    return reader.finished()


class _Reader:
    """Follows the records in the order they were written."""

    def __init__(self, uuid: str, pieces: Pieces) -> None:
        self._uuid = uuid
        self._pieces = pieces
        self._given = len(pieces)
        self._end: Position | None = None
        self._frames = 0
        self._state: dict[str, Any] = {}
        self._pending: BatchRecord | None = None
        self._rowless: list[tuple[str, Piece]] = []
        self._last_table: str | None = None

    def take(self, record: Record) -> None:
        """Take in the next record."""
        if record.kind is Kind.SEGMENT:
            self._head(record)
        elif record.kind is Kind.BATCH:
            self._pending = read_batch(record.payload)
        elif record.kind is Kind.ACKNOWLEDGED:
            self._acknowledged(read_acknowledged(record.payload))

    def finished(self) -> Layout:
        """Return what all records came to."""
        self._place_rowless(None)
        pending = self._pending
        return Layout(
            self._pieces,
            self._end or Position(0, 0),
            pending if pending is not None and pending.uuid == self._uuid else None,
            _tables(self._state),
        )

    def _head(self, record: Record) -> None:
        try:
            head = read_head(record.payload)
        except msgspec.ValidationError as error:
            raise Permanent(f"a segment's head cannot be read: {error}", hint=_OTHER_FORMAT) from error
        if head.format != FORMAT:
            raise Permanent(f"a segment of format {head.format}, not {FORMAT}", hint=_OTHER_FORMAT)
        ledger = head.ledger
        self._go_on(ledger.end, ledger.acknowledged_frames, ledger.state)
        self._pending = ledger.pending

    def _acknowledged(self, done: Acknowledged) -> None:
        batch, self._pending = self._pending, None
        tables = _tables(done.state)
        if batch is not None and batch.name == done.name:
            now = TableState(batch.uuid, batch.rows_before + batch.rows)
            self._place_rowless(batch.table)
            if batch.uuid == self._uuid and now in tables.values():
                self._pieces.place(Piece(batch.start, batch.end, batch.frames, batch.rows_before, batch.rows))
        elif not done.name and self._end is not None and done.end > self._end and done.frames > self._frames:
            piece = Piece(self._end, done.end, done.frames - self._frames, 0, 0)
            self._rowless += [
                (name, piece._replace(rows_before=state.rows))
                for name, state in tables.items()
                if state.uuid == self._uuid
            ]
        self._go_on(done.end, done.frames, done.state)

    def _go_on(self, end: Position, frames: int, state: dict[str, Any]) -> None:
        """Take everything before `end` for acknowledged, and nothing behind it."""
        if self._end is not None and end < self._end:  # the table had lost its end, and it was gone back to
            self._pieces.cut(end, least=self._given)
            self._rowless = [(name, piece) for name, piece in self._rowless if piece.end <= end]
        self._end, self._frames, self._state = end, frames, state

    def _place_rowless(self, table: str | None) -> None:
        """Take frames without rows for this table's, unless the batches about them are another one's.

        A stream may have been written into two tables by turns, and no record says for which of them a
        batch without rows was meant.
        """
        for name, piece in self._rowless:
            if {name, table or name, self._last_table or name} == {name}:
                self._pieces.place(piece)
        self._rowless, self._last_table = [], table


_OTHER_FORMAT = "It was written by another version of mexcflow: use that one"


def _tables(state: dict[str, Any]) -> dict[str, TableState]:
    return {name: TableState(*known) for name, known in Known(state).checkpoint().items()}


class Frames:
    """The frames of a stream in order, taken range by range."""

    def __init__(self, records: Iterable[tuple[Position, Record]]) -> None:
        self._frames = ((at, record) for at, record in records if record.kind is Kind.FRAME)
        self._next = next(self._frames, None)

    @property
    def segment(self) -> int:
        """The segment that is being read; 0 at the end."""
        return self._next[0].segment if self._next else 0

    def between(self, start: Position, end: Position) -> list[Frame]:
        """Return the frames from `start` to before `end`, as far as they are kept."""
        found = []
        while self._next is not None and self._next[0] < end:
            at, record = self._next
            if at >= start:
                found.append(Frame(record.at_ns, record.payload))
            self._next = next(self._frames, None)
        return found

    def count_from(self, start: Position) -> int:
        """Return how many frames there are from `start` on; none is left then."""
        count = 0
        while self._next is not None:
            count += self._next[0] >= start
            self._next = next(self._frames, None)
        return count
