"""Four instances and a fifth process that asks, on one data folder, through kills of random processes.

No row is lost or doubled, nobody sees half a batch, and nobody ends for any other reason than that it was
killed or asked to. `mexcflow engine --wait` is a sixth process, and the owner is hit most. See
`tests/kill/many.py`.
"""

import os

import pytest

from tests.kill.many import play_together

SEED = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
"""Printed; KILL_SEED=... repeats victims, options and moments (the machine's own timing it cannot)."""


@pytest.mark.timeout(300)
def test_through_30_kills_every_frame_is_in_its_table_once_and_no_answer_is_impossible(tmp_path):
    outcome = play_together(tmp_path, seed=SEED, trials=30, hits_owner=0.6)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.kills == 30
    assert outcome.owners_killed >= 5
    assert outcome.owners > 3
    assert outcome.frames > 300
    assert outcome.answers
    if not outcome.exact:
        pytest.fail(outcome.failure())
