"""A round: the real command, killed at random moments again and again on one folder, then read back."""

import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mexcflow.model import Row
from mexcflow.simulator import Settings, Simulator
from mexcflow.store import open_store
from tests.conftest import environment
from tests.kill import target
from tests.kill.doubt import left_in_doubt
from tests.kill.frames import SYMBOL, Delivery, Verdict, delivery, judge, without_end

RATE = 2000.0
"""Frames a second."""
LONGEST_S = 0.6
"""A kill falls at most so long after the first bytes have come ..."""
START_S = 0.9
"""... or, in one trial of four, after the start of the process: while it opens, recovers, connects."""
_FIRST_BYTES = 1000
_WAIT_S = 60.0


@dataclass
class Round:
    """What a round came to; `str` is one line for people."""

    seed: int
    trials: int = 0
    early: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)
    """What was found of each batch that a kill left in doubt, by name."""
    verdict: Verdict | None = None

    @property
    def frames(self) -> int:
        """Frames that `recv` had returned, acknowledgements included."""
        return sum(len(one.sure) + len(one.last) for one in self.deliveries)

    def __str__(self) -> str:
        verdict = self.verdict
        assert verdict is not None
        found = f"{len(verdict.lost)} rows lost, {len(verdict.doubled)} doubled"
        return (
            f"seed {self.seed}: {self.trials} kills, {self.early} of them before any frame; "
            f"{self.frames} frames delivered, {verdict.rows} rows: {found}, "
            f"{'in order' if verdict.in_order else 'NOT AS DELIVERED'}; "
            f"{self.found('present')} batches in doubt were in the table, {self.found('absent')} were not; "
            f"{verdict.spared} kills between recv and journal"
        )

    def found(self, what: str) -> int:
        """Count the batches in doubt of which this was found."""
        return sum(found == what for found in self.doubts.values())

    @property
    def exact(self) -> bool:
        """Whether the table was what it must be."""
        judged = self.found("present") + self.found("absent") == len(self.doubts)
        return judged and self.verdict is not None and self.verdict.exact

    def failure(self) -> str:
        """Return the line above with the first rows that are wrong."""
        assert self.verdict is not None
        odd = {name: what for name, what in self.doubts.items() if what not in ("present", "absent")}
        wrong = {"lost": self.verdict.lost[:5], "doubled": self.verdict.doubled[:5], "in doubt": odd}
        return "\n".join([str(self), *(f"{name}: {what}" for name, what in wrong.items() if what)])


class Trial:
    """One process, from its start to its end."""

    def __init__(
        self,
        exchange: Simulator,
        folder: Path,
        options: Sequence[str],
        *,
        symbol: str = SYMBOL,
        what: Sequence[str] = (),
        lines: int = 1,
    ) -> None:
        what = what or ("--symbol", symbol, "--endpoint", exchange.url)
        self._exchange = exchange
        self._first = len(exchange.sent_to)
        self._lines = lines
        self._witness = folder / f"{symbol}.witness"
        self._witness.write_bytes(bytes(target.WITNESS_BYTES))
        self.log = folder / f"{symbol}.log"
        command = [
            sys.executable, target.__file__, str(self._witness), "run", *what, "--log-format", "json",
            "--stats-interval", "3600", *options,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, env=environment()
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def receives(self) -> bool:
        """Whether frames have come in, and not only acknowledgements."""
        return sum(total for _, _, total in self._seen()) >= _FIRST_BYTES

    def wait_for_frames(self) -> None:
        """Wait until frames come in, and not only acknowledgements."""
        until = time.monotonic() + _WAIT_S
        while not self.receives:
            assert self._process.poll() is None, f"ended by itself, see {self.log}:\n{self.last_words()}"
            assert time.monotonic() < until, f"no frames within {_WAIT_S:g} s, see {self.log}"
            time.sleep(0.005)

    def end(self, number: int) -> list[Delivery]:
        """Send the signal, wait for the end, and return what had been delivered."""
        code = self.ended
        assert code is None, f"ended by itself with {code}, see {self.log}:\n{self.last_words()}"
        self.send(number)
        code = self.wait()
        expected = -number if number == signal.SIGKILL else 0
        assert code == expected, f"ended with {code}, see {self.log}:\n{self.last_words()}"
        return self.delivered(killed=number == signal.SIGKILL)

    @property
    def ended(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        return self._process.wait(_WAIT_S)

    def give_up(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()

    def delivered(self, *, killed: bool) -> list[Delivery]:
        """Return what the ended process had received; of a killed one, the last recv of a line is not sure.

        It had one line at a time, or several from its beginning to its end.
        """
        found = []
        seen = self._seen()
        several = self._lines > 1
        sent_to = {name.rpartition(":")[2]: sent for name, sent in self._exchange.sent_to[self._first :]}
        for place, (port, before, total) in enumerate(seen, start=1):
            sure = before if killed and (several or place == len(seen)) else total
            found.append(delivery(sent_to[str(port)], before=sure, total=total))
        return found

    def _seen(self) -> list[tuple[int, int, int]]:
        """Return port, bytes before the last recv, and bytes after it, of each connection."""
        words = struct.unpack(f"={target.WITNESS_BYTES // 8}Q", self._witness.read_bytes())
        seen = []
        for connection in range(words[0]):
            block = words[1 + connection * target.BLOCK :][: target.BLOCK]
            port, calls, totals = block[0], block[1], block[2:]
            before = totals[(calls - 1) % target.RING] if calls else 0
            seen.append((port, before, totals[calls % target.RING]))
        return seen

    def last_words(self) -> str:
        """Return the end of the log."""
        return self.log.read_text()[-2000:]


def play_round(
    folder: Path,
    *,
    seed: int,
    trials: int,
    number: int = signal.SIGKILL,
    on_trial: Callable[[int], None] = lambda _: None,
) -> Round:
    """Kill so many processes at random moments, let a last one end in order, and judge the table."""
    rng = Random(seed)
    outcome = Round(seed)
    settings = Settings(recording=without_end, rate=RATE, keep_sent=True)
    with Simulator.of(settings) as exchange:
        for trial in range(trials + 1):
            is_last = trial == trials
            process = Trial(exchange, folder, _options(rng))
            try:
                if is_last:
                    process.wait_for_frames()
                    outcome.deliveries += process.end(signal.SIGINT)
                    continue
                if number == signal.SIGKILL and rng.random() < 0.25:
                    time.sleep(rng.uniform(0, START_S))
                else:
                    process.wait_for_frames()
                    time.sleep(rng.uniform(0, LONGEST_S))
                delivered = process.end(number)
            finally:
                process.give_up()
            outcome.trials += 1
            outcome.early += not any(one.sure or one.last for one in delivered)
            outcome.deliveries += delivered
            if doubt := left_in_doubt(folder / "data"):
                outcome.doubts.setdefault(doubt.name, doubt.found)
            on_trial(outcome.trials)
    outcome.verdict = judge(stored(folder / "data"), outcome.deliveries)
    return outcome


def _options(rng: Random) -> list[str]:
    """Return how often and how much at a time is inserted: a kill shall fall into many an INSERT."""
    return [
        "--flush-interval", rng.choice(("0", "0", "0.02", "0.2", "1")),
        "--batch-frames", rng.choice(("7", "100", "10000")),
        "--fsync", rng.choice(("0", "1")),
    ]  # fmt: skip


def stored(database: Path, table: str = "btc") -> list[Row]:
    """Return the rows of the table in the order they were stored."""
    with open_store(str(database), create=False) as store:
        return store.query(
            f"SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.{table} "
            "SETTINGS max_threads = 1"
        )
