"""The sampler: a row a full second and symbol, of the book before the first frame behind it."""

import json

import pytest

from mexcflow.model import BookUpdate, Kind, TypedReading, Undecodable
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.sampler import Sampler
from mexcflow.store.market import BOOKS
from tests.assembling import exchange_of

SECOND_US = 1_000_000
AT_US = 1_790_000_000_000_000
"""A full second."""


class Sampled:
    """An assembler of Bybit's books, which are built from deltas, or of OKX's whole ones; times in ms."""

    def __init__(self, name: str = "bybit", *, interval_us: int = SECOND_US) -> None:
        symbol = {"bybit": "{}USDT", "okx": "{}-USDT-SWAP"}[name]
        self.a, self.b = symbol.format("A"), symbol.format("B")
        self.exchange = exchange_of(name, (self.a, self.b))
        self.interval_us = interval_us
        self.assembler = Assembler(self.exchange, book_interval_us=interval_us)
        self.connect(0)

    def connect(self, ms: int, *, handover: bool = False) -> None:
        self.assembler.connected((AT_US + ms * 1000) * 1000, handover=handover)

    def crash(self) -> None:
        state = json.loads(json.dumps(self.assembler.checkpoint()))
        self.assembler = Assembler(self.exchange, book_interval_us=self.interval_us, state=state)

    def book(self, ms: int, sequence: int, price: str = "", symbol: str = "", *, whole: bool = False) -> None:
        """Take a frame received then, whose event was 7 ms before."""
        now_us = AT_US + ms * 1000
        self.assembler.tick(now_us)
        levels = [(price or str(sequence), "1")]
        update = BookUpdate(symbol or self.a, now_us - 7000, whole, levels, [], sequence)
        self.assembler.take(TypedReading(Kind.DATA, "book", (update,)), now_us * 1000)

    def other(self, ms: int) -> None:
        """Let a frame of another kind be received then."""
        self.assembler.tick(AT_US + ms * 1000)

    def samples(self) -> list[tuple[str, int, int, str]]:
        """Symbol, receive and event time in ms, bid prices of the rows since the last call."""
        rows = []
        for line in self.assembler.taken()[0].lines(BOOKS):
            _, symbol, event, received, _, bids, *_ = line.split("\t")
            rows.append((symbol, ms_of(received), ms_of(event), bids))
        return sorted(rows)


def ms_of(time: str) -> int:
    return (int(time.replace(".", "")) - AT_US) // 1000


def test_each_full_second_has_each_books_state_before_the_first_frame_behind_it():
    one = Sampled()
    one.book(100, 1, whole=True)
    one.book(200, 1, "5", one.b, whole=True)
    one.book(300, 2, "2")
    one.book(999, 3, "3")
    assert one.samples() == []
    one.book(1000, 4, "4")
    assert one.samples() == [(one.a, 1000, 992, "[3,2,1]"), (one.b, 1000, 193, "[5]")]
    one.other(1999)
    assert one.samples() == []
    one.other(2001)
    assert one.samples() == [(one.a, 2000, 993, "[4,3,2,1]"), (one.b, 2000, 193, "[5]")]


def test_after_a_pause_there_is_one_sample_of_the_last_full_second():
    one = Sampled()
    one.book(100, 1, whole=True)
    one.other(4200)
    one.other(4300)
    assert one.samples() == [(one.a, 4000, 93, "[1]")]


def test_a_book_that_breaks_is_not_sampled_until_its_next_snapshot_and_others_are():
    one = Sampled()
    one.book(100, 1, whole=True)
    one.book(100, 1, "5", one.b, whole=True)
    one.book(200, 3)
    one.other(1000)
    assert one.samples() == [(one.b, 1000, 93, "[5]")]
    one.book(1100, 4)
    one.book(1200, 9, whole=True)
    one.other(2000)
    assert one.samples() == [(one.a, 2000, 1193, "[9]"), (one.b, 2000, 93, "[5]")]


def test_a_frame_that_cannot_be_decoded_ends_the_samples_of_its_book():
    one = Sampled()
    one.book(100, 1, whole=True)
    one.book(100, 1, "5", one.b, whole=True)
    one.assembler.lost(b'{"topic":"orderbook.50.%s","data":{"s":"%s' % ((one.a.encode(),) * 2), AT_US * 1000)
    one.other(1000)
    assert one.samples() == [(one.b, 1000, 93, "[5]")]


@pytest.mark.parametrize("name", ["bybit", "okx"])
@pytest.mark.parametrize("bad", ["1_0", "１", "1e-30", "100000000000000000000"])
def test_a_number_that_cannot_be_stored_is_refused_with_its_frame_not_with_the_sample(name, bad):
    """At the full second there is no frame to set aside: the run would end, and each one after it."""
    one = Sampled(name)
    one.book(100, 1, "1", whole=True)
    with pytest.raises(Undecodable):
        one.book(200, 2, bad, whole=True)
    one.book(300, 3, "3", whole=True)
    one.other(1000)
    assert one.samples() == [(one.a, 1000, 293, "[3]")]


@pytest.mark.parametrize("handover", [False, True])
def test_a_new_connection_samples_nothing_before_its_own_snapshot(handover):
    one = Sampled()
    one.book(100, 1, whole=True)
    one.connect(500, handover=handover)
    one.other(1000)
    one.book(1500, 2)
    one.other(2000)
    assert one.samples() == []
    one.book(2500, 1, whole=True)
    one.other(3000)
    assert one.samples() == [(one.a, 3000, 2493, "[1]")]


def test_a_crash_changes_nothing():
    one = Sampled()
    one.book(100, 1, whole=True)
    one.crash()
    one.book(900, 2)
    one.crash()
    one.other(1100)
    one.crash()
    one.other(1200)
    one.other(2000)
    one.crash()
    assert one.samples() == []  # they went with the acknowledgements
    one.other(3000)
    assert one.samples() == [(one.a, 3000, 893, "[2,1]")]


def test_a_clock_that_is_set_back_does_not_end_the_samples():
    market = Sampled()
    market.book(100, 1, whole=True)
    market.book(1200, 2)
    market.book(-3_600_000 + 100, 3)
    market.book(-3_600_000 + 1200, 4)
    received = [(row[1], row[3]) for row in market.samples()]
    assert received == [(-3_599_000, "[3,2,1]"), (1000, "[1]")]


def test_frames_that_were_held_back_are_no_clock_that_is_set_back():
    market = Sampled()
    market.book(100, 1, whole=True)
    market.book(30_200, 2)
    market.book(1200, 3)
    market.book(2200, 4)
    market.book(31_200, 5)
    assert [(row[1], row[3]) for row in market.samples()] == [(30_000, "[1]"), (31_000, "[4,3,2,1]")]


def test_any_interval_is_counted_from_the_full_minute():
    one = Sampled(interval_us=5 * SECOND_US)
    one.book(100, 1, whole=True)
    one.other(4999)
    one.other(5000)
    one.other(9999)
    assert one.samples() == [(one.a, 5000, 93, "[1]")]


def test_a_state_of_a_run_without_samples_serves_one_with_them():
    exchange = exchange_of("bybit", ("A",))
    state = Assembler(exchange).checkpoint()
    assert Assembler(exchange, book_interval_us=SECOND_US, state=state).checkpoint()["sampled"] == {
        "due_us": 0,
        "kept": {},
    }
    assert Sampler(SECOND_US).due_us == 0
