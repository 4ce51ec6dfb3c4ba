"""SIGKILL at random moments, at 2,000 frames a second: nothing that `recv` returned is lost or doubled.

The real command records what the simulator sends, is killed, and starts again on the same folder, 20 times
here and 500 times with `make torture`. In the end the table is, row for row and in order, what the frames
decode to that `recv` had returned, and a half message does not count.

One freedom there is: what the very last recv before a kill had returned may be missing, or the end of it,
because between its return and the journal lie some 20 µs. How often that happened is printed.
"""

import os
import signal

import pytest

from tests.kill.frames import Delivery, delivery, judge, numbered, rows_of
from tests.kill.round import play_round

SEED = int(os.environ.get("KILL_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
"""Printed with each round; KILL_SEED=... repeats options and moments (the machine's own timing it cannot)."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("half", [0, 1])  # so that two workers share them
def test_killed_10_times_and_every_frame_is_in_the_table_once(tmp_path, half):
    outcome = play_round(tmp_path, seed=SEED + half, trials=10)
    print(outcome)  # noqa: T201 - seen when it fails, and with -rP
    assert outcome.frames > 300
    if not outcome.exact:
        pytest.fail(outcome.failure())


@pytest.mark.timeout(120)
def test_stopped_in_order_5_times_and_every_frame_is_in_the_table_once(tmp_path):
    outcome = play_round(tmp_path, seed=SEED, trials=5, number=signal.SIGINT)
    assert outcome.frames > 100
    if not outcome.exact:
        pytest.fail(outcome.failure())
    assert not outcome.verdict.spared


class TestTheJudge:
    """A test of kills is worth what its judge notices."""

    FRAMES = tuple(numbered(number) for number in range(60))
    DELIVERIES = (Delivery(FRAMES[:20], FRAMES[20:24]), Delivery(FRAMES[30:40]), Delivery(FRAMES[40:60]))

    def stored(self, *kept: slice) -> list:
        return [row for one in kept for row in rows_of(self.FRAMES[one])]

    def test_all_three_kinds_of_rows_are_in_and_each_tells_its_frame(self):
        rows = rows_of(self.FRAMES)
        assert {mt for _, mt, _ in rows} == {"t", "d", "dp"}
        assert len(set(rows)) == len(rows)

    @pytest.mark.parametrize("last", [24, 23, 20])
    def test_a_beginning_of_the_last_recv_is_enough(self, last):
        verdict = judge(self.stored(slice(last), slice(30, 60)), self.DELIVERIES)
        assert verdict.exact
        assert verdict.spared == (last < 24)

    @pytest.mark.parametrize(
        ("kept", "lost", "doubled"),
        [
            ((slice(19), slice(30, 60)), True, False),  # the end of what was sure
            ((slice(20), slice(31, 60)), True, False),  # the beginning of a connection
            ((slice(24), slice(30, 59)), True, False),  # the end of the last one
            ((slice(20), slice(21, 24), slice(30, 60)), False, False),  # a hole in the last recv
            ((slice(24), slice(23, 24), slice(30, 60)), False, True),  # a frame twice
            ((slice(25), slice(30, 60)), False, True),  # what was never delivered
            ((slice(24), slice(30, 60), slice(59, 60)), False, True),
            ((slice(24), slice(40, 60), slice(30, 40)), False, False),  # another order
        ],
    )
    def test_everything_else_is_noticed(self, kept, lost, doubled):
        verdict = judge(self.stored(*kept), self.DELIVERIES)
        assert not verdict.exact
        assert (bool(verdict.lost), bool(verdict.doubled)) == (lost, doubled)

    def test_half_a_row_of_deals_is_noticed(self):
        rows = self.stored(slice(24), slice(30, 60))
        verdict = judge(rows[:-1], self.DELIVERIES)
        assert not verdict.exact

    def test_half_a_message_does_not_count(self):
        messages = [b"a" * 100, b"b" * 200, b"c" * 70_000, b"d"]
        ends = [102, 306, 306 + 70_010, 306 + 70_010 + 3]
        assert delivery(messages, before=ends[0], total=ends[1] - 1) == Delivery(messages[:1], [])
        assert delivery(messages, before=ends[0], total=ends[1]) == Delivery(messages[:1], messages[1:2])
        assert delivery(messages, before=ends[2], total=ends[3]) == Delivery(messages[:3], messages[3:])
        assert delivery(messages, before=0, total=1) == Delivery([], [])
        assert delivery([], before=0, total=0) == Delivery([], [])
        with pytest.raises(AssertionError):
            delivery(messages, before=0, total=ends[3] + 1)
