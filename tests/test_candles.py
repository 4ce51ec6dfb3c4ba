"""Candles: closed by the exchange's word, by the next one, or by the clock; late words; over a crash."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.model import Candle
from mexcflow.pipeline.candles import GRACE_US, Candles

MINUTE_US = 60_000_000
OPEN_US = 1_790_000_040_000_000
Row = tuple[str, int, str, bool]


def candle(minute: int, close: str = "1", *, closed: bool | None = None, symbol: str = "A") -> Candle:
    open_us = OPEN_US + minute * MINUTE_US
    return Candle(symbol, open_us + 5, "1m", open_us, "1", "1", "1", close, "1", closed=closed)


def row(one: Candle) -> Row:
    return one.symbol, (one.open_us - OPEN_US) // MINUTE_US, one.close, one.closed


def taken(candles: Candles, *updates: Candle) -> list[Row]:
    return [row(one) for update in updates for one in candles.take(update)]


def ended(candles: Candles, at_us: int) -> list[Row]:
    return [row(one) for one in candles.ended(at_us)] if at_us >= candles.due_us else []


def restored(candles: Candles) -> Candles:
    return Candles(json.loads(msgspec.json.encode(candles.checkpoint())))


def test_the_next_one_closes_the_one_before_with_its_last_values():
    rows = taken(Candles(), candle(0, "1"), candle(0, "2"), candle(1, "3"))
    assert rows == [("A", 0, "1", False), ("A", 0, "2", False), ("A", 0, "2", True), ("A", 1, "3", False)]


def test_the_exchanges_own_word_closes_it_and_nothing_closes_it_again():
    candles = Candles()
    rows = taken(candles, candle(0, "1", closed=False), candle(0, "2", closed=True), candle(1, closed=False))
    assert rows == [("A", 0, "1", False), ("A", 0, "2", True), ("A", 1, "1", False)]
    assert ended(candles, OPEN_US + MINUTE_US + GRACE_US) == []


def test_the_clock_closes_it_three_seconds_after_its_end_and_each_symbol_for_itself():
    candles = Candles()
    taken(candles, candle(0, symbol="A"), candle(1, symbol="B"))
    end_us = OPEN_US + MINUTE_US + GRACE_US
    assert candles.due_us == end_us
    assert ended(candles, end_us - 1) == []
    assert ended(candles, end_us) == [("A", 0, "1", True)]
    assert candles.due_us == end_us + MINUTE_US
    assert ended(candles, end_us + 5 * MINUTE_US) == [("B", 1, "1", True)]
    assert ended(candles, end_us + 50 * MINUTE_US) == []


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("closed", [None, False, True])
def test_a_late_word_on_one_that_is_over_is_closed_and_changes_nothing_else(crash, closed):
    candles = Candles()
    taken(candles, candle(0))
    ended(candles, OPEN_US + MINUTE_US + GRACE_US)
    if crash:
        candles = restored(candles)
    assert taken(candles, candle(0, "7", closed=closed)) == [("A", 0, "7", True)]
    assert taken(candles, candle(-1, "8", closed=closed)) == [("A", -1, "8", True)]
    assert taken(candles, candle(1)) == [("A", 1, "1", False)]
    assert taken(candles, candle(0, "9", closed=closed)) == [("A", 0, "9", True)]
    assert candles.due_us == OPEN_US + 2 * MINUTE_US + GRACE_US


def test_one_of_an_interval_without_a_fixed_length_is_closed_by_the_next_alone():
    one = candle(0)
    one.interval = "1M"
    candles = Candles()
    taken(candles, one)
    assert ended(candles, OPEN_US * 2) == []


STEPS = st.lists(
    st.one_of(
        st.builds(
            candle,
            st.integers(0, 3),
            st.sampled_from("12"),
            closed=st.sampled_from([None, False, True]),
            symbol=st.sampled_from("AB"),
        ),
        st.integers(0, 5 * MINUTE_US).map(lambda us: OPEN_US + us),
        st.none(),
    ),
    max_size=15,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_a_crash_changes_nothing_and_a_closed_candle_is_never_open_again(steps):
    whole, crashed, closed = Candles(), Candles(), set()
    for step in steps:
        if step is None:
            crashed = restored(crashed)
            continue
        act = ended if isinstance(step, int) else taken
        rows = act(whole, msgspec.convert(msgspec.to_builtins(step), type(step)))
        assert act(crashed, step) == rows
        assert not [one for one in rows if not one[3] and one[:2] in closed]
        closed |= {one[:2] for one in rows if one[3]}
    assert restored(crashed).checkpoint() == whole.checkpoint()
