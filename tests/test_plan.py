"""Plans: every topic over one connection of its socket, each symbol's together, within the limits."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges import TYPED
from mexcflow.exchanges.binance import Binance
from mexcflow.exchanges.typed import Limits
from mexcflow.model import Wanted
from mexcflow.pipeline.plan import Pace, plan


def exchange(symbols: list[str], topics: int, channels=("trade", "book", "ticker")) -> Binance:
    class Small(Binance):
        limits = Limits(messages_per_s=8, topics=topics)

    return Small(Wanted(symbols=tuple(symbols), channels=tuple(channels)))


def shape(found) -> list[tuple[str, list[str]]]:
    return [(one.name, [topic.name for topic in one.topics]) for one in found]


def test_each_socket_has_a_connection_and_a_second_one_where_the_first_is_full():
    """Nine tenths of ten are nine topics; a symbol has three on the second socket."""
    found = plan(exchange(["A", "B", "C", "D"], 10))
    of_market = [[f"{s}@aggTrade", f"{s}@markPrice@1s", f"{s}@ticker"] for s in "abcd"]
    assert shape(found) == [
        ("public", [f"{s}@depth20@100ms" for s in "abcd"]),
        ("market", [*of_market[0], *of_market[1], *of_market[2]]),
        ("market-2", of_market[3]),
    ]
    assert found[1].channels == dict.fromkeys("ABC", ("trade", "ticker"))
    assert [one.url for one in found] == [
        "wss://fstream.binance.com/public/stream",
        *["wss://fstream.binance.com/market/stream"] * 2,
    ]


def test_a_socket_that_nothing_is_wanted_of_has_no_connection():
    assert [one.name for one in plan(exchange(["A"], 100, ["book"]))] == ["public"]
    assert [one.name for one in plan(exchange(["A"], 100, ["trade"]))] == ["market"]


def test_a_symbol_with_more_topics_than_a_connection_may_have_gets_one_alone():
    assert [len(one.topics) for one in plan(exchange(["A", "B"], 2, ["ticker"]))] == [2, 2]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765/public/stream"),
        ("ws://127.0.0.1:8765/", "ws://127.0.0.1:8765/public/stream"),
        ("wss://host/before/", "wss://host/before/public/stream"),
    ],
)
def test_an_endpoint_takes_the_hosts_place_and_the_path_stays(endpoint, url):
    assert plan(exchange(["A"], 100), endpoint)[0].url == url


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(TYPED)),
    st.integers(1, 12),
    st.integers(1, 30),
    st.sets(st.sampled_from(["trade", "book", "ticker", "candle"]), min_size=1),
)
def test_every_topic_is_on_one_connection_of_its_socket(name, symbols, topics, channels):
    class Small(TYPED[name]):
        limits = TYPED[name].limits._replace(topics=topics)

    wanted = [f"C{n}-USDT-SWAP" for n in range(symbols)]
    having = tuple(channel for channel in TYPED[name].channels if channel in channels) or ("trade",)
    one = Small(Wanted(symbols=tuple(wanted), channels=having))
    found = plan(one)
    assert sorted(topic for connection in found for topic in connection.topics) == sorted(one.topics())
    assert len({connection.name for connection in found}) == len(found)
    for connection in found:
        assert {one.sockets[topic.socket] for topic in connection.topics} == {connection.url}
        assert len(connection.channels) == 1 or len(connection.topics) <= topics * 0.9
    for socket in one.sockets:
        of_socket = [c for c in found if c.name.rpartition("-")[0] == socket or c.name == socket]
        where = [(symbol, c.name) for c in of_socket for symbol in c.channels]
        assert len(where) == len({symbol for symbol, _ in where})


class Ticking:
    """A clock that a wait moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return False


def test_connections_begin_no_faster_than_the_exchange_allows():
    clock = Ticking()
    pace = Pace(0.25, clock)
    began = []
    for later in (0, 0, 0, 9):
        clock.now += later
        pace.wait()
        began.append(clock.now - 100)
    assert began == [0, 4, 8, 17]
