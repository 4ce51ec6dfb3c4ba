"""What several tests of the journal need: a clock they hold, runs, what a folder holds, and damage."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mexcflow.journal import Journal, JournalSettings, Kind, Position, Record, Retention, Stream
from mexcflow.journal.files import Files
from mexcflow.journal.format import HEAD_BYTES
from mexcflow.journal.segments import list_segments
from mexcflow.journal.settings import Durability
from mexcflow.journal.stream import read_positions

STREAM = Stream("mexc", "BTC_USDT", "run1", "here")
NOW_NS = 1_790_000_000_000_000_000


class HeldClock:
    """Time that only moves when it is told to; who waits, waits for the event."""

    def __init__(self) -> None:
        self.wall_ns = NOW_NS
        self.seconds = 1000.0

    def time_ns(self) -> int:
        return self.wall_ns

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait()

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall_ns += int(seconds * 1e9)


class UnsyncedFiles(Files):
    """A process that is killed loses nothing of what was not synced: here it would only take time."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


def settings(
    *,
    fsync_s: float = 1.0,
    segment_bytes: int = 1 << 24,
    age_s: float = 600.0,
    tail_s: float = 600.0,
    tail_bytes: int = 1 << 26,
    tail_segments: int = 1000,
    keep_raw_s: float = 0.0,
    taken_bytes: int = 1 << 25,
) -> JournalSettings:
    return JournalSettings(
        durability=Durability(fsync_s, segment_bytes, age_s),
        retention=Retention(tail_s, tail_bytes, tail_segments, keep_raw_s),
        taken_bytes=taken_bytes,
    )


def positions(folder: Path) -> list[tuple[Position, Record]]:
    """Every record that is kept, with its position, as a stranger reads it."""
    return list(read_positions(folder))


def kept_frames(folder: Path) -> list[bytes]:
    return [record.payload for _, record in positions(folder) if record.kind is Kind.FRAME]


def size_of(record: Record) -> int:
    return HEAD_BYTES + len(record.payload)


def path_of(folder: Path, number: int) -> Path:
    (segment,) = [one for one in list_segments(folder) if one.number == number]
    return segment.path


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int, *, mask: int = 0xFF) -> None:
    overwrite(path, at, bytes([path.read_bytes()[at] ^ mask]))


def corrupt_files(folder: Path) -> dict[tuple[int, int], bytes]:
    """What was set aside: by segment and offset."""
    found = {}
    for path in sorted((folder / "corrupt").glob("*.bin")):
        number, offset = path.stem.split("-")
        found[int(number), int(offset)] = path.read_bytes()
    return found


def crash(journal: Journal, target: Path) -> Path:
    """What the disk has when the process is killed now, as another folder; the old one is thrown away."""
    shutil.copytree(journal.folder, target)
    journal.close()
    shutil.rmtree(journal.folder, ignore_errors=True)
    return target


def drain(journal: Journal, at_most: int = 1000) -> Iterator[bytes]:
    """Take and acknowledge everything there is; yields the frames."""
    while taken := journal.take(at_most):
        yield from [frame.payload for frame in taken.frames]
        journal.acknowledge(taken, journal.state)


def read_json(record: Record) -> dict:
    return msgspec.json.decode(record.payload)


def opened(folder: Path, **options: object) -> Journal:
    return Journal(folder, STREAM, settings=settings(**options), clock=HeldClock(), files=UnsyncedFiles())


def frames(count: int, start: int = 0) -> list[bytes]:
    return [b"frame %d" % number for number in range(start, start + count)]


def record(folder: Path, payloads: list[bytes], **options: object) -> None:
    """A run that appends these, a frame a read, and is ended in order."""
    journal = opened(folder, **options)
    for number, payload in enumerate(payloads):
        journal.append(1000 + number, [payload])
    journal.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".open", ".sealed"))


def batch(journal: Journal, rows: int, *, acknowledge: bool = True, at_most: int = 1000) -> list[bytes]:
    taken = journal.take(at_most)
    journal.begin(taken, table="btc", uuid="u", rows_before=rows, rows=len(taken.frames))
    if acknowledge:
        journal.acknowledge(taken, {"rows": rows + len(taken.frames)})
    return [frame.payload for frame in taken.frames]
