"""A stream's folder as a row of segments, and reading them."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mexcflow.journal.files import Files, failing
from mexcflow.journal.format import HEAD_BYTES, MARKER, Problem, Record, needed, parse
from mexcflow.model import Frame

logger = logging.getLogger(__name__)

CORRUPT = "corrupt"
_NAME = re.compile(r"([0-9]{8,})\.(open|sealed)")
_CHUNK_BYTES = 1 << 20
_LISTINGS = 3


class Segment(NamedTuple):
    """A segment's file; `sealed` ones never change."""

    number: int
    path: Path
    sealed: bool


class Bad(NamedTuple):
    """Bytes that are no record, from `start` to before `end`; `tail`: no record follows in the file."""

    start: int
    end: int
    tail: bool


class Chunk(NamedTuple):
    """What a reader found from `start` to before `end`: frames, or one other record, or what is no record."""

    start: int
    end: int
    frames: list[Frame]
    record: Record | None
    bad: Bad | None


def segment_path(folder: Path, number: int, *, sealed: bool) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:08}.{'sealed' if sealed else 'open'}"


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments of a folder, oldest first; none when there is no such folder.

    A listing may miss a file that is sealed at this moment: its old name is gone already, and where the new
    one stands was passed. So a hole in the numbers is looked at again.
    """
    found: dict[int, Segment] = {}
    for _ in range(_LISTINGS):
        with failing(folder):
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for name in names:
            match = _NAME.fullmatch(name)
            if match and not (match[2] == "open" and int(match[1]) in found):
                number, sealed = int(match[1]), match[2] == "sealed"
                found[number] = Segment(number, folder / name, sealed)
        if not found or max(found) - min(found) + 1 == len(found):
            break
    return [found[number] for number in sorted(found)]


def has_history(folder: Path) -> bool:
    """Say whether something was recorded into this folder before."""
    return bool(list_segments(folder))


def find_segment(folder: Path, number: int) -> Segment | None:
    """Return a segment as it is named now; None when it is gone."""
    # open, sealed: it may be sealed between two looks, but never the other way round
    for sealed in (False, True):
        path = segment_path(folder, number, sealed=sealed)
        if path.exists():
            return Segment(number, path, sealed)
    return None


def stat_of(segment: Segment) -> os.stat_result:
    """Return what the file system says of a segment."""
    with failing(segment.path):
        try:
            return segment.path.stat()
        except FileNotFoundError:  # sealed just now
            return segment.path.with_suffix(".sealed").stat()


class SegmentReader:
    """Reads one segment's file from an offset on; raises `FileNotFoundError`, `DiskFailed`."""

    def __init__(self, segment: Segment, offset: int = 0) -> None:
        self.segment = segment
        self.at = offset
        self._buffer = b""
        self._base = offset
        try:
            self._descriptor = self._open(segment.path)
        except FileNotFoundError:  # sealed just now
            self._descriptor = self._open(segment.path.with_suffix(".sealed"))

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError:
            with failing(path):
                raise

    def size(self) -> int:
        """Return how long the file is."""
        return os.fstat(self._descriptor).st_size

    def seek(self, offset: int) -> None:
        """Go on reading at another offset."""
        self.at = offset
        if not self._base <= offset <= self._base + len(self._buffer):
            self._buffer, self._base = b"", offset

    def next(self, at_most: int, end: int) -> Chunk | None:
        """Return what comes next before offset `end`; None when there is nothing more."""
        while self.at < end:
            start = self.at
            found = parse(self._buffer, start - self._base, at_most, self.segment.number)
            self.at = self._base + found.at
            if found.frames or found.record:
                return Chunk(start, self.at, found.frames, found.record, None)
            if found.problem is Problem.DAMAGED:
                return self._bad(end)
            wanted = needed(self._buffer, start - self._base)
            if start + wanted > end:
                return self._bad(end)
            self._load(start, wanted, end)
        return None

    def _pread(self, size: int, at: int) -> bytes:
        with failing(self.segment.path):
            return os.pread(self._descriptor, size, at)

    def bytes_of(self, bad: Bad) -> bytes:
        """Return the bytes that are no record."""
        return self._pread(bad.end - bad.start, bad.start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _load(self, at: int, wanted: int, end: int) -> None:
        self._buffer, self._base = self._pread(min(max(wanted, _CHUNK_BYTES), end - at), at), at
        if len(self._buffer) < wanted:  # the file became shorter than it was: let it be found damaged
            self._buffer += bytes(wanted - len(self._buffer))

    def _bad(self, end: int) -> Chunk:
        start = self.at
        found = self._next_record(start + 1, end)
        self.at = end if found is None else found
        return Chunk(start, self.at, [], None, Bad(start, self.at, tail=found is None))

    def _next_record(self, at: int, end: int) -> int | None:
        """Return where the next whole record from `at` on begins; None when there is none before `end`."""
        while end - at >= HEAD_BYTES:
            self._have(at, HEAD_BYTES, end)
            found = self._buffer.find(MARKER, at - self._base)
            if found < 0:  # the last byte may be the marker's first
                at = max(at + 1, self._base + len(self._buffer) - 1)
                continue
            at = self._base + found
            if self._is_record(at, end):
                return at
            at += 1
        return None

    def _is_record(self, at: int, end: int) -> bool:
        if end - at < HEAD_BYTES:
            return False
        self._have(at, HEAD_BYTES, end)
        found = parse(self._buffer, at - self._base, 1, self.segment.number)
        if found.problem is Problem.CUT:
            wanted = needed(self._buffer, at - self._base)
            if at + wanted > end:
                return False
            self._have(at, wanted, end)
            found = parse(self._buffer, at - self._base, 1, self.segment.number)
        return bool(found.frames or found.record)

    def _have(self, at: int, wanted: int, end: int) -> None:
        """Have so many bytes from `at` on in the buffer."""
        if not (self._base <= at and at + wanted <= self._base + len(self._buffer)):
            self._load(at, wanted, end)


def scan(segment: Segment) -> Iterator[Chunk]:
    """Yield everything of one segment's file."""
    with contextlib.closing(SegmentReader(segment)) as reader:
        while chunk := reader.next(10_000, reader.size()):
            yield chunk


def set_aside(folder: Path, segment: Segment, bad: Bad, *, files: Files) -> bool:
    """Copy bytes that are no record to `corrupt/`; False when that was done before."""
    with contextlib.closing(SegmentReader(segment)) as reader:
        damaged = reader.bytes_of(bad)
    target = folder / CORRUPT / f"{segment.number:08}-{bad.start:010}.bin"
    with failing(target):
        if target.is_file() and target.read_bytes() == damaged:
            return False
    files.write_whole(target, damaged)
    return True


def set_corrupt_aside(folder: Path, segment: Segment, bad: Bad, *, files: Files) -> None:
    """Copy bytes that are no record to `corrupt/`, and report them once."""
    if set_aside(folder, segment, bad, files=files):
        logger.error(
            "%s: %d bytes at offset %d are no record (damaged on the disk?); they are copied to %s, and "
            "reading goes on behind them",
            segment.path,
            bad.end - bad.start,
            bad.start,
            folder / CORRUPT,
        )
