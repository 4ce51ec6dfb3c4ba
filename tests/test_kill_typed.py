"""SIGKILL at random moments while typed tables are recorded: every frame's rows are there, and once.

Books that are built from deltas go on from the journal over a kill in the middle of a batch; a batch goes
into several tables, and a kill may fall between two of them.
"""

import os

import pytest

from tests.kill.typed import judge, play

SEED = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
"""Printed; KILL_SEED=... repeats options and moments (the machine's own timing it cannot)."""


@pytest.mark.timeout(200)
def test_killed_9_times_and_the_rows_of_every_frame_are_in_their_tables_once(tmp_path):
    print(SEED)  # noqa: T201 - seen when it fails
    for stream in play(tmp_path, "bybit", seed=SEED, kills=9).values():
        judge(stream, tmp_path / "data")


@pytest.mark.timeout(200)
def test_three_exchanges_into_one_folder_and_one_of_them_is_killed_9_times(tmp_path):
    print(SEED)  # noqa: T201 - seen when it fails
    for stream in play(tmp_path, "binance", "kraken", "coinbase", seed=SEED, kills=9).values():
        judge(stream, tmp_path / "data")
