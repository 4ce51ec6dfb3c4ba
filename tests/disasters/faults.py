"""Faults at random for a while, of the server, the line and the process; then the table, row for row."""

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mexcflow.simulator import Settings, Simulator
from tests.disasters.away import Server
from tests.disasters.run import Run
from tests.kill.frames import Delivery, Verdict, judge, without_end

RATE = 1000.0
"""Frames a second."""
_FAULTS: dict[str, Callable[[Server], contextlib.AbstractContextManager]] = {
    "refused": lambda server: server.proxy.refuse(),
    "reset before": lambda server: server.proxy.reset_before(inserts_only=False),
    "reset after": lambda server: server.proxy.reset_after(inserts_only=False),
    "INSERT reset": lambda server: server.proxy.reset_after(times=1),
    "INSERT stalled": lambda server: server.proxy.stall(times=1),
    "no answer": lambda server: server.proxy.hold(inserts_only=False),
    "stalled": lambda server: server.proxy.stall(inserts_only=False),
    "HTTP 500": lambda server: server.proxy.answer_500(inserts_only=False),
    "slow": lambda server: server.proxy.slow(3000),
    "overloaded": lambda server: server.refusing((503, 202, "Code: 202. DB::Exception: Too many")),
    "restarted": lambda server: server.down(),
}
_LONGEST_S = 3.0
_LONGEST_PEACE_S = 1.5
_KILLED_ONE_IN = 5
"""So often the process is killed during a fault, and another one goes on."""
_CATCH_UP_S = 120.0


@dataclass
class Outcome:
    """What it came to; `str` is one line for people."""

    seed: int
    faults: list[str] = field(default_factory=list)
    kills: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    seconds: float = 0.0
    longest: int = 0
    """Frames that waited in the journal at most, as the statistics had it."""
    verdict: Verdict | None = None

    @property
    def frames(self) -> int:
        return sum(len(one.sure) for one in self.deliveries)

    def __str__(self) -> str:
        assert self.verdict is not None
        return (
            f"seed {self.seed}: {len(self.faults)} faults of the server and {self.kills} kills in "
            f"{self.seconds:.0f} s; {self.frames} frames received, at most {self.longest} of them waiting; "
            f"{self.verdict.rows} rows: {len(self.verdict.lost)} lost, {len(self.verdict.doubled)} doubled, "
            f"{'in order' if self.verdict.in_order else 'NOT IN ORDER'}"
        )

    def problems(self) -> list[str]:
        """Return what is not as it must be."""
        assert self.verdict is not None
        if self.verdict.exact:
            return []
        return [f"lost: {self.verdict.lost[:3]}", f"doubled: {self.verdict.doubled[:3]}", *self.faults]


def play_faults(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    on_fault: Callable[[int], None] = lambda _: None,
    kind: type[Server] = Server,
) -> Outcome:
    """Record through so many seconds of faults, catch up, stop in order, and judge the table."""
    rng = random.Random(seed)
    outcome = Outcome(seed)
    began = time.monotonic()
    settings = Settings(recording=without_end, rate=RATE, keep_sent=True)
    with kind(folder / "server") as server, Simulator.of(settings) as exchange:
        run = _start(exchange, server, folder, rng)
        try:
            run.wait_for_frames()
            _stored(run)
            while time.monotonic() - began < seconds:
                outcome.faults.append(rng.choice(list(_FAULTS)))
                with _FAULTS[outcome.faults[-1]](server):
                    time.sleep(rng.uniform(0, _LONGEST_S))
                    outcome.longest = max(outcome.longest, run.statistics().get("backlog_frames", 0))
                    assert run.process.poll() is None, f"ended by itself, {outcome.faults}:\n{run.log}"
                    if rng.randrange(_KILLED_ONE_IN) == 0:
                        outcome.deliveries.append(_killed(run))
                        outcome.kills += 1
                        run = _start(exchange, server, folder, rng)
                        run.wait_for_frames()
                time.sleep(rng.uniform(0, _LONGEST_PEACE_S))
                on_fault(len(outcome.faults))
            outcome.deliveries.append(_stopped(run))
        finally:
            run.kill()
        outcome.verdict = judge(server.rows(), outcome.deliveries)
    outcome.seconds = time.monotonic() - began
    return outcome


def _start(exchange: Simulator, server: Server, folder: Path, rng: random.Random) -> Run:
    return Run(
        exchange, folder, "--database", server.url, "--log-format", "json", "--stats-interval", "0.2",
        "--max-errors", "1000000", "--flush-interval", rng.choice(("0", "0.1", "1")),
        "--batch-frames", rng.choice(("500", "10000")), PATIENCE="0.5",
    )  # fmt: skip


def _killed(run: Run) -> Delivery:
    """Kill it. What it took between our last look and its end may be there or not."""
    run.kill()
    sent, count = run.sent(), run.appended()
    return Delivery(sent[:count], sent[count:])


def _stopped(run: Run) -> Delivery:
    """Let it catch up and stop it in order."""
    _stored(run)
    assert run.stop() == 0, run.log
    return Delivery(run.sent()[: run.appended()])


def _stored(run: Run) -> None:
    until = time.monotonic() + _CATCH_UP_S
    while not run.statistics().get("rows") or run.statistics()["backlog_frames"] > 2 * RATE:
        assert run.process.poll() is None, f"ended by itself:\n{run.log}"
        assert time.monotonic() < until, f"does not catch up: {run.statistics()}\n{run.log}"
        time.sleep(0.1)
