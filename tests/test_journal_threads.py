"""The journal with several threads at work."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mexcflow.journal import Journal, Kind
from tests.journals import (
    STREAM,
    HeldClock,
    UnsyncedFiles,
    drain,
    frames,
    names,
    positions,
    settings,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "mexc" / "BTC_USDT"


def test_fsync_0_does_not_return_while_another_thread_still_syncs(folder: Path):
    seen: list[str] = []
    entered, release = threading.Event(), threading.Event()

    class Slow(UnsyncedFiles):
        def sync_folder(self, path: Path) -> None:
            if path == folder and threading.current_thread().name == "slow":
                entered.set()
                release.wait()
                seen.append("name is on the disk")

    journal = Journal(
        folder, STREAM, settings=settings(fsync_s=0, age_s=10), files=Slow(), clock=(clock := HeldClock())
    )
    journal.append(1, [b"one"])
    clock.advance(11)  # the next sync goes over to another segment, and must force down its name
    slow = threading.Thread(target=journal.sync, name="slow")
    slow.start()
    entered.wait()

    def append() -> None:
        journal.append(2, [b"two"])
        seen.append("append returned")

    appender = threading.Thread(target=append)
    appender.start()
    appender.join(0.2)
    release.set()
    slow.join()
    appender.join()
    assert seen == ["name is on the disk", "append returned"]
    journal.close()


class Together:
    """Threads that do something again and again until they are stopped, or one of them fails."""

    def __init__(self, *bodies: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(body,)) for body in bodies]

    def _run(self, body: Callable[[], None]) -> None:
        try:
            while not self.stop.is_set():
                body()
        except BaseException as error:
            self.failed.append(error)
            self.stop.set()

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failed


@pytest.mark.parametrize("fsync_s", [0, 0.01, float("inf")])
def test_append_and_take_and_sync_and_tidy_at_the_same_time(folder: Path, fsync_s: float):
    journal = Journal(
        folder,
        STREAM,
        settings=settings(
            fsync_s=fsync_s, segment_bytes=2000, tail_s=0, tail_bytes=0, age_s=0.05, taken_bytes=5000
        ),
    )
    appended: list[bytes] = []
    got: list[bytes] = []

    def append() -> None:
        payloads = frames(len(appended) % 7 + 1, len(appended))
        journal.append(len(appended), payloads)
        appended.extend(payloads)
        if len(appended) % 50 == 0:
            journal.connected(len(appended), channels=(), url="")
            journal.disconnected(len(appended), reason="x", since_ns=1)
        if journal.backlog > 2000:
            time.sleep(0.01)

    def insert() -> None:
        journal.wait(20, 0.01)
        taken = journal.take(500)
        if taken is None:
            return
        if taken.frames:
            journal.begin(taken, table="t", uuid="u", rows_before=len(got), rows=1)
        got.extend(frame.payload for frame in taken.frames)
        journal.acknowledge(taken, {})
        journal.tidy()

    def watch() -> None:
        journal.sync()
        assert journal.backlog >= 0
        assert journal.backlog_age_s >= 0
        time.sleep(0.001)

    Together(append, insert, watch).run(3)
    journal.finish()
    got += drain(journal)
    assert got == appended
    assert len(got) > 500
    assert (journal.backlog, journal.drained) == (0, True)
    journal.sync()
    journal.tidy()
    assert len(names(folder)) < 10
    journal.close()


@pytest.mark.parametrize("fsync_s", [0, float("inf")])
def test_what_comes_beside_the_connection_is_kept_once_and_only_while_it_stands(folder: Path, fsync_s: float):
    journal = Journal(folder, STREAM, settings=settings(fsync_s=fsync_s, segment_bytes=2000))
    received: list[bytes] = []
    counts = [0, 0]

    def receive() -> None:
        journal.connected(len(received), channels=(), url="")
        for payload in frames(5, len(received)):
            journal.append(len(received), [payload])
            received.append(payload)
        journal.disconnected(len(received), reason="x", since_ns=1)
        time.sleep(0.0005)

    def beside(which: int) -> None:
        journal.append(7, [b"beside %d %d" % (which, counts[which])], beside=True)
        counts[which] += 1
        time.sleep(0.0003)

    Together(receive, lambda: beside(0), lambda: beside(1)).run(0.7)
    records = [record for _, record in positions(folder)]
    assert [one.payload for one in records if one.payload.startswith(b"frame")] == received
    for which in (b"0", b"1"):
        numbers = [int(one.payload[9:]) for one in records if one.payload.startswith(b"beside " + which)]
        assert numbers == sorted(set(numbers))
        assert 0 < len(numbers) < counts[int(which)]
    stands = False
    for one in records:
        if one.kind in (Kind.CONNECTED, Kind.DISCONNECTED):
            stands = one.kind is Kind.CONNECTED
        elif one.kind is Kind.FRAME:
            assert stands, one
    kept = [one.payload for one in records if one.kind is Kind.FRAME]
    assert journal.backlog == len(kept)
    assert list(drain(journal)) == kept
    assert (journal.backlog, journal.drained) == (0, True)
    journal.close()


def test_drained_is_never_said_while_frames_are_on_their_way(folder: Path):
    journal = Journal(folder, STREAM, settings=settings(fsync_s=float("inf")))
    stop = threading.Event()
    wrong: list[int] = []
    acknowledged = appended = 0

    def watch() -> None:
        while not stop.is_set():
            there = appended  # all of these were appended before it was asked
            if journal.drained and acknowledged < there:
                wrong.append(there)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(2000):
        journal.append(number, frames(3))
        appended += 3
        taken = journal.take(10)
        acknowledged += len(taken.frames)
        journal.acknowledge(taken, {})
    stop.set()
    watcher.join()
    assert not wrong
    journal.close()
