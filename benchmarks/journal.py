"""What the journal costs: append, take, opening with a backlog, and the archive's levels of zstd.

    python benchmarks/journal.py [--frames 190000] [--backlog-mb 1000] [--folder /tmp]

Frames are those of `frames.py` (340 bytes on average), evolving, and for the archive uniform as well. Nothing
but the journal runs. Append and take are the best of three runs, everything else is one run.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from frames import Generator

from mexcflow.journal import Durability, Journal, JournalSettings, this_run
from mexcflow.journal.format import Kind, encode
from mexcflow.journal.segments import list_segments

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

START_NS = 1_790_000_000_000_000_000
RUNS = 3
STREAM = this_run("mexc", "BTC_USDT")
TAKE = 20_000


def best(runs: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def append(journal: Journal, reads: list[list[bytes]]) -> None:
    """Append what was read."""
    for number, payloads in enumerate(reads):
        journal.append(START_NS + number, payloads)


def take(journal: Journal, count: int) -> None:
    """Take and acknowledge so many frames."""
    while count > 0:
        taken = journal.take(min(TAKE, count))
        assert taken is not None
        count -= len(taken.frames)
        journal.acknowledge(taken, {})


def measure_append_and_take(base: Path, frames: list[bytes]) -> None:
    """Print the cost of a message, by how many come in one read and how often is synced."""
    for each, fsync_s in ((190, 1.0), (1, 1.0), (1, 0.0)):
        some = frames if fsync_s else frames[:2000]
        reads = [some[at : at + each] for at in range(0, len(some), each)]
        folder = base / f"append-{each}-{fsync_s}"
        journal = Journal(folder, STREAM, settings=JournalSettings(Durability(fsync_s=fsync_s)))
        written = best(RUNS, lambda journal=journal, reads=reads: append(journal, reads))
        read = best(RUNS, lambda journal=journal, some=some: take(journal, len(some)))
        journal.close()
        shutil.rmtree(folder, ignore_errors=True)  # a journal without a batch leaves nothing
        written_us, read_us = written / len(some) * 1e6, read / len(some) * 1e6
        print(f"{each} a read, fsync {fsync_s:g} s: append {written_us:.2f} µs, take {read_us:.2f} µs")


def measure_opening(base: Path, frames: list[bytes], backlog_mb: int) -> None:
    """Print how long it takes to open a journal with a large backlog, and the first frames of it."""
    folder = base / "backlog"
    journal = Journal(folder, STREAM)
    reads = [frames[at : at + 190] for at in range(0, len(frames), 190)]
    size = sum(map(len, frames))
    for _ in range(backlog_mb * 1_000_000 // size):
        append(journal, reads)
    count = journal.backlog
    journal.close()
    started = time.perf_counter()
    journal = Journal(folder, STREAM)
    opened = time.perf_counter()
    journal.take(TAKE)
    taken = time.perf_counter()
    assert journal.backlog == count
    tidied = best(RUNS, journal.tidy)
    print(
        f"backlog of {count:,} frames in {len(list_segments(folder))} segments: opened in "
        f"{(opened - started) * 1000:.0f} ms, its first {TAKE:,} frames in {(taken - opened) * 1000:.0f} ms, "
        f"tidy {tidied * 1e6:.1f} µs"
    )
    journal.close()


def measure_archive(kind: str) -> None:
    """Print what each level of zstd makes of one segment."""
    payloads: list[bytes] = []
    size = 0
    for frame in Generator(kind=kind).frames(100_000, interval_ms=80):
        payloads.append(frame)
        size += len(frame)
        if size >= Durability().segment_bytes:
            break
    raw = b"".join(encode(Kind.FRAME, START_NS + n * 80_000_000, [one], 1) for n, one in enumerate(payloads))
    for level in (1, 3, 5, 6, 7, 9, 12):
        packed = zstd.compress(raw, level)
        seconds = best(1, lambda level=level: zstd.compress(raw, level))
        back = best(1, lambda packed=packed: zstd.decompress(packed))
        print(
            f"{kind}, level {level}: {len(packed) / len(payloads):.1f} bytes a frame, 1 in "
            f"{len(raw) / len(packed):.1f}, {seconds * 1000:.0f} ms a segment of {len(raw) / 1e6:.1f} MB, "
            f"back in {back * 1000:.0f} ms"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=190_000)
    parser.add_argument("--backlog-mb", type=int, default=1000)
    parser.add_argument("--folder", help="where to write; the system's temporary folder without")
    arguments = parser.parse_args()
    frames = list(Generator(kind="evolving").frames(arguments.frames))
    with tempfile.TemporaryDirectory(prefix="mexcflow-bench-", dir=arguments.folder) as folder:
        measure_append_and_take(Path(folder), frames)
        measure_opening(Path(folder), frames, arguments.backlog_mb)
    for kind in ("evolving", "uniform"):
        measure_archive(kind)


if __name__ == "__main__":
    main()
