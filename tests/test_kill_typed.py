"""SIGKILL at random moments while typed tables are recorded: every frame's rows are there, and once.

Books that are built from deltas go on from the journal over a kill in the middle of a batch; a batch goes
into several tables, and a kill may fall between two of them.
"""

import os
import signal
import time

import pytest

from tests.conftest import wait_for
from tests.disasters.away import Server
from tests.kill.typed import Recorded, play
from tests.typed_recording import simulated
from tests.typed_wire import held

SEED = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
"""Printed; KILL_SEED=... repeats options and moments (the machine's own timing it cannot)."""


@pytest.mark.timeout(200)
def test_killed_8_times_and_the_rows_of_every_frame_are_in_their_tables_once(tmp_path):
    print(SEED)  # noqa: T201 - seen when it fails
    for stream in play(tmp_path, "bybit", seed=SEED, kills=8):
        stream.judge(tmp_path / "data")


@pytest.mark.timeout(200)
def test_three_exchanges_into_one_folder_and_one_of_them_is_killed_8_times(tmp_path):
    print(SEED)  # noqa: T201 - seen when it fails
    for stream in play(tmp_path, "mexc", "binance", "kraken", seed=SEED, kills=8):
        stream.judge(tmp_path / "data")


@pytest.mark.timeout(200)
def test_a_database_that_is_away_and_kills_meanwhile_cost_no_row_and_double_none(tmp_path):
    options = ("--flush-interval", "0.1", "--batch-frames", "200")
    with Server(tmp_path / "server") as server, simulated("bybit") as exchange:
        stream = Recorded("bybit", exchange, tmp_path, database=server.url)
        try:
            stream.start(options).wait_for_frames()
            wait_for(lambda: server.front.inserts)
            with server.proxy.reset_after() as placed:  # executed, and nobody is told
                wait_for(lambda: placed.met >= 2)
                stream.end(signal.SIGKILL)
            stream.start(options).wait_for_frames()
            with server.proxy.refuse():
                time.sleep(0.5)
                stream.end(signal.SIGKILL)
                stream.start(options).wait_for_frames()
                time.sleep(0.5)
            with server.proxy.stall() as placed:  # executed, and the answer never comes
                wait_for(lambda: placed.met, seconds=30)
            stream.end(signal.SIGKILL)
            stream.start(options).wait_for_frames()
            stream.end(signal.SIGINT)
        finally:
            if stream.trial is not None:
                stream.trial.give_up()
        stream.judge_rows(held(server.store))
