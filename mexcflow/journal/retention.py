"""What is kept of a journal once the tables have it: the tail, and the raw archive.

The tail is there for power cuts: when a table lost its newest rows, they are replayed from it. A sealed
segment leaves the tail when its last record is older than `tail_s` and at least `tail_bytes` have been
written after it (or very many segments: a stream that starts and stops all the time makes small ones).
Then it is deleted, or compressed into `archive/`, where it stays for `keep_raw_s`.
"""

import logging
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mexcflow.clock import Clock
from mexcflow.journal.files import Files, failing
from mexcflow.journal.heads import head_of
from mexcflow.journal.segments import Segment, find_segment, list_segments, stat_of
from mexcflow.journal.settings import Retention

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

logger = logging.getLogger(__name__)

ARCHIVE = "archive"
_NAME = re.compile(r"([0-9]{8,})-([0-9]{8}T[0-9]{6}Z)\.zst")
_TIME = "%Y%m%dT%H%M%SZ"
_LEVEL = 6
"""Of zstd: level 3 makes files a tenth larger, level 9 takes 1.7 times as long for 4 % less."""

_OPTIONS: Mapping[int, int] = {
    zstd.CompressionParameter.compression_level: _LEVEL,
    zstd.CompressionParameter.checksum_flag: 1,
}
_PART_BYTES = 1 << 16
_LOOK_S = 5.0
"""How often the folder is looked at without a reason."""
_AT_ONCE_S = 0.5
"""How long it may take: the insert thread waits, and after a long outage there is much to compress."""


class Archived(NamedTuple):
    """A segment in the archive; `last_ns` is the time of its last record, to the second."""

    number: int
    path: Path
    last_ns: int


class Tidier:
    """Deletes or archives what is acknowledged; looks only now and then, it is asked after each batch."""

    def __init__(self, folder: Path, retention: Retention, *, files: Files, clock: Clock) -> None:
        self._folder = folder
        self._retention = retention
        self._files = files
        self._clock = clock
        self._looked: tuple[int, float] | None = None
        self._seen: dict[int, float] = {}

    def tidy(self, acknowledged: int, sync: Callable[[], None]) -> None:
        """Delete or archive the segments before `acknowledged` that left the tail; expire the archive.

        `sync` forces the journal down: what is deleted must not come to be missed because the newest
        acknowledgement was lost.
        """
        if not self._due(acknowledged):
            return
        started, synced = self._clock.monotonic(), False
        for segment in self._left_the_tail(acknowledged):
            if not synced:
                sync()
                synced = True
            if self._retention.keep_raw_s > 0:
                self._archive(segment)
            self._files.remove(segment.path)
            if self._clock.monotonic() - started > _AT_ONCE_S:
                self._looked = None  # go on after the next batch
                return
        self._expire()

    def _expire(self) -> None:
        """Delete from the archive what was kept for long enough; a run that keeps none leaves it alone."""
        keep_ns = self._retention.keep_raw_s * 1e9
        for archived in list_archive(self._folder) if 0 < keep_ns < math.inf else []:
            if self._clock.time_ns() - archived.last_ns > keep_ns:
                self._files.remove(archived.path)

    def _due(self, acknowledged: int) -> bool:
        """Say whether it is worth looking: another segment is acknowledged, or some seconds have passed."""
        now_s = self._clock.monotonic()
        if self._looked and self._looked[0] == acknowledged and now_s - self._looked[1] < _LOOK_S:
            return False
        self._looked = acknowledged, now_s
        return True

    def _left_the_tail(self, acknowledged: int) -> Iterator[Segment]:
        segments = list_segments(self._folder)
        stats = [stat_of(segment) for segment in segments]
        now_s = self._clock.monotonic()
        self._seen = {segment.number: self._seen.get(segment.number, now_s) for segment in segments}
        behind = sum(stat.st_size for stat in stats)
        for index, (segment, stat) in enumerate(zip(segments, stats, strict=True)):
            behind -= stat.st_size
            enough = (
                behind >= self._retention.tail_bytes or len(segments) - index > self._retention.tail_segments
            )
            if not (segment.sealed and segment.number < acknowledged and enough):
                return
            if self._age_s(segment, stat.st_mtime_ns) < self._retention.tail_s:
                return  # what comes after it is younger
            yield segment

    def _age_s(self, segment: Segment, written_ns: int) -> float:
        """Return how old a segment is for sure, also when the wall clock was set back since."""
        here_s = self._clock.monotonic() - self._seen[segment.number]
        return max((self._clock.time_ns() - written_ns) / 1e9, here_s)

    def _archive(self, segment: Segment) -> None:
        """Compress a segment; under its name in the archive there is only ever a whole one."""
        last = datetime.fromtimestamp(self._last_ns(segment) // 1_000_000_000, UTC)
        target = self._folder / ARCHIVE / f"{segment.number:08}-{last.strftime(_TIME)}.zst"
        if target.is_file():  # the last run ended before it could delete the segment
            return
        with failing(segment.path):
            raw = segment.path.read_bytes()
        self._files.write_whole(target, zstd.compress(raw, options=_OPTIONS))

    def _last_ns(self, segment: Segment) -> int:
        """Return the time of a segment's last record: the next one's head has it."""
        following = find_segment(self._folder, segment.number + 1)
        head = head_of(following) if following else None
        if head is not None and head.ledger.last_ns:
            return head.ledger.last_ns
        with failing(segment.path):
            return segment.path.stat().st_mtime_ns


def list_archive(folder: Path) -> list[Archived]:
    """Return what is in the archive of a stream's folder, oldest first."""
    archive = folder / ARCHIVE
    with failing(archive):
        names = [path.name for path in archive.iterdir()] if archive.is_dir() else []
    found = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            last = datetime.strptime(match[2], _TIME).replace(tzinfo=UTC)
            found.append(Archived(int(match[1]), archive / name, int(last.timestamp()) * 1_000_000_000))
    return sorted(found)


def decompressed(path: Path) -> bytes:
    """Return an archived segment as it was; of a damaged one, what comes before the damage."""
    with failing(path):
        packed = path.read_bytes()
    parts: list[bytes] = []
    unpack = zstd.ZstdDecompressor()
    try:
        for at in range(0, len(packed), _PART_BYTES):
            parts.append(unpack.decompress(packed[at : at + _PART_BYTES]))
    except (zstd.ZstdError, EOFError) as error:
        logger.error("%s: damaged (%s): only what comes before that can be read", path, error)
    else:
        if not unpack.eof:
            logger.error("%s: it is cut short: only what is there can be read", path)
    return b"".join(parts)
