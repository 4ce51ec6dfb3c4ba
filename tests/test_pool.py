"""Which proxy is next: every transition, with times as plain numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mexcflow.pipeline.ban import pause_s, read_retry_after
from mexcflow.pipeline.pool import Next, Pool

DAY = 86_400.0


def pool(names: str = "abc") -> Pool:
    return Pool(tuple(names))


def test_the_first_is_used_until_it_fails():
    one = pool()
    assert [one.choose(now) for now in (0, 1, 1e6)] == ["a", "a", "a"]


def test_a_proxy_that_fails_is_followed_by_the_next_at_once():
    one = pool()
    for expected in "bc":
        one.failed()
        assert one.next(0) == Next(at_once=True)
        assert one.choose(0) == expected


def test_once_all_have_failed_there_is_a_wait_and_a_new_round():
    one = pool()
    for _ in range(2):
        for _ in range(2):
            one.failed()
            assert one.next(0).at_once
        one.failed()
        assert one.next(0) == Next(at_once=False)
        assert one.choose(0) == "a"


def test_a_proxy_that_worked_is_kept_and_begins_a_new_round():
    one = pool()
    one.failed()
    one.lost(3600)
    assert one.choose(0) == "b"
    for expected in "ca":
        one.failed()
        assert one.next(0).at_once
        assert one.choose(0) == expected
    one.failed()
    assert not one.next(0).at_once


def test_a_proxy_whose_lines_are_cut_again_and_again_is_left():
    one = pool()
    for _ in range(2):
        one.lost(59)
    one.lost(60)  # a longer one in between
    for _ in range(2):
        one.lost(5)
        assert one.choose(0) == "a"
    one.lost(5)
    assert one.choose(0) == "b"
    one.failed()
    one.failed()
    one.lost(5)  # its count begins anew
    assert one.choose(0) == "a"


def test_a_banned_proxy_is_passed_over_until_its_pause_is_over():
    one = pool("ab")
    assert one.banned(1000) == 600
    assert one.next(1000) == Next(at_once=True)
    assert one.choose(1000) == "b"
    one.failed()
    assert one.next(1599) == Next(at_once=False)
    assert one.choose(1599) == "b"
    one.failed()
    assert one.next(1600) == Next(at_once=True)
    assert one.choose(1600) == "a"


def test_a_failed_proxy_is_not_tried_again_because_another_one_is_banned():
    one = pool()
    one.failed()
    one.banned(0)
    assert (one.next(0), one.choose(0)) == (Next(at_once=True), "c")
    one.failed()
    assert (one.next(0), one.choose(0)) == (Next(at_once=False), "a")


def test_when_all_are_paused_the_wait_is_for_the_earliest():
    one = pool()
    one.banned(0, retry_after_s=5000)
    one.choose(0)
    one.banned(100)
    one.choose(100)
    one.banned(200, retry_after_s=3000)
    assert one.choose(300) is None
    assert one.next(300) == Next(at_once=False, pause_s=400)
    assert one.choose(700) == "b"


def test_repeated_bans_last_twice_as_long_each_time_up_to_a_day():
    one, now, pauses = pool("a"), 0.0, []
    for _ in range(10):
        pauses.append(one.banned(now))
        now += pauses[-1]
    assert pauses == [600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, DAY, DAY]


def test_a_ban_after_a_good_day_is_the_first_again():
    one = pool("a")
    one.banned(0)
    assert one.banned(600 + DAY - 1) == 1200
    assert one.banned(600 + DAY - 1 + 1200 + DAY) == 600


@pytest.mark.parametrize(
    ("asked", "pause"),
    [(0, 600), (599, 600), (601, 601), (3 * DAY, 3 * DAY), (1e12, 7 * DAY), (math.inf, 7 * DAY)],
)
def test_what_is_asked_for_is_honoured_when_it_is_longer(asked, pause):
    one = pool("ab")
    assert one.banned(0, asked) == pause
    assert one.choose(pause - 1) == "b"
    one.failed()
    assert one.choose(pause) == "a"


def test_without_a_proxy_there_is_only_the_direct_line():
    one = Pool(())
    assert one.choose(0) == ""
    one.failed()
    assert (one.next(0), one.choose(0)) == (Next(at_once=False), "")
    one.banned(0)
    assert (one.next(0), one.choose(0)) == (Next(at_once=False, pause_s=600), None)
    assert one.choose(600) == ""


steps = st.lists(
    st.tuples(st.sampled_from(["failed", "banned", "lost"]), st.floats(0, 5000), st.floats(0, 1e5)),
    max_size=60,
)


@given(st.integers(1, 5), steps)
def test_whatever_happens_no_proxy_is_used_in_its_pause_and_none_is_the_direct_line(size, happenings):
    one = Pool([f"p{number}" for number in range(size)])
    now, free_at = 0.0, dict.fromkeys((f"p{number}" for number in range(size)), 0.0)
    at_once = 0
    for what, later, length in happenings:
        now += later
        chosen = one.choose(now)
        if chosen is None:
            assert min(free_at.values()) > now
            continue
        assert free_at[chosen] <= now
        if what == "failed":
            one.failed()
        elif what == "lost":
            one.lost(length)
        else:
            free_at[chosen] = now + one.banned(now, length)
        following = one.next(now)
        at_once = at_once + 1 if following.at_once and what != "lost" else 0
        assert at_once < size, "a round without a wait"
        if following.pause_s:
            assert now + following.pause_s == pytest.approx(min(free_at.values()))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0.5 ", 0.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 80),
        ("Wed, 21 Oct 2026 07:00:00 GMT", 0),
        *((text, 0) for text in (None, "", "-5", "soon", "nan", "inf", "1e999", "9" * 400)),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert read_retry_after(header, now_s=1_792_567_600.0) == seconds


def test_a_pause_is_never_shorter_than_the_first():
    assert [pause_s(nth, 0) for nth in (1, 2, 9, 1000)] == [600, 1200, DAY, DAY]
