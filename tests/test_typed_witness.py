"""A tape of each exchange, cut into batches and crashed anywhere, comes to the same rows and gaps."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges import TYPED
from mexcflow.model import Frame
from mexcflow.store.coverage import State
from tests.assembling import Began, Ended, Event, exchange_of, play, simulated

each_exchange = pytest.mark.parametrize("name", TYPED)


def on_a_bad_line(event: Event, how: str) -> list[Event]:
    """Return what becomes of a frame."""
    if not how or not isinstance(event, Frame):
        return [event]
    at_ns, payload = event.received_ns, event.payload
    return {
        "lost": [],
        "twice": [event, event],
        "cut": [Frame(at_ns, payload[: len(payload) * 2 // 3])],
        "no number": [Frame(at_ns, payload.replace(b"1", b"x"))],
        "taken over": [event, Began(at_ns, handover=True)],
        "reconnected": [event, Ended(at_ns), Began(at_ns + 1)],
    }[how]


HOWS = ("lost", "twice", "cut", "no number", "taken over", "reconnected")
AT = st.integers(0, 1000)  # thousandths of a tape
FAULTS = st.dictionaries(AT, st.sampled_from(HOWS), max_size=5)
PLACES = st.lists(AT, max_size=8)


def damaged(tape: Sequence[Event], faults: dict[int, str]) -> list[Event]:
    at = {place * (len(tape) - 1) // 1000: how for place, how in faults.items()}
    return [one for index, event in enumerate(tape) for one in on_a_bad_line(event, at.get(index, ""))]


@each_exchange
@settings(max_examples=12, deadline=None)
@given(FAULTS, PLACES, PLACES, st.sampled_from([0, 1_000_000]))
def test_cut_and_crashed_anywhere_it_comes_to_the_same(name, faults, cuts, crashes, interval_us):
    symbols, tape = simulated(name)
    tape = damaged(tape, faults)
    cuts, crashes = ([place * len(tape) // 1000 for place in places] for places in (cuts, crashes))
    exchange = exchange_of(name, symbols)
    whole = play(exchange, tape, book_interval_us=interval_us)
    parts = play(exchange, tape, cuts, crashes, book_interval_us=interval_us)
    assert parts.rows == whole.rows
    assert sorted(parts.gaps) == sorted(whole.gaps)
    assert parts.sums == whole.sums
    assert parts.state == whole.state


@each_exchange
@settings(max_examples=8, deadline=None)
@given(st.dictionaries(AT, st.sampled_from(["lost", "cut", "no number"]), min_size=1, max_size=4))
def test_on_a_bad_line_no_book_is_stored_that_never_was(name, faults):
    symbols, tape = simulated(name)
    if name == "coinbase":  # its changes have no number: one that is lost is not missed
        faults = dict.fromkeys(faults, "cut")
    exchange = exchange_of(name, symbols)
    was = set(play(exchange, tape).rows["market_data.books"])
    assert was.issuperset(play(exchange, damaged(tape, faults)).rows["market_data.books"])


@each_exchange
def test_an_undamaged_tape_has_rows_of_every_channel_and_gaps_only_in_trades_nobody_listened_to(name):
    symbols, tape = simulated(name)
    feed = play(exchange_of(name, symbols), tape)
    assert set(feed.rows) == {f"market_data.{channel}s" for channel in TYPED[name].channels}
    began_ns = [event.at_ns for event in tape if isinstance(event, Began)][1]
    assert [gap for gap in feed.gaps if gap[1] != "trade" or not gap[2] < began_ns <= gap[3]] == []


@each_exchange
def test_the_state_is_small(name):
    symbols, tape = simulated(name)
    feed = play(exchange_of(name, symbols), tape, book_interval_us=1_000_000)
    assert len(json.dumps(feed.state)) < 10_000 * len(symbols)


def test_a_symbol_that_is_quiet_is_alive_as_long_as_its_line_is():
    """Only one of two symbols brings anything after the first frame of each."""
    symbols, tape = simulated("bybit")
    quiet, busy = symbols
    began = next(event for event in tape if isinstance(event, Began))
    frames = [event for event in tape if isinstance(event, Frame)]
    first = next(one for one in frames if b"orderbook" in one.payload and quiet.encode() in one.payload)
    others = [one for one in frames if one.received_ns > first.received_ns and busy.encode() in one.payload]
    feed = play(exchange_of("bybit", symbols), [began, first, *others], cuts=[2])
    intervals = feed.witness.to_write(force=True)
    assert {one.symbol for one in intervals if one.state is State.LIVE} == {quiet, busy}
    assert {one.to_ms for one in intervals if one.symbol == quiet} == {others[-1].received_ns // 1_000_000}
