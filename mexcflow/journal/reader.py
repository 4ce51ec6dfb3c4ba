"""Reading on from a position while the same journal is written, and finding a batch of the past."""

import logging
from pathlib import Path
from typing import NamedTuple

from mexcflow.journal.files import Files
from mexcflow.journal.format import Kind, Position, Record
from mexcflow.journal.heads import head_of
from mexcflow.journal.records import Acknowledged, BatchRecord, read_acknowledged, read_batch
from mexcflow.journal.segments import (
    Chunk,
    Segment,
    SegmentReader,
    find_segment,
    list_segments,
    scan,
    set_corrupt_aside,
)
from mexcflow.journal.writer import Writer
from mexcflow.model import Frame

logger = logging.getLogger(__name__)

_CONTROLS = (Kind.CONNECTED, Kind.DISCONNECTED)


class Taken(NamedTuple):
    """What the insert thread deals with next: frames, or one record of a connection.

    `full`: a limit ended it, so more is likely to wait.
    """

    frames: list[Frame]
    control: Record | None
    start: Position
    end: Position
    full: bool

    @property
    def first_ns(self) -> int:
        """The time of the first of it."""
        return self.control.at_ns if self.control else self.frames[0].received_ns

    @property
    def last_ns(self) -> int:
        """The time of the last of it."""
        return self.control.at_ns if self.control else self.frames[-1].received_ns


class Reader:
    """Reads frames and records of connections, in order, as far as `writer` has written."""

    def __init__(self, folder: Path, position: Position, writer: Writer, files: Files) -> None:
        self._folder = folder
        self._writer = writer
        self._files = files
        self._number = position.segment
        self._offset = position.offset
        self._file: SegmentReader | None = None

    @property
    def position(self) -> Position:
        """Where the next record to be read begins."""
        return Position(self._number, self._file.at if self._file else self._offset)

    def seek(self, position: Position) -> None:
        """Go on at another position."""
        self.close()
        self._number, self._offset = position

    def close(self) -> None:
        """Close the file that is read; reading may go on all the same."""
        if self._file is not None:
            self._offset = self._file.at
            self._file.close()
            self._file = None

    def take(self, at_most: int, at_most_bytes: int, *, until: Position | None = None) -> Taken | None:
        """Return the next frames, up to a limit or a record of a connection; or that record; or None."""
        frames: list[Frame] = []
        start, size, full = self.position, 0, False
        while not full:
            chunk = self._next(at_most - len(frames), until)
            if chunk is None:
                break
            if chunk.record is not None and chunk.record.kind in _CONTROLS:
                if not frames:
                    return Taken([], chunk.record, Position(self._number, chunk.start), self.position, True)
                self._back_to(chunk.start)
                full = True
            elif chunk.bad is not None:
                # what is before damage and what is behind it are two batches: one may be in a table, one not
                full = bool(frames) and until is None
            elif chunk.frames:
                if not frames:
                    start = Position(self._number, chunk.start)
                frames.extend(chunk.frames)
                size += chunk.end - chunk.start
                full = len(frames) >= at_most or size >= at_most_bytes
        return Taken(frames, None, start, self.position, full) if frames else None

    def _next(self, at_most: int, until: Position | None) -> Chunk | None:
        while True:
            with self._writer.lock:
                newest, written = self._writer.end
            if until is not None and self.position >= until:
                return None
            file = self._file = self._file or self._open(newest)
            if file is None:
                return None
            end = written if self._number == newest else file.size()
            if until is not None and self._number == until.segment:
                end = min(end, until.offset)
            chunk = file.next(at_most, end)
            if chunk is not None and chunk.bad is not None:
                set_corrupt_aside(self._folder, file.segment, chunk.bad, files=self._files)
            if chunk is not None:
                return chunk
            if self._number >= newest:
                return None
            file.close()
            self._file, self._number, self._offset = None, self._number + 1, 0

    def _back_to(self, offset: int) -> None:
        """Read a record of the present segment once more."""
        if self._file is not None:
            self._file.seek(offset)

    def _open(self, newest: int) -> SegmentReader | None:
        """Open the file of the present segment, or of the next one that is there."""
        segment = find_segment(self._folder, self._number)
        if segment is None:
            behind = [one for one in list_segments(self._folder) if self._number < one.number <= newest]
            if not behind:
                return None
            segment = behind[0]
            logger.error(
                "%s: segments %d to %d are gone: what was in them and not in the table is lost",
                self._folder,
                self._number,
                segment.number - 1,
            )
            self._number, self._offset = segment.number, 0
        return SegmentReader(segment, self._offset)


def find_batch(folder: Path, uuid: str, rows: int) -> tuple[BatchRecord, Acknowledged] | None:
    """Return the newest batch before which that table had so many rows, and the acknowledgement before it.

    Only what is kept (--journal-tail) can be found: the batch's record, and everything from its start on. And
    all of that must have gone into this table: what went into another one must not go into both.
    """
    segments = list_segments(folder)
    elsewhere = False
    for index in range(len(segments) - 1, -1, -1):
        if index + 1 < len(segments) and segments[index].number + 1 != segments[index + 1].number:
            return None  # one is gone: from here on not everything is kept
        found, mixed = None, False
        batches = _batches(segments[index])
        for batch, before in batches:
            if batch.uuid == uuid and batch.rows_before == rows:
                found, mixed = (batch, before), False
            elif batch.uuid != uuid:
                mixed = True
        if found is not None:
            if mixed or elsewhere:
                return None
            batch, acknowledged = found
            acknowledged = acknowledged or _before(segments[:index])
            kept = {segment.number for segment in segments}
            whole = kept.issuperset(range(batch.start.segment, segments[index].number))
            return (batch, acknowledged) if whole and acknowledged else None
        elsewhere |= any(batch.uuid != uuid for batch, _ in batches)
    return None


def _batches(segment: Segment) -> list[tuple[BatchRecord, Acknowledged | None]]:
    """Return each batch of a segment with the acknowledgement before it, as far as it knows one."""
    found: list[tuple[BatchRecord, Acknowledged | None]] = []
    before: Acknowledged | None = None
    for chunk in scan(segment):
        record = chunk.record
        if record is not None and record.kind is Kind.SEGMENT:
            before = _at_its_head(segment)
        elif record is not None and record.kind is Kind.ACKNOWLEDGED:
            before = read_acknowledged(record.payload)
        elif record is not None and record.kind is Kind.BATCH:
            found.append((read_batch(record.payload), before))
    return found


def _before(segments: list[Segment]) -> Acknowledged | None:
    """Return the newest acknowledgement in these segments."""
    for segment in reversed(segments):
        before = _at_its_head(segment)
        for chunk in scan(segment):
            if chunk.record is not None and chunk.record.kind is Kind.ACKNOWLEDGED:
                before = read_acknowledged(chunk.record.payload)
        if before is not None:
            return before
    return None


def _at_its_head(segment: Segment) -> Acknowledged | None:
    head = head_of(segment)
    if head is None:
        return None
    ledger = head.ledger
    return Acknowledged(
        end=ledger.end,
        frames=ledger.acknowledged_frames,
        controls=ledger.acknowledged_controls,
        state=ledger.state,
    )
