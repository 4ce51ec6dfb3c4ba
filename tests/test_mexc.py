"""MEXC's frames, each with the exact rows it must give. The frames are ours, of the documented shapes."""

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame, Kind, Reading
from mexcflow.pipeline.decode import read_frame

CASES = [json.loads(line) for line in (Path(__file__).parent / "frames/mexc.jsonl").read_text().splitlines()]
RECEIVED_NS = 1_790_000_000_456_789_000
EXCHANGE = Mexc("BTC_USDT", ("ticker", "deal", "depth"))


def read(payload: bytes, exchange: Mexc = EXCHANGE) -> Reading:
    return read_frame(exchange, Frame(RECEIVED_NS, payload))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["about"])
def test_frame_gives_exactly_these_rows(case):
    reading = read(case["frame"].encode())
    assert reading.kind == case["kind"], reading.text
    if reading.kind is Kind.DEAD_LETTER:
        assert reading.rows == ((RECEIVED_NS // 1_000_000, "dl", case["frame"][:500]),)
        return
    assert reading.channel == case["channel"]
    assert [list(row) for row in reading.rows] == case["rows"]
    assert reading.permanent == case.get("permanent", False)
    assert reading.text == case.get("text", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["about"])
def test_a_gzipped_frame_reads_like_the_text(case):
    assert_same_but_reason(read(gzip.compress(case["frame"].encode())), read(case["frame"].encode()))


def assert_same_but_reason(one: Reading, other: Reading) -> None:
    if Kind.DEAD_LETTER in (one.kind, other.kind):
        one, other = (msgspec.structs.replace(reading, text="") for reading in (one, other))
    assert one == other


def test_every_kind_is_among_the_cases():
    assert {case["kind"] for case in CASES} == set(Kind)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x1f\x8b damaged",
        gzip.compress(b'{"channel":"pong"}')[:-4],
        b"\xff\xfe\x00not UTF-8",
        b'{"symbol":"BTC_USDT","channel":"push.deal","data":[{"p":\xff}]}',
        b"[" * 200_000,
        b'{"channel":"push.deal","symbol":"BTC_USDT","data":' + b"[" * 200_000,
        gzip.compress(b" " * 20_000_000),
    ],
    ids=["damaged gzip", "cut gzip", "not UTF-8", "not UTF-8 inside", "deep", "deep inside", "gzip bomb"],
)
def test_bytes_that_are_no_frame_become_a_dead_letter_of_500_characters(payload):
    reading = read(payload)
    assert reading.kind is Kind.DEAD_LETTER
    ((ts_ms, mt, text),) = reading.rows
    assert (ts_ms, mt) == (RECEIVED_NS // 1_000_000, "dl")
    assert text == payload.decode("utf-8", "replace")[:500]
    assert reading.text


def test_gzip_of_several_members_is_one_text():
    frame = next(case["frame"] for case in CASES if case["about"] == "20 levels a side").encode()
    assert read(gzip.compress(frame[:100]) + gzip.compress(frame[100:])) == read(frame)


def test_two_frames_in_one_gzip_are_not_taken_for_one():
    frame = CASES[0]["frame"].encode()
    reading = read(gzip.compress(frame) + gzip.compress(frame))
    assert reading.kind is Kind.DEAD_LETTER
    assert reading.rows[0][2] == (frame + frame).decode()[:500]
    assert read(gzip.compress(frame) + b"junk").kind is Kind.DEAD_LETTER


def test_a_direction_may_be_written_with_a_point():
    frame = CASES[0]["frame"].replace('"T":2', '"T":2.0')
    assert read(frame.encode()) == read(CASES[0]["frame"].encode())


def test_a_dead_letter_is_cut_at_500_characters_not_bytes():
    ((_, _, text),) = read("牛".encode() * 600).rows
    assert text == "牛" * 500


def test_a_symbol_that_is_not_ascii_is_recorded():
    exchange = Mexc("牛来_USDT", ("deal",))
    frame = '{"symbol":"牛来_USDT","data":[{"p":1.5,"v":2,"T":1,"t":1790000000123}],"channel":"push.deal"}'
    expected = ((1790000000123, "d", "1.5|2|1"),)
    assert read(frame.encode(), exchange).rows == expected
    assert read(json.dumps(json.loads(frame)).encode(), exchange).rows == expected  # as \\u escapes
    assert json.loads(exchange.subscriptions()["deal"])["param"]["symbol"] == "牛来_USDT"


def test_subscriptions_are_one_frame_a_channel_as_the_exchange_wants_them():
    assert {channel: json.loads(frame) for channel, frame in EXCHANGE.subscriptions().items()} == {
        "ticker": {"method": "sub.ticker", "param": {"symbol": "BTC_USDT"}},
        "deal": {"method": "sub.deal", "param": {"symbol": "BTC_USDT"}},
        "depth": {"method": "sub.depth.full", "param": {"symbol": "BTC_USDT", "limit": 20}},
    }


def test_only_pushes_look_like_market_data():
    looks = {case["about"]: EXCHANGE.is_market_data(case["frame"].encode()) for case in CASES}
    for case in CASES:
        if case["kind"] in ("data", "skipped"):
            assert looks[case["about"]], case["about"]
        if case["kind"] in ("ack", "pong", "error"):
            assert not looks[case["about"]], case["about"]
