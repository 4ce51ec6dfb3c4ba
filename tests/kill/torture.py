"""`make torture`: kills without end, in rounds of 50 on a folder of their own; figures at the end.

    python -m tests.kill.torture --trials 500 --seconds 0 --seed 1

A folder whose table is not exact is kept, and the exit code is 1.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.kill.round import Round, play_round

KILLS_A_ROUND = 50


def main() -> int:
    """Play rounds until there were so many kills, or the time is over."""
    wanted = _arguments()
    rng = Random(wanted.seed)
    _say(f"{wanted.trials} kills in rounds of {KILLS_A_ROUND}, seed {wanted.seed}")
    began = time.monotonic()
    rounds: list[Round] = []
    while (left := wanted.trials - sum(one.trials for one in rounds)) > 0:
        if wanted.seconds and time.monotonic() - began > wanted.seconds:
            break
        rounds.append(_play(rng.randrange(1 << 24), min(left, KILLS_A_ROUND)))
    _say(_summary(rounds, time.monotonic() - began))
    return 0 if all(one.exact for one in rounds) else 1


def _play(seed: int, trials: int) -> Round:
    folder = Path(tempfile.mkdtemp(prefix="mexcflow-torture-"))
    outcome = play_round(folder, seed=seed, trials=trials, on_trial=lambda count: _show(count, trials))
    _say(f"\r{outcome}" if outcome.exact else f"\r{outcome.failure()}\nkept: {folder}")
    if outcome.exact:
        shutil.rmtree(folder)
    return outcome


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Kill mexcflow run at random moments; the table must be exact"
    )
    parser.add_argument("--trials", type=int, default=500, help="how many kills")
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
