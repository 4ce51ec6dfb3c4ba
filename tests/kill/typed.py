"""Kills of recordings into typed tables: every frame that `recv` returned has its rows in the tables once.

As `round.py` and `frames.py`, with the generated market of an exchange that has typed tables; several
processes may record into one data folder. What was delivered is read by the second decoder of the tests.
"""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mexcflow.simulator import Settings, Simulator
from tests.kill.frames import Delivery, judge, without_end
from tests.kill.round import Trial
from tests.kill.round import stored as strings_stored
from tests.typed_recording import SYMBOLS, simulated, sockets
from tests.typed_wire import Rows, Wire, stored

LONGEST_S = 0.7
"""A kill falls at most so long after the first bytes have come ..."""
START_S = 1.2
"""... or, in one trial of five, after the start of the process."""


@dataclass
class Recorded:
    """One stream, recorded by one process after the other; `arguments` are those after `mexcflow run`."""

    name: str
    exchange: Simulator
    folder: Path
    database: str = ""
    deliveries: list[Delivery] = field(default_factory=list)
    trial: Trial | None = None

    def start(self, options: Sequence[str]) -> Trial:
        """Start the next process."""
        what = ["--exchange", self.name, "--endpoint", self.exchange.address]
        for symbol in SYMBOLS[self.name]:
            what += ["--symbol", symbol]
        if self.name == "binance":  # its tickers hold what was asked for over REST as well
            what += ["--channels", "trade,book,candle"]
        if self.database:
            what += ["--database", self.database]
        self.trial = Trial(
            self.exchange, self.folder, options, symbol=self.name, what=what, lines=sockets(self.name)
        )
        return self.trial

    def end(self, number: int) -> None:
        """Kill the process, or let it end in order; what it was delivered is kept."""
        assert self.trial is not None
        self.deliveries += self.trial.end(number)
        self.trial = None

    def judge(self, data: Path) -> None:
        """Fail unless the tables of a data folder hold exactly what was delivered."""
        self.judge_rows(stored(data, self.name))

    def judge_rows(self, have: Rows) -> None:
        """Fail unless these are exactly the rows of what was delivered."""
        frames = sum(len(one.sure) for one in self.deliveries)
        assert frames > 10, frames
        found = problems(self, have)
        assert not found, found


class StringRecorded(Recorded):
    """One symbol of MEXC, into a string table."""

    def start(self, options: Sequence[str]) -> Trial:
        """Start the next process."""
        self.trial = Trial(self.exchange, self.folder, options)
        return self.trial

    def judge(self, data: Path) -> None:
        """Fail unless the table holds exactly what was delivered, in order."""
        verdict = judge(strings_stored(data), self.deliveries)
        assert verdict.exact, (verdict.lost[:3], verdict.doubled[:3], verdict.in_order)


def options(rng: Random) -> list[str]:
    """Return how often and how much at a time is inserted: a kill shall fall into many an INSERT."""
    return [
        "--flush-interval", rng.choice(("0", "0.05", "0.3")),
        "--batch-frames", rng.choice(("100", "300", "10000")),
        "--fsync", rng.choice(("0", "1")),
    ]  # fmt: skip


def play(folder: Path, *names: str, seed: int, kills: int) -> list[Recorded]:
    """Kill one of the processes that record these exchanges into one folder, again and again."""
    rng, speed = Random(seed), 10.0 / len(names)
    with contextlib.ExitStack() as stack:
        streams = []
        for name in names:
            if name == "mexc":
                numbered = Settings(recording=without_end, rate=300.0, keep_sent=True)
                exchange = stack.enter_context(Simulator.of(numbered))
                streams.append(StringRecorded(name, exchange, folder))
            else:
                exchange = stack.enter_context(simulated(name, speed=speed))
                streams.append(Recorded(name, exchange, folder))
        for stream in streams:
            stack.callback(lambda one=stream: one.trial and one.trial.give_up())
            stream.start(options(rng))
        for _ in range(kills):
            victim = rng.choice(streams)
            assert victim.trial is not None
            if rng.random() < 0.2:
                time.sleep(rng.uniform(0, START_S))
            else:
                victim.trial.wait_for_frames()
                time.sleep(rng.uniform(0, LONGEST_S))
            victim.end(signal.SIGKILL)
            victim.start(options(rng))
        for stream in streams:
            assert stream.trial is not None
            stream.trial.wait_for_frames()
        for stream in streams:
            stream.end(signal.SIGINT)
    return streams


@dataclass
class Expected:
    """What a table must hold: all of `sure`, and of `may` a part."""

    sure: Counter = field(default_factory=Counter)
    may: Counter = field(default_factory=Counter)

    def problems(self, found: Counter) -> dict[str, list]:
        """Return rows that are missing, and rows that are there too often."""
        wrong = {
            "lost": list((self.sure - found).elements())[:3],
            "doubled": list((found - self.sure - self.may).elements())[:3],
        }
        return {name: rows for name, rows in wrong.items() if rows}


def problems(stream: Recorded, have: Rows) -> dict[str, dict[str, list]]:
    """Return what of a stream's rows is wrong in the tables, by table; {} if nothing is."""
    tables = {name: Expected() for name in ("trades", "books", "tickers")}
    candles: dict[tuple, set[tuple]] = {}
    sure_candles: set[tuple] = set()
    for delivery in stream.deliveries:
        wire = Wire(stream.name)
        for number, frame in enumerate([*delivery.sure, *delivery.last]):
            before = {name: len(getattr(wire.rows, name)) for name in tables}
            wire.read(frame)
            for name, expected in tables.items():
                new = getattr(wire.rows, name)[before[name] :]
                (expected.sure if number < len(delivery.sure) else expected.may).update(new)
            for key, values in wire.rows.candles.items():
                candles.setdefault(key, set()).add(values[:-1])
                if number < len(delivery.sure):
                    sure_candles.add(key)
    trades = tables["trades"]
    trades.sure = Counter(set(trades.sure))  # FINAL: a trade that was sent twice is one
    trades.may = Counter(set(trades.may) - set(trades.sure))
    found = {name: expected.problems(Counter(getattr(have, name))) for name, expected in tables.items()}
    wrong = [key for key, values in have.candles.items() if values[:-1] not in candles.get(key, ())]
    wrong += sure_candles - have.candles.keys()
    found["candles"] = {"wrong": wrong} if wrong else {}
    return {name: what for name, what in found.items() if what}
