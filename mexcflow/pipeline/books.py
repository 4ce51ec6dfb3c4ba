"""Books: each symbol's book as its updates leave it, and whether it is whole.

A book that is built from deltas is whole from its snapshot until the exchange's own rule finds that
something is missing; then it is broken until the next snapshot, and no row of it is stored. The receive
thread follows books as well, so that it can ask for a new snapshot the moment one breaks.

A state machine without I/O or clock.
"""

from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from typing import Any

from mexcflow.exchanges import TypedExchange
from mexcflow.exchanges.book import Book, Level, Side
from mexcflow.model import BookUpdate

_KEPT_LEVELS = 100
"""Levels a side that a checkpoint holds of a book that has all: thousands would be half a megabyte."""


class Standing(Enum):
    """What an update made of its book."""

    WHOLE = "whole"
    BROKEN = "broken"  # this update showed it
    WAITING = "waiting"  # for a snapshot


class Books:
    """The books of one connection; `state` is an earlier `checkpoint`.

    `reason` says after `take` what was found missing, "" for nothing.
    """

    def __init__(self, exchange: TypedExchange, state: dict[str, Any] | None = None) -> None:
        self._exchange = exchange
        self._books: dict[str, Book] = {}
        self._last: dict[str, int | None] = {}
        self._edges: dict[str, tuple[Decimal | None, Decimal | None]] = {}
        self.reason = ""
        for symbol, kept in (state or {}).items():
            self._last[symbol] = kept["last"]
            self._books[symbol] = Book.restored(kept, exchange.book_levels)
            if kept["edges"] != [None, None]:
                bid, ask = kept["edges"]
                self._edges[symbol] = (bid and Decimal(bid), ask and Decimal(ask))

    def reset(self) -> None:
        """Forget every book: a new connection begins with a snapshot."""
        self._books.clear()
        self._last.clear()
        self._edges.clear()

    def lose(self, symbol: str) -> bool:
        """Take it that something of this book was lost; False when it was not whole anyhow."""
        return self._books.pop(symbol, None) is not None

    def take(self, update: BookUpdate) -> Standing:
        """Apply an update, of an exchange whose books are built from deltas.

        Raises `Undecodable` for a number that cannot be stored: the caller has to `lose` the book then.
        """
        symbol = update.symbol
        book = self._books.get(symbol)
        last = self._last.get(symbol)
        self.reason = ""
        if update.is_snapshot:
            book, last = Book(self._exchange.book_levels), None
        elif book is None:
            return Standing.WAITING
        book.apply(update)
        if update.is_snapshot:
            self._books[symbol] = book
            self._edges.pop(symbol, None)
        self.reason = self._exchange.check_book(book, last, update)
        if not self.reason and symbol in self._edges and self._beyond_edge(symbol, book):
            self.reason = "levels beyond those that were kept over a restart"
        if self.reason:
            self.lose(symbol)
            return Standing.BROKEN
        self._last[symbol] = update.sequence
        return Standing.WHOLE

    def top(self, symbol: str) -> tuple[list[Level], list[Level]] | None:
        """Return the best bids and asks, as many as are stored; None for a book that is not whole."""
        book = self._books.get(symbol)
        if book is None:
            return None
        depth = self._exchange.book_depth
        return book.bids.top(depth), book.asks.top(depth)

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from.

        `edges`: the worst bid and ask up to which all levels are in it; None where it has the whole side.
        """
        levels = self._exchange.book_levels or _KEPT_LEVELS
        return {
            symbol: {
                "last": self._last.get(symbol),
                **book.checkpoint(levels),
                "edges": self._edges_of(symbol, book, levels),
            }
            for symbol, book in self._books.items()
        }

    def _edges_of(self, symbol: str, book: Book, levels: int) -> list[str | None]:
        if self._exchange.book_levels:  # what is beyond them is known to nobody
            return [None, None]
        bid, ask = self._edges.get(symbol, (None, None))
        if len(book.bids) > levels and (cut := _edge(book.bids, levels)) is not None:
            bid = cut if bid is None else max(bid, cut)
        if len(book.asks) > levels and (cut := _edge(book.asks, levels)) is not None:
            ask = cut if ask is None else min(ask, cut)
        return [None if bid is None else str(bid), None if ask is None else str(ask)]

    def _beyond_edge(self, symbol: str, book: Book) -> bool:
        """Say whether what would be stored reaches beyond the levels known since a restart."""
        bid_edge, ask_edge = self._edges[symbol]
        depth = self._exchange.book_depth
        bid, ask = _edge(book.bids, depth), _edge(book.asks, depth)
        below = bid_edge is not None and (bid is None or bid < bid_edge)
        above = ask_edge is not None and (ask is None or ask > ask_edge)
        return below or above


def _edge(side: Side, levels: int) -> Decimal | None:
    """Return the worst price of a side's best `levels`; None for a side with fewer than these."""
    kept = side.top(levels)
    return Decimal(kept[-1][0]) if len(kept) == levels else None


def named_in(payload: bytes, symbols: Iterable[str]) -> list[str]:
    """Return the symbols that a frame which cannot be decoded may be about: all of them if it names none.

    A name in quotes is the whole of it: BTCUSDT is also a part of 1000BTCUSDT.
    """
    known = [(symbol, symbol.encode()) for symbol in symbols]
    for form in (b'"%b"', b"%b"):
        if named := [symbol for symbol, name in known if form % name in payload]:
            return named
    return [symbol for symbol, _ in known]
