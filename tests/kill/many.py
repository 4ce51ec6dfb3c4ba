"""Four instances, one that asks, one that stands by, on one data folder, through kills of random processes.

The owner of the folder is hit more often than chance would have it. Now and then it is frozen for a while,
or somebody is asked to stop in order. In the end all stop in order, and each table must be, row for row and
in order, what its instance was delivered. Whoever asked must never have seen half a batch, half a frame, or
fewer rows than before.
"""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from mexcflow.simulator import Settings, Simulator
from tests.kill.frames import without_end
from tests.kill.players import Instance, Owners, Player, asker, engine
from tests.kill.together import Together, judge_all

SYMBOLS = ("BTC_USDT", "ETH_USDT", "SOL_USDT", "XRP_USDT")
RATE = 300.0
"""Frames a second, of each symbol."""
PAUSE_S = 0.5
"""At most so long between two blows."""
DOWN_S = 0.7
"""At most so long a process is down ..."""
AT_ONCE = 0.4
"""... and in so many of all cases not at all."""
HITS_OWNER, FREEZES, ASKS = 0.5, 0.15, 0.15
"""How often the owner is the victim; is frozen first; how often a victim is asked to stop and not killed."""
ANY_TIME = 0.5
"""So many blows fall whatever is going on; the others not before most record again and there is an owner."""
FROZEN_S = (0.3, 1.5)
_WAIT_S = 60.0
_MOST_S = 10.0


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
    judge_all(outcome, instances, folder)
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
