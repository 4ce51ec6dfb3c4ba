"""The journal when the disk is full, fails or refuses, and when the clock is set back."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.errors import DiskFailed, Permanent
from mexcflow.journal import Journal, holder
from mexcflow.journal.files import Files
from mexcflow.journal.format import MAX_PAYLOAD_BYTES
from mexcflow.journal.segments import list_segments
from tests.journals import (
    STREAM,
    HeldClock,
    drain,
    frames,
    kept_frames,
    names,
    opened,
    record,
    settings,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "mexc" / "BTC_USDT"


class Failing(Files):
    """A disk that does not do what is asked from a given moment on."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.broken: set[str] = set()

    def _fail(self, what: str) -> None:
        if what in self.broken:
            raise OSError(self._number, os.strerror(self._number))

    def append(self, descriptor: int, data: bytes, at: int) -> None:
        if "append" in self.broken:
            os.write(descriptor, data[: len(data) // 2])
            self._fail("append")
        if "append and cut back" in self.broken:
            os.write(descriptor, data[: len(data) // 2])
            os.ftruncate(descriptor, at)
            self._fail("append and cut back")
        super().append(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        self._fail("sync")
        super().sync(descriptor)

    def create(self, path: Path) -> int:
        if "create" in self.broken:
            raise DiskFailed(f"journal {path}: {os.strerror(self._number)}")
        return super().create(path)


@pytest.mark.parametrize("what", ["append", "append and cut back", "create"])
def test_disk_full_in_the_middle_of_an_append(folder: Path, what: str):
    files = Failing(errno.ENOSPC)
    journal = Journal(folder, STREAM, settings=settings(segment_bytes=1), files=files, clock=HeldClock())
    journal.append(1, frames(2))
    files.broken.add(what)
    for _ in range(2):
        with pytest.raises(DiskFailed, match="No space left") as caught:
            journal.append(2, [b"lost" * 100])
        assert caught.value.exit_code == 74
    files.broken.clear()
    with pytest.raises(DiskFailed):  # it has stopped, and stays so
        journal.append(2, [b"lost"])
    with pytest.raises(DiskFailed):
        journal.wait(1, 0)
    journal.close()
    journal = opened(folder)
    journal.append(3, [b"goes on"])
    assert list(drain(journal)) == [*frames(2), b"goes on"]
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if os.getuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_really_full_disk(small_disk: Path):
    folder = small_disk / "mexc" / "BTC_USDT"
    journal = Journal(folder, STREAM)
    appended = []
    with pytest.raises(DiskFailed, match="No space left"):  # noqa: PT012
        while True:
            payloads = [b"%d" % len(appended) * 1000, b"x"]
            journal.append(1, payloads)
            appended += payloads
    journal.close()
    assert kept_frames(folder) == appended
    with pytest.raises(DiskFailed, match="No space left"):
        opened(folder)
    assert holder(folder) is None
    assert kept_frames(folder) == appended


@pytest.mark.parametrize("fsync_s", [0, 1])
def test_an_fsync_that_fails_stops_the_journal(folder: Path, fsync_s: float):
    files, clock = Failing(errno.EIO), HeldClock()
    journal = Journal(folder, STREAM, settings=settings(fsync_s=fsync_s), files=files, clock=clock)
    journal.append(1, frames(2))
    files.broken.add("sync")
    taken = journal.take(2)
    with pytest.raises(DiskFailed, match="Input/output error"):
        journal.begin(taken, table="t", uuid="u", rows_before=0, rows=1)
    files.broken.clear()
    for attempt in (
        lambda: journal.append(2, [b"x"]),
        lambda: journal.wait(1, 0),
        journal.sync,
        lambda: journal.acknowledge(taken, {}),
    ):
        with pytest.raises(DiskFailed, match="Input/output error"):
            attempt()
    journal.close()


def test_an_fsync_that_fails_in_the_journals_thread_stops_the_next_append(folder: Path):
    files = Failing(errno.EIO)
    journal = Journal(folder, STREAM, settings=settings(fsync_s=0.01), files=files)
    files.broken.add("sync")
    with pytest.raises(DiskFailed, match="Input/output error"):  # noqa: PT012
        for _ in range(1000):
            journal.append(1, [b"x"])
            time.sleep(0.01)
    journal.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_opening_that_fails_leaves_nothing_open(folder: Path):
    record(folder, frames(2))
    journal = opened(folder)
    journal.connected(1, channels=(), url="")
    journal.close()
    before, threads = descriptors(), threading.active_count()
    for what in ("create", "append", "sync"):
        files = Failing(errno.ENOSPC)
        files.broken.add(what)
        with pytest.raises(DiskFailed):
            Journal(folder, STREAM, files=files, clock=HeldClock())
        assert holder(folder) is None
    assert (descriptors(), threading.active_count()) == (before, threads)
    journal = opened(folder)
    assert journal.backlog == 2
    journal.close()
    journal.close()  # a second time does nothing
    assert (descriptors(), threading.active_count()) == (before, threads)


def test_a_folder_without_rights(tmp_path: Path):
    """In a child, because root has every right."""
    data = tmp_path / "journal"
    data.mkdir(mode=0o500)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            try:
                Journal(data / "mexc" / "X", STREAM)
            except DiskFailed as error:
                code = 0 if "Permission denied" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_frame_of_64_mib_and_none_larger(folder: Path):
    journal = opened(folder)
    large = b"x" * MAX_PAYLOAD_BYTES
    journal.append(1, [b"before", large, b"after"])
    with pytest.raises(Permanent, match="too large"):
        journal.append(1, [large + b"x"])
    journal.append(2, [b"next"])
    assert list(drain(journal)) == [b"before", large, b"after", b"next"]
    journal.close()


def test_segment_numbers_beyond_eight_digits(folder: Path):
    (folder / "archive").mkdir(parents=True)
    empty = bytes.fromhex("28b52ffd2000010000")  # a zstd frame with nothing in it
    (folder / "archive" / "99999998-20261121T140000Z.zst").write_bytes(empty)
    record(folder, frames(4), segment_bytes=1)
    assert [segment.number for segment in list_segments(folder)] == list(range(99_999_999, 100_000_003))
    journal = opened(folder)
    assert list(drain(journal)) == frames(4)
    assert kept_frames(folder) == frames(4)
    journal.close()


def test_a_clock_that_is_set_back_blocks_nothing(folder: Path):
    clock = HeldClock()
    journal = Journal(
        folder, STREAM, settings=settings(segment_bytes=1, tail_s=600, tail_bytes=0), clock=clock
    )
    for number, payload in enumerate(frames(5)):
        journal.append(clock.time_ns() - number * 10**15, [payload])
    clock.wall_ns -= 10**18  # thirty years
    assert journal.backlog_age_s == 0
    assert list(drain(journal)) == frames(5)
    journal.sync()
    journal.tidy()
    clock.seconds += 590
    journal.tidy()
    assert names(folder)[0] == "00000001.sealed"
    clock.seconds += 11
    journal.tidy()
    assert names(folder)[0] == "00000005.sealed"
    journal.close()


def test_the_age_of_a_backlog_that_an_earlier_run_left(folder: Path):
    clock = HeldClock()
    journal = Journal(folder, STREAM, clock=clock)
    journal.append(clock.time_ns(), frames(3))
    journal.close()
    clock.advance(3600)
    journal = Journal(folder, STREAM, clock=clock)
    assert journal.backlog_age_s == 3600
    journal.append(clock.time_ns(), frames(1))
    assert journal.backlog_age_s == 3600
    list(drain(journal))
    assert journal.backlog_age_s == 0
    journal.close()
