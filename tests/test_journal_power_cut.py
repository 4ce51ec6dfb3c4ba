"""The power is cut at any operation on the disk: what was promised is there, and the journal goes on."""

import contextlib
import logging
import math
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mexcflow.journal import Journal
from mexcflow.journal.files import Files
from tests import journals
from tests.journals import STREAM, HeldClock, UnsyncedFiles, kept_frames
from tests.power import CuttableFiles, PowerCut

ACTIONS = (
    "append",
    "append",
    "append",
    "control",
    "sync",
    "insert",
    "insert",
    "begin",
    "tidy",
    "age",
    "reopen",
)


class Life:
    """A journal from power on to power off, several times; what is promised is carried over."""

    def __init__(self, base: Path, fsync_s: float, segment_bytes: int) -> None:
        self.base = base
        self.forced = fsync_s != math.inf
        self.always = fsync_s == 0
        self.options = journals.settings(
            fsync_s=fsync_s, segment_bytes=segment_bytes, tail_s=0, tail_bytes=0, keep_raw_s=math.inf
        )
        self.clock = HeldClock()
        self.lives = self.frames = 0
        self.appended: list[bytes] = []
        self.promised = 0  # of them
        self.acknowledged: set[bytes] = set()  # perhaps: an acknowledgement may be lost
        self.begun: tuple[int, bytes] | None = None  # the newest batch: its number and its last frame
        self.journal: Journal | None = None
        self.place(0).parent.mkdir(parents=True)

    def place(self, life: int) -> Path:
        """The disk of one life."""
        return self.base / str(life) / "disk"

    def run(self, actions: list[str], cut_at: int, dice: random.Random) -> None:
        """Live until the power is cut, and lay out the disk of the next life."""
        disk = self.place(self.lives)
        disk.mkdir(exist_ok=True)
        files = CuttableFiles(disk, disk.with_name("vault"), cut_at)
        try:
            self.open(disk, files)
            for action in actions:
                getattr(self, action)()
        except PowerCut:
            pass
        files.cut_at = 0
        if self.journal is not None:
            with contextlib.suppress(PowerCut):
                self.journal.close()
            self.journal = None
        self.lives += 1
        self.place(self.lives).mkdir(parents=True)
        files.after_the_cut(self.place(self.lives), dice)

    def open(self, disk: Path, files: Files) -> None:
        self.disk, self.files = disk, files
        folder = disk / "journal" / "mexc" / "BTC_USDT"
        self.journal = None
        self.journal = Journal(folder, STREAM, settings=self.options, files=files, clock=self.clock)

    # ---- what is done in a life

    def append(self) -> None:
        payloads = [b"frame %d" % (self.frames + n) for n in range(1 + self.frames % 3)]
        self.frames += len(payloads)
        self.appended += payloads
        self.journal.append(self.clock.time_ns(), payloads)
        if self.always:
            self.promised = len(self.appended)

    def control(self) -> None:
        self.journal.connected(self.clock.time_ns(), channels=(), url="")

    def sync(self) -> None:
        self.journal.sync()
        self.promise()

    def promise(self) -> None:
        if self.forced:
            self.promised = len(self.appended)

    def begin(self) -> None:
        taken = self.journal.take_pending() or self.journal.take(3)
        if taken is None or not taken.frames:
            return
        if not self.journal.pending:
            self.journal.begin(taken, table="t", uuid="u", rows_before=0, rows=1)
            self.promise()
        if self.forced:
            self.begun = self.journal.pending.number, taken.frames[-1].payload

    def insert(self) -> None:
        self.begin()
        taken = self.journal.take(3)
        if taken is not None:
            self.acknowledged |= {frame.payload for frame in taken.frames}
            pending = self.journal.pending
            self.journal.acknowledge(taken, {"number": pending.number} if pending else self.journal.state)

    def tidy(self) -> None:
        self.clock.advance(10)
        self.journal.tidy()

    def age(self) -> None:
        self.clock.advance(700)
        self.sync()

    def reopen(self) -> None:
        self.journal.close()
        self.promise()
        self.open(self.disk, self.files)

    # ---- what must be true after it

    def check(self) -> None:
        """Open a copy of what the cut left: what was promised is there, and it goes on."""
        copy = self.base / "copy"
        shutil.copytree(self.place(self.lives), copy)
        self.open(copy, UnsyncedFiles())
        journal = self.journal
        kept = kept_frames(journal.folder)
        assert kept[: self.promised] == self.appended[: self.promised]
        rest = iter(self.appended)
        assert all(one in rest for one in kept)  # in order, and none twice
        taken = journal.take_pending()
        first = [frame.payload for frame in taken.frames] if taken else []
        if self.begun is not None:
            number, last = self.begun
            if journal.pending is not None and journal.pending.number == number:
                assert first[-1] == last
            else:  # acknowledged; another one may have been begun, which did not return
                assert journal.state == {"number": number}
        if taken:
            journal.acknowledge(taken, {})
        got = [*first, *journals.drain(journal)]
        if self.forced:
            assert got == kept[len(kept) - len(got) :]
        assert set(self.appended[: self.promised]) - self.acknowledged <= set(got)
        assert journal.drained
        journal.append(1, [b"goes on"])
        assert list(journals.drain(journal)) == [b"goes on"]
        journal.close()
        shutil.rmtree(copy)
        if self.forced:
            self.appended, self.promised = kept, len(kept)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)  # all the damage is reported, again and again
    yield
    logging.disable(logging.NOTSET)


@given(
    runs=st.lists(
        st.tuples(st.lists(st.sampled_from(ACTIONS), min_size=3, max_size=25), st.integers(1, 250)),
        min_size=1,
        max_size=3,
    ),
    fsync_s=st.sampled_from([0, 1, math.inf]),
    segment_bytes=st.sampled_from([1, 500, 1 << 24]),
    seed=st.integers(0, 2**32),
)
@settings(
    max_examples=150,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_the_power_is_cut(runs: list[tuple[list[str], int]], fsync_s: float, segment_bytes: int, seed: int):
    base = Path(tempfile.mkdtemp(prefix="power-"))
    try:
        life, dice = Life(base, fsync_s, segment_bytes), random.Random(seed)
        for actions, cut_at in runs:
            life.run(actions, cut_at, dice)
            life.check()
    finally:
        shutil.rmtree(base)
