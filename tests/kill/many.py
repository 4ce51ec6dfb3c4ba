"""Four instances, one that asks and one that stands by, on one data folder, through kills of random processes.

The owner of the folder is hit more often than chance would have it. Now and then it is frozen for a while,
or somebody is asked to stop in order. In the end all stop in order, and each table must be, row for row and
in order, what its instance was delivered. Whoever asked must never have seen half a batch, half a frame, or
fewer rows than before.
"""

import contextlib
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mexcflow.journal import Kind
from mexcflow.journal.segments import list_segments, scan
from mexcflow.simulator import Settings, Simulator
from tests.kill.frames import Verdict, judge, without_end
from tests.kill.players import Instance, Owners, Player, asker, engine
from tests.kill.round import stored

SYMBOLS = ("BTC_USDT", "ETH_USDT", "SOL_USDT", "XRP_USDT")
RATE = 300.0
"""Frames a second, of each symbol."""
PAUSE_S = 0.7
"""At most so long between two blows."""
DOWN_S = 0.7
"""At most so long a process is down ..."""
AT_ONCE = 0.4
"""... and in so many of all cases not at all."""
HITS_OWNER, FREEZES, ASKS = 0.5, 0.1, 0.15
"""How often the owner is the victim; is frozen first; how often a victim is asked to stop in place of killed."""
ANY_TIME = 0.3
"""So many blows fall whatever is going on; the others not before most record again and somebody owns the folder."""
FROZEN_S = (0.3, 1.5)
_WAIT_S = 60.0
_MOST_S = 10.0
_TRANSIENT = {"StoreUnavailable"}


@dataclass
class Together:
    """What a play came to; `str` is one line for people."""

    seed: int
    kills: int = 0
    owners_killed: int = 0
    frozen: int = 0
    stopped: int = 0
    owners: int = 0
    longest_without_s: float = 0.0
    frames: int = 0
    answers: int = 0
    answers_as_owner: int = 0
    transient: int = 0
    doubts: Counter = field(default_factory=Counter)
    """What was found of the batches in doubt, as the instances logged it."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    """Everything that should not have been."""

    @property
    def exact(self) -> bool:
        """Whether all was as it must be."""
        return not self.troubles and all(verdict.exact for verdict in self.verdicts.values())

    def __str__(self) -> str:
        verdicts = self.verdicts.values()
        order = "in order" if all(verdict.in_order for verdict in verdicts) else "NOT AS DELIVERED"
        return (
            f"seed {self.seed}: {self.kills} kills, {self.owners_killed} of them of the owner, {self.frozen} times "
            f"it was frozen, {self.stopped} stopped in order; {self.owners} owners, at most "
            f"{self.longest_without_s:.1f} s without one; {self.frames} frames delivered, "
            f"{sum(verdict.rows for verdict in verdicts)} rows: {sum(len(one.lost) for one in verdicts)} lost, "
            f"{sum(len(one.doubled) for one in verdicts)} doubled, {order}; batches in doubt: "
            f"{self.doubts['present']} were in their tables, {self.doubts['absent']} were not; "
            f"{sum(one.spared for one in verdicts)} kills between recv and journal; {self.answers} answers, "
            f"{self.answers_as_owner} of them as owner, {self.transient} transient errors"
        )

    def failure(self) -> str:
        """Return the line above with what is wrong."""
        wrong = list(self.troubles)
        for symbol, verdict in self.verdicts.items():
            if not verdict.exact:
                wrong.append(
                    f"{symbol}: {len(verdict.lost)} lost {verdict.lost[:3]}, {len(verdict.doubled)} doubled "
                    f"{verdict.doubled[:3]}, {'' if verdict.in_order else 'not '}as delivered"
                )
        return "\n".join([str(self), *wrong])


def play_together(
    folder: Path,
    *,
    seed: int,
    trials: int,
    hits_owner: float = HITS_OWNER,
    on_trial: Callable[[int], None] = lambda _: None,
) -> Together:
    """Kill so many processes at random moments, stop all in order, and judge tables and answers."""
    rng = Random(seed)
    with contextlib.ExitStack() as stack:
        instances = [
            Instance(stack.enter_context(_exchange(number, symbol)), folder, symbol, rng)
            for number, symbol in enumerate(SYMBOLS)
        ]
        owners = stack.enter_context(Owners(folder / "data"))
        play = Play(instances, [asker(folder), engine(folder)], owners, Together(seed), rng)
        stack.callback(play.give_up)
        play.begin()
        while play.outcome.kills < trials:
            if rng.random() > ANY_TIME:
                play.until_most_record()
            play.wait(rng.uniform(0, PAUSE_S))
            play.strike(hits_owner)
            on_trial(play.outcome.kills)
        play.end()
        outcome = play.outcome
        outcome.owners, outcome.longest_without_s = len(owners.seen), owners.longest_without_s
    for instance in instances:
        _judge(outcome, instance, folder)
    _judge_answers(outcome, folder, {one.table: set(_commits(folder, one.symbol)) for one in instances})
    return outcome


def _exchange(number: int, symbol: str) -> Simulator:
    start = number * 10_000_000  # no frame of one symbol is like one of another
    settings = Settings(
        recording=lambda: without_end(symbol, start), rate=RATE, keep_sent=True, symbols=(symbol,)
    )
    return Simulator.of(settings)


class Play:
    """The processes while they are killed and started."""

    def __init__(
        self, instances: list[Instance], others: list[Player], owners: Owners, outcome: Together, rng: Random
    ) -> None:
        self._instances = instances
        self._others = others
        self._players: list[Player] = [*instances, *others]
        self._owners = owners
        self._rng = rng
        self.outcome = outcome

    def begin(self) -> None:
        """Start all instances at once on a folder that is not there, then the others."""
        for instance in self._instances:
            instance.start()
        self._until_all_receive()
        for other in self._others:
            other.start()

    def wait(self, seconds: float) -> None:
        """Let time pass; whoever is due is started again."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for player in self._players:
                self._look_after(player, now)
            time.sleep(0.005)

    def until_most_record(self) -> None:
        """Wait until at most one instance does not record, and the folder has an owner."""
        until = time.monotonic() + _MOST_S
        while time.monotonic() < until:
            recording = sum(player.ready and not player.stopping for player in self._instances)
            if recording >= len(self._instances) - 1 and self._owner() is not None:
                return
            self.wait(0.02)

    def _owner(self) -> Player | None:
        pid = self._owners.pid()
        return next((player for player in self._players if pid and player.pid == pid), None)

    def strike(self, hits_owner: float) -> None:
        """Kill somebody, or freeze the owner first, or ask for an end in order."""
        running = [player for player in self._players if player.pid is not None and not player.stopping]
        owner = self._owner()
        if owner in running and self._rng.random() < hits_owner:
            victim = owner
        elif hits_owner < 1 and running:
            victim = self._rng.choice(running)
        else:
            return
        how = self._rng.random()
        if victim is owner and how < FREEZES:
            self._freeze(victim)
        elif victim.ready and how < FREEZES + ASKS:
            self._stop(victim)
        else:
            self._kill(victim, is_owner=victim is owner)

    def end(self) -> None:
        """Have everybody run, and end everybody in order, all at once."""
        self._until_all_receive()
        self._rng.shuffle(self._players)
        for player in self._players:
            player.stopping = True
            player.send(self._rng.choice((signal.SIGINT, signal.SIGTERM)))
            time.sleep(self._rng.uniform(0, 0.1))
        for player in self._players:
            if player.pid is not None:
                self._finish(player)

    def give_up(self) -> None:
        """Leave nothing behind."""
        for player in self._players:
            player.give_up()

    def _until_all_receive(self) -> None:
        until = time.monotonic() + _WAIT_S
        wanted = [player for player in self._players if player.pid is not None or player.starts_at]
        while not all(player.ready and not player.stopping for player in wanted):
            self.wait(0.05)
            if time.monotonic() > until:
                late = [player.name for player in wanted if not player.ready]
                raise AssertionError(f"not ready within {_WAIT_S:g} s: {late}; {self.outcome.troubles}")

    def _look_after(self, player: Player, now: float) -> None:
        if player.ended is not None and player.stopping:
            self._finish(player)
            self._again(player)
        elif player.ended is not None:
            self._trouble(player, f"ended by itself with {player.finish()}")
            player.starts_at = now
        if player.starts_at is not None and now >= player.starts_at:
            player.starts_at = None
            player.start()

    def _kill(self, victim: Player, *, is_owner: bool) -> None:
        victim.send(signal.SIGKILL)
        if is_owner:
            self._owners.gone()
        code = victim.finish()
        if code != -signal.SIGKILL:
            self._trouble(victim, f"had ended by itself with {code}")
        self.outcome.kills += 1
        self.outcome.owners_killed += is_owner
        self._again(victim)

    def _freeze(self, owner: Player) -> None:
        owner.send(signal.SIGSTOP)
        self.outcome.frozen += 1
        self.wait(self._rng.uniform(*FROZEN_S))
        if self._rng.random() < 0.3:
            self._kill(owner, is_owner=True)
        else:
            owner.send(signal.SIGCONT)

    def _stop(self, victim: Player) -> None:
        victim.stopping = True
        victim.send(signal.SIGTERM)
        self.outcome.stopped += 1

    def _finish(self, player: Player) -> None:
        code = player.finish()
        player.stopping = False
        if code != 0:
            self._trouble(player, f"ended with {code} when it was asked to stop in order")

    def _again(self, player: Player) -> None:
        later = 0.0 if self._rng.random() < AT_ONCE else self._rng.uniform(0, DOWN_S)
        player.starts_at = time.monotonic() + later

    def _trouble(self, player: Player, what: str) -> None:
        words = player.log.read_text()[-1500:] if player.log.exists() else ""
        self.outcome.troubles.append(f"{player.name} {what}, see {player.log}:\n{words}")


def _judge(outcome: Together, instance: Instance, folder: Path) -> None:
    outcome.frames += sum(len(one.sure) + len(one.last) for one in instance.deliveries)
    rows = stored(folder / "data", instance.table)
    outcome.verdicts[instance.symbol] = judge(rows, instance.deliveries, instance.symbol)
    for line in _lines(instance.log):
        if line["level"] == "error":
            outcome.troubles.append(f"{instance.symbol}: {line['message']}")
        if found := re.fullmatch(r"batch (\S+): (\w+)", line["message"]):
            outcome.doubts[found[2]] += 1
            if found[2] not in ("present", "absent"):
                outcome.troubles.append(f"{instance.symbol}: {line['message']}")


def _judge_answers(outcome: Together, folder: Path, commits: dict[str, set[int]]) -> None:
    before: dict[str, int] = {}
    for line in _lines(folder / "answers"):
        if "error" in line:
            outcome.transient += 1
            if line["error"] not in _TRANSIENT:
                outcome.troubles.append(f"asked, and got {line['error']}: {line['text']}")
            continue
        table, rows = line["table"], line["rows"]
        outcome.answers += 1
        outcome.answers_as_owner += line["owner"]
        if rows < before.get(table, 0) or line["torn"] or rows not in commits[table]:
            outcome.troubles.append(f"impossible after {before.get(table)} rows: {line}")
        before[table] = rows


def _commits(folder: Path, symbol: str) -> Iterator[int]:
    """Yield how many rows the table may have had at any time: a batch is in it as a whole or not at all."""
    yield 0
    for segment in list_segments(folder / "data/journal/mexc" / symbol):
        for chunk in scan(segment):
            if chunk.record is not None and chunk.record.kind is Kind.BATCH:
                batch = json.loads(chunk.record.payload)
                yield batch["rows_before"]
                yield batch["rows_before"] + batch["rows"]


def _lines(path: Path) -> Iterator[dict]:
    """Yield the JSON lines of a file; one that a kill has cut is left out."""
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)
