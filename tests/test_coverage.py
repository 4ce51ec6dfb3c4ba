"""Coverage: each time we listened, each time we did not, and why; whatever the clock and crashes do."""

import json
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.metrics import Tally
from mexcflow.pipeline.coverage import Coverage
from mexcflow.pipeline.decode import Batch
from mexcflow.pipeline.sequence import Gap
from mexcflow.store.coverage import Interval, State

MS = 1_000_000
LOST = "connection lost: reset by peer"


def batch(first_ms=None, *, last_ms=0, messages=None, rows=None, gaps=()):
    """What `decode` tells of a batch, with times in ms."""
    return Batch(
        [],
        Tally(messages=Counter(messages or {})),
        first_ns={channel: at * MS for channel, at in (first_ms or {}).items()},
        last_ns=last_ms * MS,
        channel_rows=Counter(rows or {}),
        gaps=[Gap(channel, start * MS, end * MS, reason) for channel, start, end, reason in gaps],
    )


def new() -> Coverage:
    return Coverage("mexc", "BTC_USDT")


def connect(coverage, at_ms, run="run1"):
    return coverage.connected(at_ms * MS, run=run, host="host1")


def disconnect(coverage, at_ms, reason=LOST, since_ms=None):
    return coverage.disconnected(
        at_ms * MS, reason=reason, since_ns=(at_ms if since_ms is None else since_ms) * MS
    )


def short(intervals):
    return [(one.channel, one.state.value, one.from_ms, one.to_ms) for one in intervals]


def test_before_the_first_connection_of_all_nothing_is_missing():
    coverage = new()
    assert disconnect(coverage, 500, "connection refused") == []
    assert connect(coverage, 1000) == []
    assert coverage.live() == []


def test_a_lost_connection_closes_its_channels_and_begins_an_outage_that_the_next_one_ends():
    coverage = new()
    connect(coverage, 1000)
    coverage.stored(
        batch({"deal": 1100, "depth": 1250}, last_ms=1900, messages={"deal": 3}, rows={"deal": 7})
    )
    assert short(coverage.live()) == [("deal", "live", 1100, 1900), ("depth", "live", 1250, 1900)]
    lost = disconnect(coverage, 2000)
    assert short(lost) == [
        ("deal", "live", 1100, 2000),
        ("depth", "live", 1250, 2000),
        ("", "outage", 2000, 2000),  # known, even if nothing ever comes again
    ]
    assert (lost[0].frames, lost[0].rows, lost[1].frames, lost[1].rows) == (3, 7, 0, 0)
    assert coverage.live() == []
    (ended,) = connect(coverage, 5000, run="run2")
    assert ended == Interval(
        "mexc", "BTC_USDT", "", 2000, 5000, State.OUTAGE, LOST, 0, 0, "run1", "host1", updated_ms=5000
    )
    coverage.stored(batch({"deal": 5200}, last_ms=5300, messages={"deal": 1}, rows={"deal": 1}))
    (live,) = coverage.live()
    assert live == Interval(
        "mexc", "BTC_USDT", "deal", 5200, 5300, State.LIVE, "", 1, 1, "run2", "host1", updated_ms=5300
    )


def test_the_time_between_two_runs_is_one_outage_also_after_a_kill():
    coverage = new()
    connect(coverage, 1000)
    coverage.stored(batch({"deal": 1100}, last_ms=1900))
    killed = "ended without notice (killed, power cut, or full disk)"
    first = disconnect(coverage, 1900, killed)
    later = Coverage("mexc", "BTC_USDT", json.loads(json.dumps(coverage.checkpoint())))
    ended = connect(later, 86_401_900, run="run2")
    assert short(first) == [("deal", "live", 1100, 1900), ("", "outage", 1900, 1900)]
    assert short(ended) == [("", "outage", 1900, 86_401_900)]
    assert ended[0].reason == killed


def test_lost_attempts_to_connect_are_no_new_outage_and_the_reason_stays_why_it_began():
    coverage = new()
    connect(coverage, 1000)
    disconnect(coverage, 2000)
    for at_ms in (3000, 4000):
        assert disconnect(coverage, at_ms, "connection refused") == []
    (ended,) = connect(coverage, 5000)
    assert (ended.from_ms, ended.to_ms, ended.reason) == (2000, 5000, LOST)


def test_after_silence_the_interval_ends_with_the_last_market_data():
    coverage = new()
    connect(coverage, 1000)
    coverage.stored(batch({"deal": 1100}, last_ms=2000))
    coverage.stored(batch(last_ms=31_000))  # pongs
    assert short(coverage.live()) == [("deal", "live", 1100, 31_000)]
    lost = disconnect(coverage, 32_000, "no market data for 30 s", since_ms=2000)
    assert short(lost) == [("deal", "live", 1100, 2000), ("", "outage", 2000, 2000)]
    assert lost[0].updated_ms > 31_000  # so that it counts, although it is shorter than what was written


def test_silence_never_reaches_back_before_the_connection_or_a_channels_beginning():
    coverage = new()
    connect(coverage, 1000)
    disconnect(coverage, 1500)
    connect(coverage, 2000)
    coverage.stored(batch({"deal": 2100}, last_ms=2200))
    assert short(disconnect(coverage, 40_000, since_ms=1400)) == [
        ("deal", "live", 2100, 2100),
        ("", "outage", 2100, 2100),
    ]
    connect(coverage, 41_000)
    assert short(disconnect(coverage, 80_000, since_ms=1400)) == [("", "outage", 41_000, 41_000)]


def test_a_channel_that_gave_no_sign_of_life_has_no_live_interval():
    coverage = new()
    connect(coverage, 1000)
    coverage.stored(batch({"deal": 1100}, last_ms=1900))
    assert {one.channel for one in disconnect(coverage, 2000)} == {"deal", ""}


def test_a_connection_without_a_recorded_end_ends_with_the_last_frame():
    coverage = new()
    connect(coverage, 1000)
    coverage.stored(batch({"deal": 1100}, last_ms=1900))
    again = connect(coverage, 9000, run="run2")
    assert short(again) == [
        ("deal", "live", 1100, 1900),
        ("", "outage", 1900, 1900),
        ("", "outage", 1900, 9000),
    ]
    assert "not recorded" in again[-1].reason


def test_frames_without_a_recorded_beginning_begin_one():
    coverage = new()
    connect(coverage, 1000)
    disconnect(coverage, 2000)
    ended = coverage.stored(batch({"deal": 3000}, last_ms=3500))
    assert short(ended) == [("", "outage", 2000, 3000)]
    assert short(coverage.live()) == [("deal", "live", 3000, 3500)]


def test_findings_of_the_sequence_become_gaps_and_none_replaces_another():
    coverage = new()
    connect(coverage, 1000)
    found = [("depth", 1200, 1200, f"backwards: sequence {n} after 9") for n in range(3)]
    gaps = coverage.stored(batch({"depth": 1100}, last_ms=1300, gaps=[*found, ("deal", 1200, 1250, "d")]))
    assert short(gaps) == [
        ("depth", "gap", 1200, 1200),
        ("depth", "gap", 1201, 1201),
        ("depth", "gap", 1202, 1202),
        ("deal", "gap", 1200, 1250),
    ]
    assert [gap.reason for gap in gaps][1] == "backwards: sequence 1 after 9"


def test_a_clock_that_is_set_back_makes_no_interval_run_backwards_or_vanish():
    coverage, written = new(), []
    for at_ms in (10_000, 9000, 8000, 100):  # an hour's step back would look the same
        written += connect(coverage, at_ms)
        written += coverage.stored(batch({"deal": at_ms}, last_ms=at_ms, messages={"deal": 1}))
        written += disconnect(coverage, at_ms)
    final = settled(written)
    live = [one for one in final if one.state is State.LIVE]
    assert len(live) == 4
    assert sum(one.frames for one in live) == 4
    assert_in_order(final)


def settled(written: list[Interval]) -> list[Interval]:
    """What the table has in the end: of one beginning the latest version, the later written of equal ones."""
    kept: dict[tuple, Interval] = {}
    for one in written:
        key = (one.channel, one.from_ms, one.state)
        if key not in kept or one.updated_ms >= kept[key].updated_ms:
            kept[key] = one
    return sorted(kept.values(), key=lambda one: (one.from_ms, one.channel, one.state))


def assert_in_order(final: list[Interval]) -> None:
    """No interval runs backwards, and none overlaps another of its channel or an outage."""
    assert all(one.from_ms <= one.to_ms for one in final)
    for channel in {one.channel for one in final if one.state is State.LIVE} | {""}:
        mine = [one for one in final if one.state is not State.GAP and one.channel in (channel, "")]
        mine.sort(key=lambda one: (one.from_ms, one.to_ms))
        for before, after in pairwise(mine):
            assert before.to_ms <= after.from_ms, (before, after)


TIMES = st.integers(0, 50)  # few, so that they often are the same or run backwards
CHANNELS = st.sampled_from(["ticker", "deal", "depth"])
EVENTS = st.one_of(
    st.tuples(st.just("connected"), TIMES, st.sampled_from(["run1", "run2"])),
    st.tuples(st.just("disconnected"), TIMES, TIMES, st.sampled_from([LOST, "stopped"])),
    st.tuples(
        st.just("stored"),
        st.dictionaries(CHANNELS, TIMES),
        TIMES,
        st.dictionaries(CHANNELS, st.integers(1, 5)),
        st.lists(st.tuples(CHANNELS, TIMES, TIMES, st.just("backwards")), max_size=3),
    ),
    st.just(("flush",)),
)


def play(coverage: Coverage, events: list[tuple]) -> list[Interval]:
    written = []
    for name, *values in events:
        if name == "connected":
            written += connect(coverage, *values)
        elif name == "disconnected":
            at_ms, since_ms, reason = values
            written += disconnect(coverage, at_ms, reason, since_ms)
        elif name == "stored":
            first_ms, last_ms, messages, gaps = values
            written += coverage.stored(
                batch(first_ms, last_ms=last_ms, messages=messages, rows=messages, gaps=gaps)
            )
        else:
            written += coverage.live()
    return written


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.integers(0, 40))
def test_wherever_a_stream_is_cut_the_same_intervals_are_written(events, cut):
    whole, first = new(), new()
    expected = play(whole, events)
    before = play(first, events[:cut])
    state = json.loads(json.dumps(first.checkpoint()))
    play(first, events[cut:])  # what the old object does then must not reach the state it gave
    second = Coverage("mexc", "BTC_USDT", state)
    assert before + play(second, events[cut:]) == expected
    assert second.live() == whole.live()
    assert second.checkpoint() == whole.checkpoint()


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40), st.integers(0, 40))
def test_replaying_the_end_of_a_stream_after_a_crash_changes_nothing(events, cut):
    first = new()
    before = play(first, events[:cut])
    state = json.loads(json.dumps(first.checkpoint()))
    once = play(first, events[cut:])
    again = play(Coverage("mexc", "BTC_USDT", state), events[cut:])
    assert again == once
    assert settled(before + once + again) == settled(before + once)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_intervals_never_overlap_and_every_frame_is_in_one_whatever_the_clock_does(events):
    coverage, written, frames = new(), [], Counter()
    for event in events:
        written += play(coverage, [event])
        if event[0] == "stored":
            listening = {one.channel for one in coverage.live()}
            frames.update({channel: n for channel, n in event[3].items() if channel in listening})
    final = settled(written + coverage.live())
    assert_in_order(final)
    assert frames.total() == sum(one.frames for one in final)
    for one in final:
        assert (one.channel == "") == (one.state is State.OUTAGE)
        if one.state is State.OUTAGE and one.to_ms == one.from_ms:  # has not ended: it is the newest
            assert all(other.from_ms <= one.from_ms for other in final if other.state is not State.GAP)
