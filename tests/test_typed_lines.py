"""Decode for typed tables: what a batch's frames are counted as, and the text of its rows."""

from collections import Counter

import pytest

from mexcflow.exchanges import TYPED
from mexcflow.model import Frame, Kind, Topic, Trade, TypedReading, Wanted
from mexcflow.pipeline.assemble import Assembler
from mexcflow.pipeline.sequence import Gap
from mexcflow.pipeline.typed_decode import Heard, TypedBatch, decode_typed
from mexcflow.store.market import BOOKS, TRADES

NS = 1_790_000_000_000_000_000


class Scripted:
    """An exchange whose frames are the numbers of the readings it was given."""

    name, whole_books, consecutive_trades, book_depth, book_levels = "scripted", True, False, 20, 0

    def __init__(self, *readings: TypedReading) -> None:
        self._readings = readings

    def topics(self) -> tuple[Topic, ...]:
        return (Topic("", "a", "trade", "A"), Topic("", "b", "trade", "B"))

    def read(self, payload: bytes) -> TypedReading:
        return self._readings[int(payload)]


def trade(symbol: str, number: str, time_us: int = NS // 1000) -> Trade:
    return Trade(symbol, time_us, number, "84500.1", "0.5", "0.5", "buy")


def decoded(*readings: TypedReading) -> TypedBatch:
    exchange = Scripted(*readings)
    frames = [Frame(NS + number * 1_000_000, b"%d" % number) for number in range(len(readings))]
    return decode_typed(exchange, frames, Assembler(exchange))


def test_frames_count_for_each_of_their_symbols() -> None:
    batch = decoded(
        TypedReading(Kind.DATA, "trade", (trade("A", "1"),)),
        TypedReading(Kind.DATA, "trade", (trade("A", "2"), trade("B", "3"), trade("A", "4"))),
        TypedReading(Kind.PONG),
        TypedReading(Kind.DATA, "trade", (trade("B", "5"), trade("B", "6"))),
        TypedReading(Kind.DATA, "trade", ()),
        TypedReading(Kind.DATA, "trade", (trade("A", "7"),)),
    )
    assert batch.heard == {
        "A": Heard({"trade": NS}, NS + 5_000_000, Counter(trade=3), Counter(trade=4)),
        "B": Heard({"trade": NS + 1_000_000}, NS + 3_000_000, Counter(trade=2), Counter(trade=3)),
    }
    assert batch.tally.messages == Counter(trade=5)
    assert (batch.tally.frames, batch.tally.rows, batch.tally.pongs) == (6, 7, 1)
    assert batch.tally.lags_ms == Counter({0: 1, 1: 1, 3: 1, 5: 1})
    assert batch.last_ns == NS + 5_000_000


def test_a_trade_id_that_is_no_number_is_one_field() -> None:
    batch = decoded(TypedReading(Kind.DATA, "trade", (trade("A", "a\tb\\c"), trade("A", "d-e"))))
    times = "1790000000.000000\t1790000000.000000"
    assert batch.rows.lines(TRADES) == [
        f"scripted\tA\t{times}\ta\\tb\\\\c\t84500.1\t0.5\t0.5\tbuy\n",
        f"scripted\tA\t{times}\td-e\t84500.1\t0.5\t0.5\tbuy\n",
    ]


def test_trades_that_are_missing_or_come_again_are_noticed() -> None:
    numbers = ("1", "2", "5", "5", "4", "6")
    exchange = Scripted(*(TypedReading(Kind.DATA, "trade", (trade("A", number),)) for number in numbers))
    exchange.consecutive_trades = True
    frames = [Frame(NS + number * 1_000_000, b"%d" % number) for number in range(len(numbers))]
    batch = decode_typed(exchange, frames, Assembler(exchange))
    assert [line.split("\t")[4] for line in batch.rows.lines(TRADES)] == list(numbers)
    assert batch.heard["A"].gaps == [
        Gap("trade", NS + 1_000_000, NS + 2_000_000, "2 trades missing: 5 after 2")
    ]
    assert batch.tally.duplicates == 2


def test_a_receive_time_that_no_table_takes_is_brought_within_bounds() -> None:
    exchange = Scripted(TypedReading(Kind.DATA, "trade", (trade("A", "1"),)))
    batch = decode_typed(exchange, [Frame(1000, b"0")], Assembler(exchange))
    assert batch.rows.lines(TRADES) == [
        "scripted\tA\t1790000000.000000\t1000000000.000000\t1\t84500.1\t0.5\t0.5\tbuy\n"
    ]


def book(bids: list[tuple[str, str]]) -> tuple[list[str], int]:
    """Return the fields of the bids in the row of a book, and the dead letters."""
    exchange = TYPED["binance"](Wanted(symbols=("BTCUSDT",), channels=("book",)))
    spelled = ",".join(f'["{price}","{quantity}"]' for price, quantity in bids)
    payload = (
        '{"stream":"btcusdt@depth20@100ms","data":{"e":"depthUpdate","E":1790000000000,"T":1790000000000,'
        f'"s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[{spelled}],"a":[]}}}}'
    )
    batch = decode_typed(exchange, [Frame(NS, payload.encode())], Assembler(exchange))
    return [line.split("\t")[5:7] for line in batch.rows.lines(BOOKS)][0:1], batch.tally.dead_letters


@pytest.mark.parametrize(
    ("level", "stored"),
    [
        (("84500.10", "0.500"), ("84500.10", "0.500")),
        (("84500", "2"), ("84500", "2")),
        (("7.548E+4", "1"), ("75480", "1")),
        (("0.000000000000000001", "1"), ("0.000000000000000001", "1")),
        (("12345678901234567890", "0.10"), ("12345678901234567890", "0.10")),
    ],
)
def test_a_level_keeps_its_digits(level: tuple[str, str], stored: tuple[str, str]) -> None:
    assert book([level, ("84500.1", "0.5")]) == ([[f"[{stored[0]},84500.1]", f"[{stored[1]},0.5]"]], 0)


@pytest.mark.parametrize(
    "number",
    [
        "1,2",
        "1]\\t[2",
        "",
        ".5",
        "5.",
        "1\\n",
        "1 ",
        "+1",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "nan",
        "1.0000000000000000001",
    ],
)
def test_a_level_that_is_no_number_makes_a_dead_letter(number: str) -> None:
    assert book([("84500.1", "0.5"), (number, "1")]) == ([], 1)
    assert book([("84500.1", "0.5"), ("84500", number)]) == ([], 1)
    assert book([(number, number)]) == ([], 1)
