"""Every exchange with typed tables: its frames file, row by row, and what all of them have to keep.

A line of `frames/<name>.jsonl` is a case: `about`, `frame` (text), `kind` and, where they are not empty,
`channel`, `rows` (the fields of each row that say something), `text`, `permanent`, `topics`, `request`,
`restart`, `polled`; of a dead letter `reason`, a part of why it is one. Wanted is every channel of the
exchange's example and of each symbol in the rows; a line `{"wanted": {...}}` changes that.
"""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from mexcflow.exchanges import TYPED
from mexcflow.model import BookUpdate, Candle, Kind, Ticker, Trade, TypedReading, Wanted

FOLDER = Path(__file__).parent / "frames"
ROW = {"trade": Trade, "book": BookUpdate, "ticker": Ticker, "candle": Candle}
EXTRA = {
    "text": "", "permanent": False, "topics": [], "request": None, "restart": False, "polled": False
}  # fmt: skip
FILES = {name: FOLDER / f"{name}.jsonl" for name in TYPED}
LINES = {
    name: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for name, path in FILES.items()
}
CASES = {
    name: [{"channel": "", "rows": [], **line} for line in lines if "frame" in line]
    for name, lines in LINES.items()
}

each_exchange = pytest.mark.parametrize("name", TYPED)


def wanted(name: str) -> Wanted:
    said = next((line["wanted"] for line in LINES[name] if "wanted" in line), {})
    in_rows = [row["symbol"] for case in CASES[name] for row in case["rows"]]
    symbols = tuple(dict.fromkeys([TYPED[name].example, *in_rows]))
    return msgspec.convert({"symbols": symbols, "channels": TYPED[name].channels, **said}, Wanted)


EXCHANGES = {name: TYPED[name](wanted(name)) for name in TYPED}


def plain(value: object) -> object:
    """Structs as dicts, tuples as lists."""
    return json.loads(msgspec.json.encode(value))


def said(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None}


def read(name: str, payload: bytes) -> TypedReading | None:
    """What the pipeline gets; None for a dead letter."""
    try:
        return EXCHANGES[name].read(EXCHANGES[name].unwrap(payload))
    except Exception:
        return None


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}: {case['about']}")
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_frame_gives_exactly_these_rows(name, case):
    if case["kind"] == Kind.DEAD_LETTER:
        reason = case.get("reason") or case.get("text")
        with pytest.raises(Exception, match=re.escape(reason) if reason else None):
            EXCHANGES[name].read(EXCHANGES[name].unwrap(case["frame"].encode()))
        return
    reading = EXCHANGES[name].read(case["frame"].encode())
    assert reading.kind == case["kind"], reading.text
    assert reading.channel == case["channel"]
    for row in case["rows"]:
        assert row.keys() <= set(ROW[case["channel"]].__struct_fields__), "a row of the case is misspelt"
    assert [type(row) for row in reading.rows] == [ROW.get(case["channel"])] * len(case["rows"])
    assert [said(row) for row in plain(reading.rows)] == [said(row) for row in case["rows"]]
    assert {key: plain(getattr(reading, key)) for key in EXTRA} == {
        key: case.get(key, default) for key, default in EXTRA.items()
    }


@each_exchange
def test_the_cases_cover_every_channel_and_the_kinds_that_all_exchanges_have(name):
    cases = CASES[name]
    assert {case["channel"] for case in cases if case["kind"] == Kind.DATA} == set(TYPED[name].channels)
    assert {Kind.DATA, Kind.ACK, Kind.ERROR, Kind.DEAD_LETTER} <= {case["kind"] for case in cases}
    assert any(case.get("permanent") for case in cases), "no unknown symbol among the cases"
    assert not [about for about, n in Counter(case["about"] for case in cases).items() if n > 1]


@each_exchange
def test_only_market_data_looks_like_it_and_only_deltas_like_deltas(name):
    exchange = EXCHANGES[name]
    for case in CASES[name]:
        payload = case["frame"].encode()
        if case["kind"] == Kind.DATA:
            assert exchange.is_market_data(payload) == (not case.get("polled")), case["about"]
            if not exchange.whole_books:
                assert exchange.is_book_delta(payload) == (case["channel"] == "book"), case["about"]
        elif case["kind"] in (Kind.ACK, Kind.PONG, Kind.ERROR):
            assert not exchange.is_market_data(payload), case["about"]
            assert not exchange.is_book_delta(payload), case["about"]


@each_exchange
@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"0", b'""', b"[]", b"{}", b"[[]]", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"pong\x00"],
    ids=lambda payload: repr(payload[:12]),
)
def test_garbage_is_no_data(name, payload):
    reading = read(name, payload)
    assert reading is None or reading.kind is not Kind.DATA


@each_exchange
def test_a_frame_that_was_cut_is_no_data(name):
    for case in one_of_each(name):
        payload = case["frame"].rstrip().encode()
        for end in range(0, len(payload), 1 + len(payload) // 60):
            reading = read(name, payload[:end])
            assert reading is None or reading.kind is not Kind.DATA, (case["about"], payload[:end])


@each_exchange
@pytest.mark.parametrize("instead", ["garbage", "", None, True, {}, [], -1, "0.-10000", "NaN", "1e999", "牛"])
def test_a_value_that_was_replaced_by_garbage_never_gets_into_a_row(name, instead):
    for case in one_of_each(name):
        frame = json.loads(case["frame"])
        for path in leaves(frame):
            reading = read(name, json.dumps(replaced(frame, path, instead), ensure_ascii=False).encode())
            if reading is not None and reading.kind is Kind.DATA:
                for row in reading.rows:
                    assert_sound(name, row, (case["about"], path))


def one_of_each(name: str) -> list[dict]:
    """The first case of data of each channel, and the first delta of a book."""
    found = {}
    for case in CASES[name]:
        if case["kind"] == Kind.DATA and case["rows"]:
            found.setdefault((case["channel"], case["rows"][0].get("is_snapshot")), case)
    return list(found.values())


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [leaf for key, one in itertools.islice(inside, 20) for leaf in leaves(one, (*path, key))]


def replaced(value: object, path: tuple, instead: object) -> object:
    if not path:
        return instead
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], instead)
    return copy


NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18})?").fullmatch
NUMBERS = {
    Trade: ("price", "quantity"),
    Candle: ("open", "high", "low", "close"),
    Ticker: (),
    BookUpdate: (),
}
NUMBERS_OR_NONE = {
    Trade: ("base_quantity",),
    Candle: ("volume", "quote_volume"),
    Ticker: ("last", "mark", "index", "open_interest", "funding_rate"),
    BookUpdate: (),
}


def assert_sound(name: str, row: msgspec.Struct, where: object) -> None:
    """Nothing in a row that its column would refuse; levels of books are looked at where they are stored."""
    kind = type(row)
    for field in NUMBERS[kind]:
        assert NUMBER(getattr(row, field)), (where, field, getattr(row, field))
    for field in NUMBERS_OR_NONE[kind]:
        assert getattr(row, field) is None or NUMBER(getattr(row, field)), (where, field, getattr(row, field))
    assert row.symbol in wanted(name).symbols, where
    nothing_said = kind is not Trade and row.time_us == 0
    assert nothing_said or 10**15 <= row.time_us < 10**16, where
    if kind is Trade:
        assert row.side in ("buy", "sell"), where
        assert type(row.id) is str, where
    if kind is Candle:
        assert row.interval in TYPED[name].intervals, where
        assert 10**15 <= row.open_us < 10**16, where


@each_exchange
def test_everything_wanted_is_subscribed_and_every_topic_is_in_one_request(name):
    exchange = EXCHANGES[name]
    topics = exchange.topics()
    assert len({topic.name for topic in topics}) == len(topics)
    assert {topic.socket for topic in topics} <= exchange.sockets.keys()
    want = wanted(name)
    assert {(topic.symbol, topic.channel) for topic in topics} == set(
        itertools.product(want.symbols, want.channels)
    )
    for socket in exchange.sockets:
        mine = tuple(topic for topic in topics if topic.socket == socket)
        requests = exchange.requests(mine, 7)
        assert sorted(topic for request in requests for topic in request.topics) == sorted(mine)
        assert [request.id for request in requests] == list(range(7, 7 + len(requests)))
        for request in requests:
            json.loads(request.payload)
    one = topics[0]
    (request,) = exchange.requests((one,), 1)
    assert request.topics == (one,)


@each_exchange
def test_a_channel_that_is_not_wanted_is_not_subscribed(name):
    for channel in TYPED[name].channels:
        exchange = TYPED[name](Wanted(symbols=(TYPED[name].example,), channels=(channel,)))
        assert {topic.channel for topic in exchange.topics()} == {channel}


@each_exchange
def test_a_book_of_deltas_can_be_renewed(name):
    exchange = EXCHANGES[name]
    for topic in exchange.topics():
        if topic.channel == "book":
            frames = exchange.renew(topic, 40)
            assert bool(frames) != exchange.whole_books
            assert all(topic.symbol in json.dumps(json.loads(frame), ensure_ascii=False) for frame in frames)


@each_exchange
def test_what_an_exchange_says_of_itself_makes_sense(name):
    exchange = TYPED[name]
    assert exchange.name == name
    assert exchange.channels
    assert set(exchange.channels) <= set(ROW)
    assert exchange.sockets
    assert all(url.startswith("wss://") for url in exchange.sockets.values())
    assert exchange.ping_url.startswith("https://")
    assert exchange.instruments_url.startswith("https://")
    assert all(limit > 0 for limit in exchange.limits)
    assert exchange.silence_s > 0
    assert exchange.ack_timeout_s > 0
    assert len(set(exchange.intervals)) == len(exchange.intervals)
    assert all(re.fullmatch(r"[1-9][0-9]*[smhdwM]", interval) for interval in exchange.intervals)
    assert ("1m" in exchange.intervals) == ("candle" in exchange.channels)
    assert 0 < exchange.book_depth <= (exchange.book_levels or 10_000)
    assert exchange.example
