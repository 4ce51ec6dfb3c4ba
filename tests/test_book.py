"""A book built from snapshots and deltas against a plain dict of prices, whatever comes in whatever order."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.exchanges.book import Book
from mexcflow.model import BookUpdate, Undecodable

NUMBERS = st.integers(1, 12).map(Decimal)
Levels = list[tuple[str, str]]


def spellings(value: Decimal) -> st.SearchStrategy[str]:
    """The ways in which exchanges write one number."""
    return st.sampled_from([f"{value:f}", f"{value:.3f}", f"{value:.8f}", f"{value * 10:f}E-1"])


PRICES = NUMBERS.map(lambda n: n / 8).flatmap(spellings)
QUANTITIES = st.one_of(st.sampled_from(["0", "0.0", "0.00000000", "0E+3"]), NUMBERS.flatmap(spellings))
LEVELS = st.lists(st.tuples(PRICES, QUANTITIES), max_size=8)
UPDATES = st.lists(
    st.builds(BookUpdate, st.just("X"), st.just(0), st.sampled_from([True, False, False]), LEVELS, LEVELS),
    max_size=8,
)


class Model:
    """The same in the plainest way."""

    def __init__(self, levels: int) -> None:
        self.cut = levels
        self.sides: list[dict[Decimal, tuple[str, str]]] = [{}, {}]

    def apply(self, update: BookUpdate) -> None:
        for at, changes in enumerate((update.bids, update.asks)):
            side = {} if update.is_snapshot else dict(self.sides[at])
            side |= {Decimal(price): (price, quantity) for price, quantity in changes}
            side = {price: level for price, level in side.items() if Decimal(level[1])}
            best_first = sorted(side, reverse=at == 0)
            self.sides[at] = {price: side[price] for price in best_first[: self.cut or None]}

    def best(self, at: int) -> Decimal | None:
        return next(iter(self.sides[at]), None)


@settings(max_examples=80, deadline=None)
@given(UPDATES, st.sampled_from([0, 1, 3, 25]), st.integers(0, 5))
def test_the_book_is_at_every_step_what_a_dict_says(updates, kept, wanted):
    book, model = Book(kept), Model(kept)
    for update in updates:
        book.apply(update)
        model.apply(update)
        for at, side in enumerate((book.bids, book.asks)):
            expected = list(model.sides[at].values())
            assert side.top(len(expected) + 1) == expected
            assert side.top(wanted) == expected[:wanted]
            assert len(side) == len(expected)
            assert side.best == model.best(at)
        bid, ask = model.best(0), model.best(1)
        assert book.crossed == (bid is not None and ask is not None and bid >= ask)


@settings(max_examples=30, deadline=None)
@given(UPDATES, UPDATES, st.sampled_from([0, 1, 3]))
def test_another_book_goes_on_from_a_checkpoint_as_if_nothing_had_happened(before, after, kept):
    book = Book(kept)
    for update in before:
        book.apply(update)
    state = json.loads(json.dumps(book.checkpoint(100)))
    restored = Book.restored(state, kept)
    for update in after:
        book.apply(update)
        restored.apply(update)
    assert restored.checkpoint(100) == book.checkpoint(100)


def update(bids: Levels, asks: Levels, *, snapshot: bool = False) -> BookUpdate:
    return BookUpdate("X", 0, snapshot, bids, asks)


def test_a_price_spelled_otherwise_is_the_same_level_with_the_newest_digits():
    book = Book()
    book.apply(update([("0.0801", "5")], [], snapshot=True))
    book.apply(update([("0.080100", "6.50")], []))
    assert book.bids.top(9) == [("0.080100", "6.50")]
    book.apply(update([("8.01E-2", "0.000")], []))
    assert book.bids.top(9) == []


def test_levels_below_the_cut_are_forgotten_until_they_are_sent_again():
    book = Book(2)
    book.apply(update([], [("3", "1"), ("1", "1"), ("2", "1")], snapshot=True))
    book.apply(update([], [("1", "0")]))
    assert book.asks.top(9) == [("2", "1")]
    book.apply(update([], [("3", "1")]))
    assert book.asks.top(9) == [("2", "1"), ("3", "1")]


def test_a_level_that_never_was_can_be_removed():
    book = Book()
    book.apply(update([("1", "1")], [], snapshot=True))
    book.apply(update([("2", "0")], [("2", "0.00")]))
    assert (book.bids.top(9), book.asks.top(9)) == ([("1", "1")], [])


@pytest.mark.parametrize("bad", ["", ".", "0.-10000", "NaN", "Infinity", "null", '"1"', "1,0"])
@pytest.mark.parametrize("snapshot", [True, False])
def test_what_is_no_number_is_refused_as_price_and_as_quantity(bad, snapshot):
    for level in ((bad, "1"), (bad, "0"), ("1", bad)):
        with pytest.raises(Undecodable):
            Book().apply(update([level], [], snapshot=snapshot))
        with pytest.raises(Undecodable):
            Book().apply(update([], [level], snapshot=snapshot))


def test_a_negative_quantity_is_refused():
    with pytest.raises(Undecodable, match="-1"):
        Book().apply(update([("1", "-1")], []))
