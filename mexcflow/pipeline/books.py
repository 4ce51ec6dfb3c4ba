"""Books: each symbol's book as its updates leave it, and whether it is whole.

A book that is built from deltas is whole from its snapshot until the exchange's own rule finds that
something is missing; then it is broken until the next snapshot, and no row of it is stored. The receive
thread follows books as well, so that it can ask for a new snapshot the moment one breaks.

A state machine without I/O or clock.
"""

from decimal import Decimal
from enum import Enum
from typing import Any

from mexcflow.exchanges import TypedExchange
from mexcflow.exchanges.book import Book, Level, Side
from mexcflow.model import BookUpdate

_KEPT_LEVELS = 400
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
            if "bids" in kept:
                book = self._books[symbol] = Book.restored(kept, exchange.book_levels)
                if exchange.book_levels == 0:
                    self._edges[symbol] = (_edge(book.bids), _edge(book.asks))

    def reset(self) -> None:
        """Forget every book: a new connection begins with a snapshot."""
        self._books.clear()
        self._last.clear()
        self._edges.clear()

    def lose(self, symbol: str) -> bool:
        """Take it that something of this book was lost; False when it was not whole anyhow."""
        return self._books.pop(symbol, None) is not None

    def take(self, update: BookUpdate) -> Standing:
        """Apply an update, of an exchange whose books are built from deltas."""
        symbol = update.symbol
        book = self._books.get(symbol)
        self.reason = ""
        if update.is_snapshot:
            book = self._books[symbol] = Book(self._exchange.book_levels)
            self._edges.pop(symbol, None)
            self._last[symbol] = None
        elif book is None:
            return Standing.WAITING
        try:
            book.apply(update)
        except ValueError:
            self.lose(symbol)
            raise
        self.reason = self._exchange.check_book(book, self._last.get(symbol), update)
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
        """Return a JSON-able state to go on from."""
        levels = self._exchange.book_levels or _KEPT_LEVELS
        return {
            symbol: {"last": self._last.get(symbol), **book.checkpoint(levels)}
            for symbol, book in self._books.items()
        }

    def _beyond_edge(self, symbol: str, book: Book) -> bool:
        """Say whether what would be stored reaches beyond the levels known since a restart."""
        bid_edge, ask_edge = self._edges[symbol]
        depth = self._exchange.book_depth
        bid, ask = _edge(book.bids, depth), _edge(book.asks, depth)
        below = bid_edge is not None and (bid is None or bid < bid_edge)
        above = ask_edge is not None and (ask is None or ask > ask_edge)
        return below or above


def _edge(side: Side, levels: int = 0) -> Decimal | None:
    """Return the worst price of a side, or of its best `levels`; None for a side with fewer than these."""
    kept = side.top(levels or len(side))
    if not kept or len(kept) < levels:
        return None
    return Decimal(kept[-1][0])
