"""`make torture`: kills without end, in rounds on a folder of their own; figures at the end.

    python -m tests.kill.torture --trials 500 --together 200 --seconds 0 --seed 1

First one instance alone, then four instances and two other processes on one data folder. A folder whose
tables are not exact is kept, and the exit code is 1.
"""

import argparse
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar

from tests.kill.many import play_together
from tests.kill.round import Round, play_round
from tests.kill.together import Together

KILLS_A_ROUND = 50


class Outcome(Protocol):
    """What a round came to; `str` is one line."""

    @property
    def exact(self) -> bool: ...

    def failure(self) -> str: ...


Played = TypeVar("Played", bound=Outcome)
Play = Callable[[Path, int, int], Played]
"""Plays a round in this folder, with this seed and so many kills."""


def main() -> int:
    """Play rounds until there were so many kills, or the time is over."""
    wanted = _arguments()
    rng = Random(wanted.seed)
    _say(f"{wanted.trials} kills of one instance, {wanted.together} among six processes, seed {wanted.seed}")
    over_at = time.monotonic() + wanted.seconds if wanted.seconds else math.inf
    began = time.monotonic()
    alone: list[Round] = _rounds(_alone, wanted.trials, rng, over_at)
    _say(_summary(alone, time.monotonic() - began))
    began = time.monotonic()
    together: list[Together] = _rounds(_together, wanted.together, rng, over_at)
    _say(_summary_together(together, time.monotonic() - began))
    return 0 if all(one.exact for one in (*alone, *together)) else 1


def _rounds(play: Play[Played], kills: int, rng: Random, over_at: float) -> list[Played]:
    rounds: list[Played] = []
    for done in range(0, kills, KILLS_A_ROUND):
        if time.monotonic() < over_at:
            rounds.append(_round(play, rng.randrange(1 << 24), min(kills - done, KILLS_A_ROUND)))
    return rounds


def _round(play: Play[Played], seed: int, trials: int) -> Played:
    folder = Path(tempfile.mkdtemp(prefix="mexcflow-torture-"))
    outcome = play(folder, seed, trials)
    _say(f"\r{outcome}" if outcome.exact else f"\r{outcome.failure()}\nkept: {folder}")
    if outcome.exact:
        shutil.rmtree(folder)
    return outcome


def _alone(folder: Path, seed: int, trials: int) -> Round:
    return play_round(folder, seed=seed, trials=trials, on_trial=lambda count: _show(count, trials))


def _together(folder: Path, seed: int, trials: int) -> Together:
    return play_together(folder, seed=seed, trials=trials, on_trial=lambda count: _show(count, trials))


def _show(count: int, trials: int) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{count} of {trials}")
        sys.stdout.flush()


def _summary(rounds: list[Round], seconds: float) -> str:
    verdicts = [one.verdict for one in rounds if one.verdict]
    figures = (
        f"{sum(one.trials for one in rounds)} kills",
        f"{sum(one.early for one in rounds)} of them before any frame",
        f"{sum(one.frames for one in rounds)} frames delivered",
        f"{sum(one.rows for one in verdicts)} rows",
        f"{sum(len(one.lost) for one in verdicts)} lost",
        f"{sum(len(one.doubled) for one in verdicts)} doubled",
        f"{sum(not one.exact for one in rounds)} of {len(rounds)} rounds not exact",
        f"batches in doubt: {sum(one.found('present') for one in rounds)} were in the table and "
        f"{sum(one.found('absent') for one in rounds)} were not",
        f"{sum(one.spared for one in verdicts)} kills between recv and journal",
        f"{seconds:.0f} s",
    )
    return f"torture: {', '.join(figures)}"


def _summary_together(rounds: list[Together], seconds: float) -> str:
    verdicts = [verdict for one in rounds for verdict in one.verdicts.values()]
    figures = (
        f"{sum(one.kills for one in rounds)} kills among six processes",
        f"{sum(one.owners_killed for one in rounds)} of them of the owner",
        f"{sum(one.frozen for one in rounds)} times it was frozen",
        f"{sum(one.owners for one in rounds)} owners",
        f"{sum(one.frames for one in rounds)} frames delivered",
        f"{sum(one.rows for one in verdicts)} rows",
        f"{sum(len(one.lost) for one in verdicts)} lost",
        f"{sum(len(one.doubled) for one in verdicts)} doubled",
        f"{sum(not one.exact for one in rounds)} of {len(rounds)} rounds not exact",
        f"batches in doubt: {sum(one.doubts['present'] for one in rounds)} were in their tables and "
        f"{sum(one.doubts['absent'] for one in rounds)} were not",
        f"{sum(one.answers for one in rounds)} answers",
        f"{sum(one.impossible for one in rounds)} of them impossible",
        f"{seconds:.0f} s",
    )
    return f"torture: {', '.join(figures)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Kill mexcflow run at random moments; the table must be exact"
    )
    parser.add_argument("--trials", type=int, default=500, help="how many kills of one instance alone")
    parser.add_argument(
        "--together", type=int, default=200, help="how many kills among six processes on one data folder"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="begin no round after so long; 0: no limit"
    )
    parser.add_argument("--seed", type=int, default=0, help="repeats options and moments; 0: a new one")
    wanted = parser.parse_args()
    wanted.seed = wanted.seed or Random().randrange(1, 1 << 24)
    return wanted


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
