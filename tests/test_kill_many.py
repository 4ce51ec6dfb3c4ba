"""Four instances and a fifth process that asks, on one data folder, through kills of random processes.

No row is lost or doubled, nobody sees half a batch, and nobody ends for any other reason than that it was
killed or asked to. `mexcflow engine --wait` is a sixth process. See `tests/kill/many.py`.
"""

import os

import pytest

from tests.kill.many import play_together

SEED = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
"""Printed; KILL_SEED=... repeats victims, options and moments (the machine's own timing it cannot)."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kills", "hits_owner"), [(30, 0.5), (10, 1.0)], ids=["anybody", "the owner"])
def test_four_record_into_one_folder_through_kills_and_every_frame_is_in_its_table_once(
    tmp_path, kills, hits_owner
):
    outcome = play_together(tmp_path, seed=SEED, trials=kills, hits_owner=hits_owner)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.kills == kills
    assert outcome.owners > 1
    assert outcome.frames > 1000
    assert outcome.answers
    if not outcome.exact:
        pytest.fail(outcome.failure())
