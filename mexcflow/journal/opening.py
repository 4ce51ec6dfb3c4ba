"""Opening a stream's folder: what the last run left is made whole, and added up into a ledger.

Only the newest segment with a readable head is scanned, and what comes behind it: each head holds the
ledger of everything before. An open segment loses its torn tail and is sealed; a crash may leave two of
them. A new one is begun by the journal itself. Nothing that is a whole record is ever removed.
"""

import logging
import uuid
from dataclasses import dataclass
from pathlib import Path

from mexcflow.journal.files import Files
from mexcflow.journal.format import Kind, Position
from mexcflow.journal.heads import head_of
from mexcflow.journal.lock import STATUS
from mexcflow.journal.records import Head, Ledger
from mexcflow.journal.retention import list_archive
from mexcflow.journal.segments import (
    Bad,
    Segment,
    list_segments,
    scan,
    segment_path,
    set_aside,
    set_corrupt_aside,
)

logger = logging.getLogger(__name__)


@dataclass
class Opened:
    """What was found: the ledger, the number of the next segment, and what had to be cut or set aside."""

    journal: str
    ledger: Ledger
    next_number: int
    new: bool = False
    torn_bytes: int = 0
    corrupt_bytes: int = 0


def open_folder(folder: Path, files: Files) -> Opened:
    """Make a folder whole and return what it holds; the caller has its lock."""
    segments = list_segments(folder)
    first, head = _newest_head(segments)
    opened = _opened(folder, segments, head)
    for index, segment in enumerate(segments):
        if index >= first:
            _take_in(segment, opened, opened.ledger, files)
        elif not segment.sealed:  # it was to be sealed when the run ended
            _take_in(segment, opened, Ledger(), files)
    if opened.torn_bytes:
        logger.warning("%s: a torn tail of %d bytes was cut", folder, opened.torn_bytes)
    opened.new = not list_segments(folder)
    if opened.new:
        opened.ledger.end = opened.ledger.received = Position(opened.next_number, 0)
    return opened


def _opened(folder: Path, segments: list[Segment], head: Head | None) -> Opened:
    archive = list_archive(folder)
    last = max(segments[-1].number if segments else 0, archive[-1].number if archive else 0)
    start = segments[0].number if segments else last + 1
    return Opened(
        journal=head.journal if head else uuid.uuid4().hex[:12],
        ledger=head.ledger if head else Ledger(end=Position(start, 0), received=Position(start, 0)),
        next_number=last + 1,
    )


def _newest_head(segments: list[Segment]) -> tuple[int, Head | None]:
    """Return the index of the newest segment with a readable head, and that head; the first one without."""
    for index in range(len(segments) - 1, -1, -1):
        head = head_of(segments[index])
        if head is not None:
            return index, head
    return 0, None


def _take_in(segment: Segment, opened: Opened, ledger: Ledger, files: Files) -> None:
    """Add one segment to a ledger; cut its torn tail and seal it when that was not done."""
    holds = 0
    for chunk in scan(segment):
        if chunk.bad is not None:
            if chunk.bad.tail and not segment.sealed:
                _cut(segment, chunk.bad, opened, files)
                break
            opened.corrupt_bytes += chunk.bad.end - chunk.bad.start
            set_corrupt_aside(segment.path.parent, segment, chunk.bad, files=files)
        elif chunk.record is not None:
            holds += chunk.record.kind is not Kind.SEGMENT
            ledger.apply(chunk.record)
        else:
            ledger.frames += len(chunk.frames)
            ledger.last_ns = chunk.frames[-1].received_ns
        if chunk.frames or (chunk.record and chunk.record.kind in (Kind.CONNECTED, Kind.DISCONNECTED)):
            holds += len(chunk.frames)
            ledger.received = Position(segment.number, chunk.end)
    if segment.sealed:
        return
    if not holds and segment.number == opened.next_number - 1:  # only a head, or not even that
        files.remove(segment.path)
        opened.next_number = segment.number
    else:
        seal(segment, files)


def _cut(segment: Segment, tail: Bad, opened: Opened, files: Files) -> None:
    """Cut a torn tail; what is more than zeros is copied before, since it may be damage after all."""
    with segment.path.open("rb") as file:
        file.seek(tail.start)
        zeros = not file.read().strip(b"\0")
    if not zeros:
        set_aside(segment.path.parent, segment, tail, files=files)
    files.cut(segment.path, tail.start)
    opened.torn_bytes += tail.end - tail.start


def seal(segment: Segment, files: Files) -> None:
    """Force a segment down, and close it for ever by its name."""
    files.sync_file(segment.path)
    files.rename(segment.path, segment_path(segment.path.parent, segment.number, sealed=True))
    files.sync_folder(segment.path.parent)


def waiting_frames(folder: Path) -> int:
    """Return how many frames a journal holds that no table has yet; changes nothing.

    Somebody may write it meanwhile: then it is how many there were a moment ago.
    """
    segments = list_segments(folder)
    first, head = _newest_head(segments)
    ledger = head.ledger if head else Ledger()
    for segment in segments[first:]:
        for chunk in scan(segment):
            ledger.frames += len(chunk.frames)
            if chunk.record is not None:
                ledger.apply(chunk.record)
    return max(0, ledger.backlog_frames)


def discard(folder: Path, files: Files) -> None:
    """Leave nothing behind of a stream that never was: a typo in the symbol makes one."""
    for segment in list_segments(folder):
        files.remove(segment.path)
    for name in (f"{STATUS}.new", STATUS, "lock"):
        files.remove(folder / name)
    for empty in (folder, folder.parent, folder.parent.parent):  # if not empty, somebody else's
        files.remove_folder(empty)
