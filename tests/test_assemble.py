"""The assembler: readings become rows as text, exactly these; what is missing is noted with its numbers."""

import json

import pytest

from mexcflow.model import BookUpdate, Candle, Kind, Ticker, Trade, TypedReading, Undecodable
from mexcflow.pipeline.assemble import Assembler
from mexcflow.store.market import BOOKS, CANDLES, TICKERS, TRADES
from tests.assembling import exchange_of

AT_US = 1_790_000_000_123_456
AT = "1790000000.123456"


class Assembling:
    """An assembler of an exchange for the symbols A and B, whose frames are handed over as readings."""

    def __init__(
        self, name: str, *, symbols: tuple[str, ...] = ("A", "B"), book_interval_us: int = 0
    ) -> None:
        self.exchange = exchange_of(name, symbols)
        self.interval_us = book_interval_us
        self.assembler = Assembler(self.exchange, book_interval_us=book_interval_us)
        self.connect()

    def connect(self, us: int = 0, *, handover: bool = False) -> None:
        self.assembler.connected((AT_US + us) * 1000, handover=handover)

    def crash(self) -> None:
        state = json.loads(json.dumps(self.assembler.checkpoint()))
        self.assembler = Assembler(self.exchange, book_interval_us=self.interval_us, state=state)

    def take(self, channel: str, *rows: object, us: int = 0) -> int:
        return self.assembler.take(TypedReading(Kind.DATA, channel, rows), (AT_US + us) * 1000)

    def lines(self, table) -> list[str]:
        """The rows since the last call, without what all of them begin with."""
        begins = f"{self.exchange.name}\t"
        return [line.removeprefix(begins) for line in self.assembler.taken()[0].lines(table)]

    def gaps(self) -> list[tuple[str, str, int, int, str]]:
        """Symbol, channel, from and to (µs after the beginning) and reason."""
        return [
            (symbol, gap.channel, gap.from_ns // 1000 - AT_US, gap.to_ns // 1000 - AT_US, gap.reason)
            for symbol, gap in self.assembler.taken()[1]
        ]


def trade(number: int | str, symbol: str = "A") -> Trade:
    return Trade(symbol, AT_US - 1, str(number), "84000.10", "2", "0.002", "sell")


def book(sequence: int | None, symbol: str = "A", **more: object) -> BookUpdate:
    return BookUpdate(symbol, AT_US - 1, True, [("10.0", "1"), ("9", "2")], [("11", "0.5")], sequence, **more)


# rows


def test_the_rows_of_every_channel_are_these():
    one = Assembling("okx")
    assert one.take("trade", trade("x\ty"), trade(2, "B")) == 2
    assert one.lines(TRADES) == [
        f"A\t1790000000.123455\t{AT}\tx\\ty\t84000.10\t2\t0.002\tsell\n",
        f"B\t1790000000.123455\t{AT}\t2\t84000.10\t2\t0.002\tsell\n",
    ]
    unknown = trade(3)
    unknown.base_quantity = None
    one.take("trade", unknown)
    assert one.lines(TRADES) == [f"A\t1790000000.123455\t{AT}\t3\t84000.10\t2\t\\N\tsell\n"]
    one.take("book", book(7))
    assert one.lines(BOOKS) == [f"A\t1790000000.123455\t{AT}\t7\t[10.0,9]\t[1,2]\t[11]\t[0.5]\n"]
    one.take("book", BookUpdate("A", 0, True, [], []))
    assert one.lines(BOOKS) == [f"A\t{AT}\t{AT}\t0\t[]\t[]\t[]\t[]\n"]
    candle = Candle("A", 0, "1m", AT_US - 123_456, "1", "2", "0.5", "1.5", None, "3", 4, True)
    one.take("candle", candle)
    assert one.lines(CANDLES) == [f"A\t1m\t1790000000.000\t1\t2\t0.5\t1.5\t\\N\t3\t4\ttrue\t{AT}\t{AT}\n"]


def test_only_as_many_levels_as_the_exchange_says_are_stored():
    one = Assembling("okx")
    levels = [(str(n), "1") for n in range(1, 9)]
    one.take("book", BookUpdate("A", AT_US, True, levels, levels))
    assert one.lines(BOOKS) == [f"A\t{AT}\t{AT}\t0\t" + "\t".join(["[1,2,3,4,5]", "[1,1,1,1,1]"] * 2) + "\n"]


def test_tickers_are_merged_within_one_connection_symbol_by_symbol_also_over_a_crash():
    one = Assembling("bybit")
    one.take("ticker", Ticker("A", AT_US, "1", "2", "3", "4", "0.0001", AT_US))
    one.take("ticker", Ticker("B", AT_US, mark="9"))
    one.crash()
    one.take("ticker", Ticker("A", 0, mark="2.5"))
    assert one.lines(TICKERS) == [f"A\t{AT}\t{AT}\t1\t2.5\t3\t4\t0.0001\t1790000000.123\n"]
    for handover in (False, True):
        one.take("ticker", Ticker("A", AT_US, "1"))
        one.lines(TICKERS)
        one.connect(handover=handover)
        one.take("ticker", Ticker("A", AT_US, index="7"))
        assert one.lines(TICKERS) == [f"A\t{AT}\t{AT}\t\\N\t\\N\t7\t\\N\t\\N\t\\N\n"]


# trades


def test_a_hole_in_consecutive_ids_is_noted_with_its_numbers_each_symbol_for_itself():
    one = Assembling("binance")
    one.take("trade", trade(5), trade(100, "B"), us=1)
    one.take("trade", trade(6), trade(9), us=2)
    one.take("trade", trade(101, "B"), us=3)
    one.take("trade", trade(10), trade(12), us=4)
    assert one.gaps() == [
        ("A", "trade", 2, 2, "2 trades missing: 9 after 6"),
        ("A", "trade", 4, 4, "1 trades missing: 12 after 10"),
    ]


def test_ids_that_begin_anew_are_noted_and_holes_behind_them_too():
    one = Assembling("coinbase")
    one.take("trade", trade(5_000_000_000), trade(7), trade(8), trade(10), us=1)
    assert one.gaps() == [
        ("A", "trade", 1, 1, "trade ids begin anew: 7 after 5000000000"),
        ("A", "trade", 1, 1, "1 trades missing: 10 after 8"),
    ]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("handover", [False, True])
def test_a_hole_across_a_reconnect_is_noted_and_replays_are_counted_and_stored(crash, handover):
    one = Assembling("kraken")
    one.take("trade", trade(5), trade(6), us=1)
    one.assembler.taken()
    one.connect(2, handover=handover)
    if crash:
        one.crash()
    assert one.take("trade", trade(4), trade(5), trade(6), us=3) == 3
    assert one.assembler.duplicates == 3
    assert [line.split("\t")[3] for line in one.lines(TRADES)] == ["4", "5", "6"]
    one.take("trade", trade(9), us=4)
    assert one.gaps() == [("A", "trade", 1, 4, "2 trades missing: 9 after 6")]


def test_ids_that_are_not_consecutive_say_nothing():
    one = Assembling("okx")
    one.take("trade", trade(5), trade(9), trade(2), trade("one"))
    assert (one.gaps(), one.assembler.duplicates) == ([], 0)


# books that come whole


def test_after_a_handover_a_whole_book_that_is_not_newer_is_dropped_for_ten_seconds():
    one = Assembling("okx")
    one.take("book", book(7))
    one.lines(BOOKS)
    one.connect(1_000_000, handover=True)
    one.crash()
    assert [one.take("book", book(n), us=us) for n, us in ((6, 1), (7, 2), (8, 3), (8, 10_999_999))] == [
        0, 0, 1, 0,
    ]  # fmt: skip
    assert (one.assembler.duplicates, one.gaps()) == (3, [])
    assert one.take("book", book(8), us=11_000_000) == 1
    assert one.gaps() == [("A", "book", 3, 11_000_000, "duplicate: sequence 8 after 8")]


def test_without_a_handover_it_is_stored_and_noted():
    one = Assembling("okx")
    assert [one.take("book", book(n), us=n) for n in (7, 7, 5, 6)] == [1, 1, 1, 1]
    assert one.gaps() == [
        ("A", "book", 7, 7, "duplicate: sequence 7 after 7"),
        ("A", "book", 7, 5, "backwards: sequence 5 after 7"),
    ]
    assert (one.assembler.duplicates, one.assembler.backwards) == (1, 1)
    one.connect(8)
    assert one.take("book", book(1), us=9) == 1
    assert one.gaps() == []


def test_the_exchanges_own_rule_is_asked_of_whole_books_and_they_are_stored_all_the_same():
    one = Assembling("binance")
    for sequence, previous in ((10, 9), (14, 10), (20, 17)):
        assert one.take("book", book(sequence, first=sequence, previous=previous), us=sequence) == 1
    assert one.gaps() == [("A", "book", 14, 20, "pu 17 after u 14")]


def test_a_change_where_every_frame_is_a_whole_book_is_refused():
    change = book(7)
    change.is_snapshot = False
    with pytest.raises(Undecodable, match="a change of the book of A"):
        Assembling("okx").take("book", change)


# books from changes


def delta(sequence: int, price: str = "10", symbol: str = "A") -> BookUpdate:
    return BookUpdate(symbol, AT_US, False, [(price, "3")], [], sequence)


def prices(one: Assembling) -> list[tuple[str, str]]:
    return [(line.split("\t")[0], line.split("\t")[4]) for line in one.lines(BOOKS)]


def test_a_gap_ends_a_books_rows_until_its_next_snapshot_is_noted_once_and_touches_no_other():
    one = Assembling("bybit")
    one.take("book", book(1), us=1)
    one.take("book", book(1, "B"), us=1)
    assert [one.take("book", delta(n), us=n) for n in (2, 4, 5)] == [1, 0, 0]
    one.take("book", delta(2, symbol="B"), us=6)
    one.take("book", book(9), us=7)
    blocks, gaps = one.assembler.taken()
    assert [line.split("\t")[1] for line in blocks.lines(BOOKS)] == ["A", "B", "A", "B", "A"]
    assert [(symbol, gap.reason) for symbol, gap in gaps] == [("A", "gap: u 4 after 2")]
    assert one.assembler.broken == 2


@pytest.mark.parametrize("bad", ["1_0", "１", "1e-30", "-"])
def test_a_change_with_a_bad_number_breaks_its_book_and_the_gap_is_noted(bad):
    one = Assembling("bybit")
    one.take("book", book(1), us=1)
    one.take("book", book(1, "B"), us=1)
    one.assembler.taken()
    with pytest.raises(Undecodable):
        one.take("book", delta(2, bad), us=2)
    assert len(one.assembler.gaps) == 1
    one.assembler.lost(b'{"topic":"orderbook.50.A","data":{"s":"A"}}', (AT_US + 2) * 1000)
    one.take("book", delta(3), us=3)
    one.take("book", delta(2, symbol="B"), us=3)
    assert one.assembler.gaps == [
        ("A", ("book", (AT_US + 1) * 1000, (AT_US + 2) * 1000, "a change of the book could not be decoded"))
    ]
    assert prices(one) == [("B", "[10,9]")]


def test_a_dead_letter_that_names_no_symbol_breaks_every_book_and_one_of_another_channel_none():
    one = Assembling("bybit")
    for symbol in "AB":
        one.take("book", book(1, symbol), us=1)
    one.assembler.taken()
    one.assembler.lost(b'{"topic":"publicTrade.A","data', AT_US * 1000)
    assert one.assembler.gaps == []
    one.assembler.lost(b'{"topic":"orderbook.50.', AT_US * 1000)
    assert [symbol for symbol, *_ in one.gaps()] == ["A", "B"]
