"""Books of a connection: what is whole, what is broken, what a checkpoint of a deep book still knows."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges import TYPED
from mexcflow.exchanges.book import Book
from mexcflow.model import BookUpdate, Undecodable, Wanted
from mexcflow.pipeline import books
from mexcflow.pipeline.books import Books, Standing, named_in

WHOLE, BROKEN, WAITING = Standing.WHOLE, Standing.BROKEN, Standing.WAITING


def deep() -> Books:
    """Coinbase's: all levels, no numbers."""
    return Books(TYPED["coinbase"](Wanted(symbols=("A", "B"), channels=("book",))))


def numbered() -> Books:
    """Bybit's: 50 levels, numbers that rise by one."""
    return Books(TYPED["bybit"](Wanted(symbols=("A", "B"), channels=("book",))))


def restored(kept: Books) -> Books:
    """What another process makes of the journal's JSON."""
    return Books(kept._exchange, json.loads(json.dumps(kept.checkpoint())))


def update(symbol, sequence, bids=(), asks=(), *, snapshot=False) -> BookUpdate:
    return BookUpdate(symbol, 0, snapshot, list(bids), list(asks), sequence)


def snapshot(symbol, sequence=None, bids=(("10", "1"),), asks=(("11", "1"),)) -> BookUpdate:
    return update(symbol, sequence, bids, asks, snapshot=True)


def test_a_missing_number_breaks_the_book_until_its_next_snapshot_and_no_other():
    kept = numbered()
    assert [kept.take(snapshot(symbol, 7)) for symbol in "AB"] == [WHOLE, WHOLE]
    assert kept.take(update("A", 9)) is BROKEN
    assert kept.reason == "gap: u 9 after 7"
    assert kept.take(update("A", 10)) is WAITING
    assert (kept.reason, kept.top("A")) == ("", None)
    assert kept.take(update("B", 8)) is WHOLE
    assert kept.take(snapshot("A", 30)) is WHOLE
    assert kept.take(update("A", 31, [("10", "2")])) is WHOLE
    assert kept.top("A") == ([("10", "2")], [("11", "1")])


def test_a_change_before_any_snapshot_waits_and_a_lost_book_waits_too():
    kept = numbered()
    assert kept.take(update("A", 1)) is WAITING
    assert kept.lose("A") is False
    kept.take(snapshot("A", 1))
    assert kept.lose("A") is True
    assert restored(kept).take(update("A", 2)) is WAITING
    assert kept.take(update("A", 2)) is WAITING


def test_a_snapshot_that_cannot_be_read_leaves_the_book_to_the_caller():
    kept = numbered()
    with pytest.raises(Undecodable):
        kept.take(snapshot("A", 1, [("1_0", "1")]))
    assert kept.lose("A") is False
    kept.take(snapshot("A", 1))
    with pytest.raises(Undecodable):
        kept.take(snapshot("A", 2, [("1_0", "1")]))
    assert kept.lose("A") is True


@pytest.mark.parametrize(
    "bad",
    ["1_0", " 1", "1 ", "+1", "１", "1e-19", "1E+20", "1e999999999999", "0x1", "1.", ".5", "1,2", "NaN",
     "-inf", "100000000000000000000", "0.1234567890123456789"],
)  # fmt: skip
def test_a_number_that_no_column_takes_is_refused_at_once_however_deep_its_level(bad):
    levels = [(str(price), "1") for price in range(900, 0, -1)]
    kept = deep()
    kept.take(snapshot("A", None, levels, []))
    for change in ((bad, "1"), ("5", bad)):
        with pytest.raises(Undecodable):
            kept.take(update("A", None, [change]))
        with pytest.raises(Undecodable):
            kept.take(update("A", None, [], [change]))


def test_prices_that_differ_in_their_last_digit_are_two_levels_also_among_bids():
    """38 digits: the default of decimals is to round to 28."""
    low, high = "12345678901234567890.000000000000000001", "12345678901234567890.000000000000000002"
    book = Book()
    book.apply(snapshot("A", None, [(low, "1"), (high, "2")], []))
    assert book.bids.top(3) == [(high, "2"), (low, "1")]
    assert book.bids.best == Decimal(high)


# a book that is deeper than what a checkpoint keeps of it

PRICES = st.integers(1, 30)
SIZES = st.sampled_from(["0", "0", "1", "2"])
CHANGES = st.lists(st.tuples(PRICES, SIZES), max_size=4)
STEPS = st.lists(st.tuples(CHANGES, CHANGES, st.booleans()), max_size=25)


def prices(side: list[tuple[int, str]], plus: int = 0) -> list[tuple[str, str]]:
    return [(str(price + plus), size) for price, size in side]


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([3, 8, 60]))
def test_after_any_number_of_crashes_what_is_given_out_is_what_the_exchange_has(steps, kept_levels):
    """A depth of three, of at most 30 levels a side, of which a checkpoint keeps few; asks are above bids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "_KEPT_LEVELS", kept_levels)
        patch.setattr(TYPED["coinbase"], "book_depth", 3)
        truth, kept = Book(), deep()
        first = snapshot("A", None, prices([(n, "1") for n in range(1, 31)]),
                         prices([(n, "1") for n in range(1, 31)], 100))  # fmt: skip
        truth.apply(first)
        kept.take(first)
        for bids, asks, crash in steps:
            if crash:
                kept = restored(kept)
            change = update("A", None, prices(bids), prices(asks, 100))
            truth.apply(change)
            standing = kept.take(change)
            expected = truth.bids.top(3), truth.asks.top(3)
            assert kept.top("A") in (expected, None)
            if kept_levels >= 30:
                assert standing is WHOLE
            assert (standing is WHOLE) == (kept.top("A") is not None)


def test_a_deep_book_keeps_100_levels_a_side_over_a_restart_and_is_broken_when_these_do_not_do():
    levels = [(str(price), "1") for price in range(5000, 0, -1)]
    kept = deep()
    kept.take(snapshot("A", None, levels, [("6000", "1")]))
    state = kept.checkpoint()
    assert len(state["A"]["bids"]) == 100
    assert len(json.dumps(state)) < 10_000
    again = restored(kept)
    gone = [(str(price), "0") for price in range(5000, 4920, -1)]
    assert again.take(update("A", None, gone)) is WHOLE
    assert again.top("A") == kept_top(kept, gone)
    assert again.take(update("A", None, [("4920", "0"), ("4", "1")])) is BROKEN
    assert again.reason == "levels beyond those that were kept over a restart"


def kept_top(kept: Books, gone: list[tuple[str, str]]) -> object:
    kept.take(update("A", None, gone))
    return kept.top("A")


@pytest.mark.parametrize("is_bid", [True, False])
def test_levels_that_came_after_a_restart_do_not_move_the_edge_of_what_is_known(is_bid):
    """Between those kept and those that are new there may be others, which nobody has told us of."""

    def side(*levels: tuple[int, str], snapshot: bool = False) -> BookUpdate:
        spelled = [(str(price if is_bid else 6000 - price), size) for price, size in levels]
        return update("A", None, spelled if is_bid else [], [] if is_bid else spelled, snapshot=snapshot)

    kept = deep()
    kept.take(side(*((price, "1") for price in range(1000, 0, -1)), snapshot=True))  # 1000 .. 901 are kept
    kept = restored(kept)
    assert kept.take(side((901, "0"), (3, "1"), (2, "1"))) is WHOLE
    kept = restored(kept)
    assert kept.take(side(*((price, "0") for price in range(1000, 921, -1)))) is WHOLE  # 20 are left
    assert kept.take(side((921, "0"))) is BROKEN  # what comes next was 900


def test_a_thin_book_is_whole_after_a_restart():
    """It has fewer levels than are stored, and a checkpoint has them all."""
    kept = deep()
    kept.take(snapshot("A", None, [("10", "1"), ("9", "1")], []))
    again = restored(restored(kept))
    assert again.take(update("A", None, [("8", "1"), ("10", "0")], [("12", "1")])) is WHOLE
    assert again.top("A") == ([("9", "1"), ("8", "1")], [("12", "1")])


def test_a_reconnect_forgets_all_books():
    kept = numbered()
    kept.take(snapshot("A", 1))
    kept.reset()
    assert kept.take(update("A", 2)) is WAITING
    assert kept.checkpoint() == {}


def test_a_frame_is_about_the_symbol_that_it_names_in_quotes():
    symbols = ("PEPEUSDT", "1000PEPEUSDT", "X")
    assert named_in(b'{"topic":"orderbook.50.1000PEPEUSDT","s":"1000PEPEUSDT",,', symbols) == ["1000PEPEUSDT"]
    assert named_in(b'{"topic":"orderbook.50.1000PEPEUSDT","s":"1000PE', symbols) == [*symbols[:2]]
    assert named_in(b'{"topic":"orderbook.50.', symbols) == [*symbols]
