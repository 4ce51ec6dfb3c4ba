"""`make torture`, second part: power cuts, and minutes of random faults of the database; a line for each.

    python -m tests.disasters.torture --cuts 10 --fault-seconds 600 --seed 1

A folder whose table is not as it must be is kept, and the exit code is 1.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.disasters.cuts import Round, play_round
from tests.disasters.disk import why_not
from tests.disasters.faults import Outcome, play_faults


def main() -> int:
    """Play both parts."""
    wanted = _arguments()
    seed = wanted.seed or Random().randrange(1, 1 << 24)
    good = True
    if wanted.cuts and (reason := why_not()):
        _say(f"power cuts: left out: {reason}")
    elif wanted.cuts:
        good &= _played(
            "power cuts", lambda folder: play_round(folder, seed=seed, cuts=wanted.cuts, on_cut=_show)
        )
    if wanted.fault_seconds:
        good &= _played(
            "database away",
            lambda folder: play_faults(folder, seed=seed, seconds=wanted.fault_seconds, on_fault=_show),
        )
    return 0 if good else 1


def _played(name: str, play: Callable[[Path], Round | Outcome]) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="mexcflow-torture-"))
    outcome = play(folder)
    problems = outcome.problems()
    _say("\n".join([f"{name}: {outcome}", *problems, *([f"kept: {folder}"] if problems else [])]))
    if not problems:
        shutil.rmtree(folder)
    return not problems


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Power cuts and random faults; the table must be exact")
    parser.add_argument("--cuts", type=int, default=10, help="how many power cuts (needs root)")
    parser.add_argument("--fault-seconds", type=float, default=600.0, help="how long the database has faults")
    parser.add_argument("--seed", type=int, default=0, help="repeats options and moments; 0: a new one")
    return parser.parse_args()


def _show(count: int) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{count} \r")
        sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
