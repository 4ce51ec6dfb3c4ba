"""Everything that is kept of a stream, read from the outside: raw archive first, then the segments."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from mexcflow.errors import Misuse
from mexcflow.journal.format import HEAD_BYTES, Kind, Position, Record
from mexcflow.journal.retention import ARCHIVE, decompressed, list_archive
from mexcflow.journal.segments import Segment, SegmentReader, find_segment, list_segments

logger = logging.getLogger(__name__)


def read_stream(folder: Path) -> Iterator[Record]:
    """Yield every record kept of a stream, oldest first; `folder` is the stream's, or its `archive`.

    It may be written meanwhile: what was written when its segment is reached is read. Bytes that are no
    record are passed over with an error in the log. Raises `Misuse` when there is nothing to read.
    """
    for _, record in read_positions(folder):
        yield record


def read_positions(folder: Path) -> Iterator[tuple[Position, Record]]:
    """Yield every record with its position; see `read_stream`."""
    if folder.name == ARCHIVE and list_archive(folder.parent):
        folder = folder.parent
        numbers = {one.number for one in list_archive(folder)}
    else:
        # in this order: what is archived between the two is in the second
        numbers = {one.number for one in list_segments(folder)}
        numbers |= {one.number for one in list_archive(folder)}
    if not numbers:
        inner = [str(one.parent) for one in sorted(folder.glob("*/lock"))]
        of_connections = f"Each of its connections has its own: {', '.join(inner)}"
        raise Misuse(
            f"{folder}: there is no journal",
            hint=of_connections if inner else "Give a stream's folder, e.g. data/journal/mexc/BTC_USDT",
        )
    for number in sorted(numbers):
        reader = _open(folder, number)
        if reader is not None:
            with contextlib.closing(reader):
                yield from _records(reader)


class _ArchiveReader(SegmentReader):
    """Reads a segment out of the archive."""

    def __init__(self, number: int, path: Path) -> None:
        self._bytes = decompressed(path)
        super().__init__(Segment(number, path, sealed=True))

    def _open(self, path: Path) -> int:
        return -1

    def _pread(self, size: int, at: int) -> bytes:
        return self._bytes[at : at + size]

    def size(self) -> int:
        """See `SegmentReader`."""
        return len(self._bytes)

    def close(self) -> None:
        """See `SegmentReader`."""


def _open(folder: Path, number: int) -> SegmentReader | None:
    """Open a segment wherever it is by now: it may be sealed, and then archived, while others are read."""
    segment = find_segment(folder, number)
    if segment is not None:
        with contextlib.suppress(FileNotFoundError):
            return SegmentReader(segment)
    for archived in list_archive(folder):
        if archived.number == number:
            return _ArchiveReader(number, archived.path)
    logger.warning("%s: segment %d went away before it was read", folder, number)
    return None


def _records(reader: SegmentReader) -> Iterator[tuple[Position, Record]]:
    number = reader.segment.number
    end = reader.size()
    while chunk := reader.next(1000, end):
        if chunk.bad is not None:
            level = logging.WARNING if chunk.bad.tail else logging.ERROR
            size = chunk.bad.end - chunk.bad.start
            logger.log(
                level, "%s: %d bytes at offset %d are no record", reader.segment.path, size, chunk.start
            )
        at = chunk.start
        for frame in chunk.frames:
            yield Position(number, at), Record(Kind.FRAME, frame.received_ns, frame.payload)
            at += HEAD_BYTES + len(frame.payload)
        if chunk.record is not None:
            yield Position(number, at), chunk.record
