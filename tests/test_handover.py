"""Handover: a second connection takes over while the first one stands, and nothing is missed or doubled.

The exchange is simulated without sockets, on a clock that only reading moves.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import pytest

from mexcflow.metrics import Metrics
from mexcflow.model import Frame
from mexcflow.pipeline import handover
from mexcflow.pipeline.converse import Conversation
from mexcflow.pipeline.plan import plan
from mexcflow.pipeline.receive import Receiver
from mexcflow.pipeline.route import Route
from tests.assembling import Began, Ended, Event, Feed, exchange_of, play
from tests.conversing import SimulatedClock, SimulatedLine
from tests.simulated import START_MS, Player

SYMBOL = {"binance": "BTCUSDT", "bybit": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD"}


class Journal:
    """What the receive thread wrote, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reasons: list[str] = []

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        self.events += [Frame(received_ns, payload) for payload in payloads]

    def connected(self, at_ns: int, *, handover: bool = False, **said: object) -> None:
        self.events.append(Began(at_ns, handover))

    def disconnected(self, at_ns: int, *, reason: str, **said: object) -> None:
        self.events.append(Ended(at_ns))
        self.reasons.append(reason)


class AtOnce(handover._Opening):
    """Opens a line without a thread."""

    def __init__(self, route: Route) -> None:
        self.line, self.error = route.open(), None
        self.done = type("Done", (), {"is_set": staticmethod(lambda: True)})
        self._abandoned = False


class Clock(SimulatedClock):
    """Waits take no time."""

    def wait(self, event, seconds: float) -> bool:
        return event.is_set()


class Receiving:
    """A receiver of one exchange's first socket; `at` says what happens at which second."""

    def __init__(self, name: str, lifetime_s: float = 8.0) -> None:
        self.player = Player(name)
        self.exchange = exchange_of(name, [SYMBOL[name]], channels=("trade", "book"))
        self.connection = plan(self.exchange)[-1]
        self.journal = Journal()
        self.lines: list[SimulatedLine] = []
        self.opened_at: list[float] = []
        self.at: dict[float, Callable[[], object]] = {}
        self.prepare: Callable[[SimulatedLine], object] = lambda line: None
        self.receiver = Receiver(
            partial(Conversation, self.exchange, self.connection.topics),
            Route(lambda proxy: self._open()),
            self.journal,
            Metrics("X", "market_data", self.exchange.channels, now=0.0),
            ping_interval_s=15.0,
            lifetime_s=lifetime_s,
            clock=Clock(self.player),
        )

    @property
    def now_s(self) -> float:
        return (self.player.now_ms - START_MS) / 1000

    def _open(self) -> SimulatedLine:
        line = SimulatedLine(self.player, urlsplit(self.connection.url).path)
        read = line.read

        def read_and_look() -> list[bytes]:
            for at in [at for at in self.at if at <= self.now_s]:
                self.at.pop(at)()
            return read()

        line.read = read_and_look
        self.lines.append(line)
        self.opened_at.append(self.now_s)
        self.prepare(line)
        return line

    def run(self, seconds: float) -> Feed:
        """Receive for so long; return what the insert thread makes of the journal."""
        self.at[seconds] = self.receiver.stop
        self.receiver.run()
        feed = Feed(self.exchange)
        feed.take(self.journal.events)
        return feed

    @property
    def controls(self) -> list[str]:
        kinds = [(type(event).__name__, getattr(event, "handover", False)) for event in self.journal.events]
        return ["Handover" if taken_over else kind for kind, taken_over in kinds if kind != "Frame"]


@pytest.fixture(autouse=True)
def without_threads(monkeypatch):
    monkeypatch.setattr(handover, "_Opening", AtOnce)


def at_us(line: str) -> int:
    return int(line.split("\t")[3].replace(".", ""))


def ids(feed: Feed) -> list[int]:
    return [int(line.split("\t")[4]) for line in feed.rows["market_data.trades"]]


@pytest.mark.parametrize("name", ["binance", "kraken", "coinbase", "bybit"])
def test_a_connection_is_replaced_before_its_end_and_nothing_is_missed(name):
    one = Receiving(name)
    feed = one.run(12)
    assert one.controls == ["Began", "Handover", "Ended"]
    assert one.journal.reasons == ["stopped"]
    assert one.opened_at == [0, 6]
    assert [line.open for line in one.lines] == [False] * 2
    assert feed.gaps == []
    assert feed.sums[2] == 0
    if name != "bybit":
        assert sorted(set(ids(feed))) == list(range(min(ids(feed)), max(ids(feed)) + 1))
    if name != "binance":  # the books are on its other socket
        books = feed.rows["market_data.books"]
        assert len(books) > 30
        # whatever came over both connections is there once: the same but for the receive time
        assert len({(*line.split("\t")[:3], *line.split("\t")[4:]) for line in books}) == len(books)
        taken_over_ns = next(e.at_ns for e in one.journal.events if isinstance(e, Began) and e.handover)
        assert any(at_us(line) * 1000 > taken_over_ns for line in books)


@pytest.mark.parametrize("name", ["kraken", "coinbase", "bybit"])
def test_a_crash_behind_a_handover_changes_nothing(name):
    one = Receiving(name)
    whole, events = one.run(10), one.journal.events
    at = next(n for n, event in enumerate(events) if isinstance(event, Began) and event.handover)
    for after in (0, 1, 5, 25, 45):
        parts = play(one.exchange, events, crashes=[at + after])
        assert (parts.rows, parts.gaps, parts.sums) == (whole.rows, whole.gaps, whole.sums)


def test_one_that_is_cut_while_its_successor_stands_is_no_outage(caplog):
    one = Receiving("kraken")
    one.at[7.0] = lambda: one.lines[0].shutdown()
    feed = one.run(10)
    assert one.controls == ["Began", "Handover", "Ended"]
    assert feed.gaps == []
    assert sorted(set(ids(feed))) == list(range(min(ids(feed)), max(ids(feed)) + 1))
    assert "while the one that was to take over stands already" in caplog.text


def test_one_that_is_cut_before_its_successor_has_everything_is_an_outage():
    one = Receiving("kraken")

    def deaf(line: SimulatedLine) -> None:
        if len(one.lines) == 2:
            line.dropped = lambda payload: b'"method":"subscribe"' in payload

    one.prepare = deaf
    one.at[7.0] = lambda: one.lines[0].shutdown()
    one.run(10)
    assert one.controls == ["Began", "Ended", "Began", "Ended"]
    assert not one.lines[1].open


def test_stopping_while_a_successor_stands_closes_both():
    one = Receiving("kraken")
    one.run(7.0)
    assert one.controls == ["Began", "Ended"]
    assert one.journal.reasons == ["stopped"]
    assert [line.open for line in one.lines] == [False, False]


def test_a_successor_that_is_not_answered_is_given_up_and_tried_again_after_a_minute(caplog):
    one = Receiving("kraken")

    def deaf(line: SimulatedLine) -> None:
        if len(one.lines) == 2:
            line.swallowed = lambda payload: True

    one.prepare = deaf
    feed = one.run(90)
    assert [round(at) for at in one.opened_at] == [0, 6, 76]
    assert one.controls == ["Began", "Handover", "Ended"]
    assert "the connection that was to take over: not acknowledged within 10 s" in caplog.text
    assert feed.gaps == []


def test_an_exchange_that_asks_for_it_gets_a_new_connection():
    one = Receiving("binance", lifetime_s=1000.0)
    shutdown = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790000000000}}'
    one.at[3.0] = lambda: one.lines[0].push(shutdown)
    feed = one.run(8)
    assert one.controls == ["Began", "Handover", "Ended"]
    assert feed.gaps == []
