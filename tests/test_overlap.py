"""Two connections that stood at the same time: each state of a book is told once, and none is left out."""

import json

import pytest

from mexcflow.exchanges import TYPED
from mexcflow.model import BookUpdate, Wanted
from mexcflow.pipeline.books import Books
from mexcflow.pipeline.overlap import Overlap

UNTIL_US = 2_000_000_000_000_000
AT_US = UNTIL_US - 5_000_000


def update(number: int, *, numbered: bool, at_us: int | None = None, is_snapshot: bool = False) -> BookUpdate:
    """State n of the book: its best bid is n."""
    at_us = AT_US + number * 1000 if at_us is None else at_us
    return BookUpdate(
        "BTCUSDT", at_us, is_snapshot, [(str(number), "1")], [("900", "1")], number if numbered else None
    )


def taken_over(last: BookUpdate) -> Overlap:
    """The overlap after this update came last over the old connection, and a restart."""
    overlap, books = Overlap(), Books(TYPED["bybit"](Wanted(symbols=("BTCUSDT",), channels=("book",))))
    last.is_snapshot = True
    books.take(last)
    assert not overlap.is_known(last, books.top("BTCUSDT"), AT_US)
    overlap.begin(books, UNTIL_US)
    return Overlap(json.loads(json.dumps(overlap.checkpoint())))


def known(overlap: Overlap, one: BookUpdate, received_us: int = AT_US) -> bool:
    return overlap.is_known(one, (one.bids, one.asks), received_us)


@pytest.mark.parametrize("numbered", [True, False])
def test_what_the_old_one_brought_is_known_and_what_is_later_is_not(numbered):
    overlap = taken_over(update(5, numbered=numbered))
    assert [known(overlap, update(n, numbered=numbered)) for n in (3, 4, 5, 6, 7)] == [True] * 3 + [False] * 2


def test_of_two_states_of_one_time_without_numbers_the_one_that_was_not_brought_is_new():
    overlap = taken_over(update(5, numbered=False))
    assert known(overlap, update(5, numbered=False))
    assert not known(overlap, update(6, numbered=False, at_us=AT_US + 5000))
    assert not known(overlap, update(7, numbered=False, at_us=AT_US + 5000))


def test_of_two_states_of_one_time_with_numbers_the_later_one_is_new():
    overlap = taken_over(update(5, numbered=True))
    assert not known(overlap, update(6, numbered=True, at_us=AT_US + 5000))


def test_it_ends_with_its_time_and_with_a_connection_that_takes_over_from_none():
    overlap = taken_over(update(5, numbered=True))
    assert not known(overlap, update(4, numbered=True), UNTIL_US)
    overlap = taken_over(update(5, numbered=True))
    overlap.reset()
    assert not known(overlap, update(4, numbered=True))
