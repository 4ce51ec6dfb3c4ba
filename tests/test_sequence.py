"""Sequence: duplicates and steps backwards are noticed, with both numbers, and never too many."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame, Kind
from mexcflow.pipeline.decode import decode, read_frame
from mexcflow.pipeline.sequence import MAX_GAPS, Gap, Watch

EXCHANGE = Mexc("BTC_USDT", ("ticker", "deal", "depth"))
T0 = 1_790_000_000_000_000_000


def depth(version: str) -> bytes:
    return (
        f'{{"symbol":"BTC_USDT","data":{{"asks":[[2,1,1]],"bids":[[1,1,1]]{version}}},'
        '"channel":"push.depth.full","ts":1790000000125}'
    ).encode()


def deal(trade: int) -> bytes:
    return (
        f'{{"symbol":"BTC_USDT","data":[{{"p":1,"v":1,"T":1,"t":1790000000123,"i":"{trade}"}}],'
        '"channel":"push.deal","ts":1790000000124}'
    ).encode()


def frames(*payloads: bytes, at_ns: int = T0) -> list[Frame]:
    return [Frame(at_ns + n * 1_000_000, payload) for n, payload in enumerate(payloads)]


def versions(*numbers: int) -> list[Frame]:
    return frames(*(depth(f',"version":{number}') for number in numbers))


def test_a_version_that_runs_backwards_inside_a_connection_is_noticed_with_both_numbers():
    batch = decode(EXCHANGE, versions(41, 44, 42, 43, 50), Watch())
    assert (batch.tally.backwards, batch.tally.duplicates) == (1, 0)
    assert batch.gaps == [Gap("depth", T0 + 1_000_000, T0 + 2_000_000, "backwards: sequence 42 after 44")]
    assert len(batch.rows) == batch.tally.messages["depth"] == 5  # stored as sent


def test_a_new_connection_may_begin_with_a_lower_version():
    first, second = Watch(), Watch()
    assert decode(EXCHANGE, versions(41, 44), first).gaps == []
    assert decode(EXCHANGE, versions(7, 8), second).gaps == []
    assert decode(EXCHANGE, versions(6), second).tally.backwards == 1


def test_a_watch_remembers_from_batch_to_batch():
    watch = Watch()
    decode(EXCHANGE, versions(41), watch)
    batch = decode(EXCHANGE, versions(41, 41, 40), watch)
    assert (batch.tally.duplicates, batch.tally.backwards) == (2, 1)
    assert [gap.reason for gap in batch.gaps] == [
        "duplicate: sequence 41 after 41",
        "duplicate: sequence 41 after 41",
        "backwards: sequence 40 after 41",
    ]
    assert decode(EXCHANGE, versions(41), watch).gaps == []


def test_without_a_number_two_equal_frames_in_a_row_are_a_duplicate_and_others_are_not():
    batch = decode(EXCHANGE, frames(deal(1), deal(2), deal(2), depth(""), deal(2), deal(1), deal(3)), Watch())
    assert batch.tally.duplicates == 2
    assert {gap.channel for gap in batch.gaps} == {"deal"}
    assert batch.tally.backwards == 0
    again = decode(EXCHANGE, frames(depth(""), depth("")), Watch())
    assert [gap.reason for gap in again.gaps] == ["duplicate: the same frame twice"]


def test_channels_do_not_mix():
    watch = Watch()
    watch.see("a", 5, b"x", 1)
    watch.see("b", 5, b"x", 2)
    watch.see("c", None, b"x", 3)
    watch.see("d", None, b"x", 4)
    assert watch.duplicates == watch.backwards == 0


def test_acknowledgements_pongs_and_garbage_are_no_duplicates():
    same = [b'{"channel":"rs.sub.deal","data":"success"}', b'{"channel":"pong","data":1}', b"<html>", b""]
    batch = decode(EXCHANGE, frames(*(payload for payload in same for _ in "ab")), Watch())
    assert (batch.tally.duplicates, batch.tally.backwards, batch.gaps) == (0, 0, [])


def test_a_feed_gone_mad_is_counted_and_not_written_down_for_ever():
    watch = Watch()
    found = sum(len(decode(EXCHANGE, versions(*[7] * 100), watch).gaps) for _ in range(5))
    assert watch.duplicates == 499
    assert found == MAX_GAPS


@pytest.mark.parametrize(
    "version",
    [
        "",
        ',"version":null',
        ',"version":"x"',
        ',"version":"41"',
        ',"version":-3',
        ',"version":1.5',
        ',"version":1e400',
        ',"version":true',
        ',"version":{}',
        ',"version":[[[]]]',
        ',"version":' + "9" * 40,
    ],
)
def test_a_depth_without_a_version_or_with_an_odd_one_is_a_row_like_any_other(version):
    reading = read_frame(EXCHANGE, Frame(T0, depth(version)))
    assert (reading.kind, reading.sequence) == (Kind.DATA, None)
    assert reading.rows == ((1_790_000_000_125, "dp", "[1,1]|[2,1]"),)


@pytest.mark.parametrize("version", [0, 1, 41_770_000_000, 2**63 - 1])
def test_a_version_is_taken_as_it_is(version):
    assert read_frame(EXCHANGE, Frame(T0, depth(f',"version":{version}'))).sequence == version


SEEN = st.tuples(
    st.sampled_from(["depth", "deal"]),
    st.none() | st.integers(0, 3),
    st.binary(max_size=1),
)


@settings(deadline=None)
@given(st.lists(SEEN, max_size=300), st.integers(0, 300))
def test_a_watch_goes_on_from_its_checkpoint_as_if_nothing_had_happened(seen, cut):
    whole, first = Watch(), Watch()
    for n, (channel, sequence, payload) in enumerate(seen):
        whole.see(channel, sequence, payload, n)
    for n, (channel, sequence, payload) in enumerate(seen[:cut]):
        first.see(channel, sequence, payload, n)
    gaps = first.take_gaps()
    second = Watch(json.loads(json.dumps(Watch(json.loads(json.dumps(first.checkpoint()))).checkpoint())))
    for n, (channel, sequence, payload) in list(enumerate(seen))[cut:]:
        second.see(channel, sequence, payload, n)
    assert gaps + second.take_gaps() == whole.take_gaps()
    assert (second.duplicates, second.backwards) == (whole.duplicates, whole.backwards)
    assert second.checkpoint() == whole.checkpoint()


def test_a_batch_knows_its_channels_and_its_last_frame():
    ack = b'{"channel":"rs.sub.ticker","data":"success"}'
    two = deal(1).replace(b'"data":[', b'"data":[{"p":2,"v":1,"T":2,"t":1790000000123},')
    empty = b'{"symbol":"BTC_USDT","data":[],"channel":"push.deal","ts":1790000000124}'
    strange = b'{"channel":"rs.sub.weather","data":"success"}'
    batch = decode(EXCHANGE, frames(strange, ack, empty, two, deal(2), depth(""), b"<html>"), Watch())
    assert batch.first_ns == {"ticker": T0 + 1_000_000, "deal": T0 + 2_000_000, "depth": T0 + 5_000_000}
    assert batch.channel_rows == {"deal": 3, "depth": 1}
    assert batch.tally.messages == {"deal": 2, "depth": 1}
    assert batch.last_ns == T0 + 6_000_000
    assert len(batch.rows) == 5
    nothing = decode(EXCHANGE, [])
    assert (nothing.first_ns, nothing.last_ns, nothing.gaps) == ({}, 0, [])
