"""Disks that are full, read-only or closed to us: exit code 74, one line, nothing half-kept, nothing lost.

Whenever a recording ends like that, everything that its journal had taken is in the table once the next run
could work, row for row, in order and once; and coverage knows when nobody was listening.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.simulator import Settings, Simulator
from mexcflow.store import open_store
from mexcflow.store.coverage import Interval, State, read_intervals
from tests.conftest import mexcflow
from tests.disasters.disk import Disk, Disks, why_not
from tests.disasters.run import CommonRun, Run
from tests.kill.frames import Delivery, judge, without_end
from tests.kill.round import stored

REASON = why_not()
needs_disks = pytest.mark.skipif(bool(REASON), reason=REASON)


@pytest.fixture
def exchange() -> Iterator[Simulator]:
    with Simulator.of(Settings(recording=without_end, rate=2000.0, keep_sent=True)) as exchange:
        yield exchange


@pytest.fixture
def disks(tmp_path) -> Iterator[Disks]:
    with Disks(tmp_path) as disks:
        yield disks


class Recording:
    """One stream, recorded by one process after the other; `judge` looks at what came of all of them."""

    def __init__(self, exchange: Simulator, folder: Path, data: Path, *options: str) -> None:
        self._exchange = exchange
        self._folder = folder
        self._data = data
        self._options = ("--database", str(data), "--min-free", "50", "--flush-interval", "0.05", *options)
        self._deliveries: list[Delivery] = []
        self.kind = Run

    def run(self, *options: str, **how: str) -> Run:
        return self.kind(self._exchange, self._folder, *self._options, *options, **how)

    def ended(self, run: Run, *, sure: int | None = None) -> str:
        """Wait until a process has ended by itself, with 74 and one line, which is returned.

        `sure` messages must be kept; those that the journal took, if nothing is said.
        """
        code, log = run.wait(), run.log
        assert code == 74, log
        assert "Traceback" not in log
        *_, line = log.splitlines()
        assert log.count("mexcflow: ") == 1
        assert line.startswith("mexcflow: ")
        sent, count = run.sent(), run.appended() if sure is None else sure
        self._deliveries.append(Delivery(sent[:count], sent[count:]))  # an append that failed may be kept
        return line

    def took(self, run: Run) -> None:
        """Take down what a process has received that ended in order."""
        self._deliveries.append(Delivery(run.sent()[: run.appended()]))

    def works(self) -> None:
        """Record a little and stop in order."""
        with self.run() as run:
            run.wait_for_frames(100)
            assert run.stop() == 0, run.log
            self.took(run)

    def judge(self) -> None:
        verdict = judge(stored(self._data), self._deliveries)
        assert verdict.exact, (verdict.lost[:3], verdict.doubled[:3], verdict.in_order)
        verified = mexcflow("verify", "--database", str(self._data), cwd=self._folder)
        assert verified.returncode == 0, verified.stdout

    def outages(self) -> list[Interval]:
        with open_store(str(self._data), create=False) as store:
            intervals = read_intervals(store, "mexc", "BTC_USDT")
        return [one for one in intervals if one.state is State.OUTAGE]


@needs_disks
def test_it_stops_before_the_disk_is_full(exchange, disks, tmp_path):
    disk = disks.new(150)
    recording = Recording(exchange, tmp_path, disk.folder / "data")
    with recording.run() as run:
        run.wait_for_frames()
        path = disk.fill(leave_bytes=45_000_000)
        line = recording.ended(run)
    assert "--min-free" in line
    assert disk.free_bytes > 40_000_000
    path.unlink()
    recording.works()
    recording.judge()
    first, _ = recording.outages()
    assert "MB free on the disk" in first.reason


@needs_disks
@pytest.mark.timeout(120)
def test_whatever_meets_the_full_disk_first_nothing_is_lost_or_doubled(exchange, disks, tmp_path):
    disk = disks.new(150)
    recording = Recording(exchange, tmp_path, disk.folder / "data")
    recording.works()
    moments = ("create:1", "append:100", "append:101", "sync:6", "insert:1", "insert:5", "coverage:1",
               "coverage:2", "sync table:2")  # fmt: skip
    for moment in moments:
        with recording.run(FILL=f"{moment}:{disk.folder}") as run:
            recording.ended(run)
        somebody_elses(disk).unlink()
    recording.works()
    recording.judge()


@needs_disks
@pytest.mark.timeout(120)
def test_when_only_the_databases_disk_is_full_its_table_is_mended_at_the_next_start(
    exchange, disks, tmp_path
):
    disk = disks.new(150)
    recording = Recording(exchange, tmp_path, disk.folder / "data", "--journal", str(tmp_path / "journal"))
    recording.works()
    lines = {}
    for moment in ("insert:1", "insert:5", "insert:6", "coverage:1", "coverage:2", "sync table:2"):
        with recording.run(FILL=f"{moment}:{disk.folder}") as run:
            lines[moment] = recording.ended(run)
        somebody_elses(disk).unlink()
    recording.works()
    recording.judge()
    for moment in ("insert:1", "insert:5", "insert:6"):
        # the engine says that all is well: its files are looked at, or the next batch finds no room
        assert "is damaged" in lines[moment] or "--min-free" in lines[moment], lines
    assert "NOT_ENOUGH_SPACE" in lines["coverage:2"], lines


@needs_disks
def test_when_only_the_journals_disk_is_full_the_database_is_unharmed(exchange, disks, tmp_path):
    disk = disks.new(150)
    journal = disk.folder / "journal"
    recording = Recording(exchange, tmp_path, tmp_path / "data", "--journal", str(journal))
    recording.works()
    with recording.run() as run:
        run.wait_for_frames()
        path = disk.fill()
        assert str(journal) in recording.ended(run)
    with recording.run() as run:  # nothing has changed
        assert "--min-free" in recording.ended(run)
    path.unlink()
    recording.works()
    recording.judge()


@needs_disks
def test_a_disk_that_fills_at_the_very_first_start_leaves_nothing_that_hinders_the_next(
    exchange, disks, tmp_path
):
    disk = disks.new(150)
    recording = Recording(exchange, tmp_path, disk.folder / "data")
    for moment in ("create:1", "table:1", "table:3", "append:4", "table:5", "insert:1"):
        with recording.run(FILL=f"{moment}:{disk.folder}") as run:
            recording.ended(run)
        somebody_elses(disk).unlink()
    recording.works()
    recording.judge()


@needs_disks
def test_a_disk_that_becomes_read_only_is_74_and_nothing_is_lost(exchange, disks, tmp_path):
    disk = disks.new(150)
    # like a power cut it takes what was not synced yet
    recording = Recording(exchange, tmp_path, disk.folder / "data", "--fsync", "0")
    with recording.run() as run:
        run.wait_for_frames(100)
        had = run.appended()
        disk.fail()
        # from then on ext4 says that it has written and synced what fits into the last block, and has not
        line = recording.ended(run, sure=had)
        assert "dmesg" in line or "ead-only" in line
    with recording.run() as run:
        assert "Read-only file system" in recording.ended(run)
    disk.unmount()
    disk.mount()
    recording.works()
    recording.judge()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
@pytest.mark.parametrize("closed", ["data/store", "data/journal"])
def test_a_folder_whose_rights_are_taken_away_is_74_until_they_are_given_back(exchange, tmp_path, closed):
    recording = Recording(exchange, tmp_path, tmp_path / "data")
    recording.kind = CommonRun
    recording.works()
    folders = [tmp_path / closed, *(tmp_path / closed).rglob("*/")]
    with recording.run() as run:
        run.wait_for_frames(100)
        for folder in folders:
            folder.chmod(0o555)
        try:
            if closed == "data/journal":  # what is open stays open, until a new segment is begun
                run.wait_for_frames(run.appended() + 500)
                assert run.stop() == 0, run.log
                recording.took(run)
            else:
                recording.ended(run)
            with recording.run() as refused:
                line = recording.ended(refused)
        finally:
            for folder in folders:
                folder.chmod(0o755)
    assert "ermission denied" in line
    recording.works()
    recording.judge()


def somebody_elses(disk: Disk) -> Path:
    return disk.folder / "somebody-elses"
