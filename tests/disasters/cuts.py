"""A round: the real command on a disk whose power fails again and again, then its table read back."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mexcflow.journal.journal import ENDED_WITHOUT_NOTICE
from mexcflow.model import Row
from mexcflow.simulator import Settings, Simulator
from mexcflow.store import open_store
from mexcflow.store.coverage import Interval, State, read_intervals
from tests.conftest import mexcflow
from tests.disasters.disk import Disk, Disks
from tests.disasters.run import Run
from tests.kill.frames import Delivery, Verdict, judge, rows_of, without_end
from tests.kill.round import stored

RATE = 1000.0
"""Frames a second."""
LONGEST_S = 8.0
"""A cut falls at most so long after the first frames: ext4 commits by itself every 5 s ..."""
START_S = 1.5
"""... or, in one trial of five, after the start of the process: while it opens, repairs, recovers."""
MARGIN_S = 1.0
"""How much older than the fsync interval a lost message may be: the timer's own lateness, and a sync's time.

Measured: see the summary of `torture.py`. What is proved without any margin is `Cut.sure`.
"""
FSYNC = ("0", "1", "5")
"""With 5 s the table falls behind the journal, which is synced before each INSERT: it is rewound then."""
_MEGABYTES = 300


@dataclass
class Cut:
    """One power cut, and what the journal had taken on the connection that it ended."""

    at_ns: int
    fsync_s: float
    appended: list[tuple[int, int]]
    """When appends returned (Unix ns), and how many messages the journal had then."""
    synced_ns: int
    """When the last sync began that came to its end."""
    sent: Sequence[bytes]

    @property
    def sure(self) -> int:
        """How many messages must be there: those appended before that sync; with an interval of 0 all."""
        limit_ns = self.at_ns if self.fsync_s == 0 else min(self.synced_ns, self.at_ns)
        return max([count for at_ns, count in self.appended if at_ns <= limit_ns], default=0)

    @property
    def delivery(self) -> Delivery:
        return Delivery(self.sent[: self.sure], self.sent[self.sure :])

    def lost_s(self, kept: int) -> float:
        """Return how long before the cut the oldest message was appended that is not there."""
        lost_ns = [at_ns for at_ns, count in self.appended if count > kept and at_ns <= self.at_ns]
        return (self.at_ns - min(lost_ns)) / 1e9 if lost_ns else 0.0


@dataclass
class Round:
    """What a round came to; `str` is one line for people."""

    seed: int
    cuts: list[Cut] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    verdict: Verdict | None = None
    verified: subprocess.CompletedProcess | None = None
    outages: list[Interval] = field(default_factory=list)
    gaps: list[Interval] = field(default_factory=list)
    """What came twice or in the wrong order, as the recorder saw it: nothing did."""
    kept: list[int] = field(default_factory=list)
    """How many messages of each cut connection are in the table."""
    log: str = ""

    @property
    def frames(self) -> int:
        return sum(cut.appended[-1][1] for cut in self.cuts if cut.appended)

    @property
    def repaired(self) -> int:
        return self.log.count("is cut back to what is whole")

    @property
    def rewound(self) -> int:
        return self.log.count("has lost its newest")

    def worst_s(self, fsync_s: float) -> float:
        """Return the age of the oldest message that any cut with this interval took."""
        pairs = zip(self.cuts, self.kept, strict=True)
        return max([cut.lost_s(kept) for cut, kept in pairs if cut.fsync_s == fsync_s], default=0.0)

    def __str__(self) -> str:
        assert self.verdict is not None
        return (
            f"seed {self.seed}: {len(self.cuts)} power cuts, {self.frames} frames received before them, "
            f"{self.verdict.rows} rows: {len(self.verdict.lost)} rows lost that were synced, "
            f"{len(self.verdict.doubled)} doubled, "
            f"{'in order' if self.verdict.in_order else 'NOT IN ORDER'}; "
            f"oldest loss {self.worst_s(1):.2f} s with --fsync 1, {self.worst_s(0):.2f} s with --fsync 0; "
            f"{self.repaired} times the table was repaired, {self.rewound} times the journal was rewound; "
            f"{len(self.outages)} outages"
        )

    def problems(self) -> list[str]:
        """Return what is not as it must be."""
        assert self.verdict is not None
        assert self.verified is not None
        found = []
        if not self.verdict.exact:
            found.append(f"lost {self.verdict.lost[:3]}, doubled {self.verdict.doubled[:3]}, see above")
        if self.verified.returncode:
            found.append(f"verify: {self.verified.stdout}")
        if self.gaps:
            found.append(f"gaps: {self.gaps[:3]}")
        felt = sum(kept > 0 for kept in self.kept)
        if not felt <= len(self.outages) <= len(self.cuts):
            found.append(f"{len(self.outages)} outages for {felt} to {len(self.cuts)} cuts")
        for fsync_s in {cut.fsync_s for cut in self.cuts}:
            if self.worst_s(fsync_s) > (fsync_s and fsync_s + MARGIN_S):
                found.append(f"with --fsync {fsync_s:g} a cut took {self.worst_s(fsync_s):.2f} s")
        return found


def play_round(
    folder: Path,
    *,
    seed: int,
    cuts: int,
    fsync: Sequence[str] = FSYNC,
    on_cut: Callable[[int], None] = lambda _: None,
) -> Round:
    """Cut the power so many times, let a last process end in order, and judge the table."""
    rng = Random(seed)
    outcome = Round(seed)
    settings = Settings(recording=without_end, rate=RATE, keep_sent=True)
    with Disks(folder) as disks, Simulator.of(settings) as exchange:
        disk = disks.new(_MEGABYTES)
        for number in range(cuts):
            how = fsync[(number + seed) % len(fsync)]
            with Run(exchange, folder, *_options(rng, disk, how)) as run:
                if rng.random() < 0.2:
                    time.sleep(rng.uniform(0.1, START_S))
                else:
                    run.wait_for_frames()
                    time.sleep(rng.uniform(0, LONGEST_S))
                outcome.cuts.append(_cut(run, disk, float(how)))
            outcome.log += run.log
            outcome.deliveries.append(outcome.cuts[-1].delivery)
            disk = disks.copy_of(disk)
            on_cut(len(outcome.cuts))
        with Run(exchange, folder, *_options(rng, disk, "1")) as run:
            run.wait_for_frames()
            assert run.stop() == 0, run.log
            outcome.deliveries.append(Delivery(run.sent()[: run.appended()]))
        outcome.log += run.log
        _look(outcome, disk.folder / "data")
    return outcome


def _options(rng: Random, disk: Disk, fsync: str) -> list[str]:
    return [
        "--database", str(disk.folder / "data"), "--min-free", "50", "--stats-interval", "3600",
        "--fsync", fsync, "--flush-interval", rng.choice(("0", "0.05", "1", "30")),
    ]  # fmt: skip


def _cut(run: Run, disk: Disk, fsync_s: float) -> Cut:
    assert run.process.poll() is None, f"ended by itself:\n{run.log}"
    at_ns = disk.cut()
    run.kill()
    seen = run.seen()
    synced = [entry.number for entry in seen if not entry.port and entry.at_ns <= at_ns]
    appended = [(entry.at_ns, entry.number) for entry in seen if entry.port]
    return Cut(at_ns, fsync_s, appended, max(synced, default=0), run.sent())


def _look(outcome: Round, data: Path) -> None:
    """Read everything back."""
    rows = stored(data)
    outcome.verdict = judge(rows, outcome.deliveries)
    outcome.kept = [_kept(set(rows), cut.sent) for cut in outcome.cuts]
    with open_store(str(data), create=False) as store:
        intervals = read_intervals(store, "mexc", "BTC_USDT")
    outcome.outages = [one for one in intervals if one.reason == ENDED_WITHOUT_NOTICE]
    outcome.gaps = [one for one in intervals if one.state is State.GAP]
    outcome.verified = mexcflow("verify", "--database", str(data), cwd=data.parent)


def _kept(have: set[Row], sent: Sequence[bytes]) -> int:
    there = [number for number, message in enumerate(sent, 1) if not have.isdisjoint(rows_of([message]))]
    return max(there, default=0)
