"""The first record of a segment: whose it is, in which format, and the ledger of all before it."""

import contextlib

import msgspec

from mexcflow.errors import Permanent
from mexcflow.journal.format import FORMAT, Kind
from mexcflow.journal.records import Head, read_head
from mexcflow.journal.segments import Segment, SegmentReader


class _Format(msgspec.Struct):
    format: int = 0


_read_format = msgspec.json.Decoder(_Format).decode


def head_of(segment: Segment) -> Head | None:
    """Return a segment's head; None when it is damaged. Raises `Permanent` for a format of the future."""
    with contextlib.closing(SegmentReader(segment)) as reader:
        chunk = reader.next(1, reader.size())
    if chunk is None or chunk.record is None or chunk.record.kind is not Kind.SEGMENT:
        return None
    written = _read_format(chunk.record.payload).format
    if written != FORMAT:
        raise Permanent(
            f"{segment.path}: a journal of format {written}, this mexcflow reads format {FORMAT}",
            hint="It was written by another version: use that one, or move the folder away",
        )
    return read_head(chunk.record.payload)
