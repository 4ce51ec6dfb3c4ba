"""Overlap: which states of books a connection had brought when another one took over.

Both stood for a while, so the new one begins with states that the old one has brought as well. They are
known by event time and sequence, which are the same over both. A state machine without I/O or clock.
"""

from collections.abc import Sequence
from typing import Any

from mexcflow.exchanges.book import Level
from mexcflow.model import BookUpdate
from mexcflow.pipeline.books import Books

Sides = tuple[Sequence[Level], Sequence[Level]]


class Overlap:
    """Of books that are built from deltas; `state` is an earlier `checkpoint`."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._newest: dict[str, list[int]] = dict(state.get("newest", {}))
        self._known: dict[str, list[Any]] = dict(state.get("known", {}))
        self._until_us: int = state.get("until_us", 0)

    def reset(self) -> None:
        """Begin a connection that takes over from none."""
        self._newest.clear()
        self._known = {}

    def begin(self, books: Books, until_us: int) -> None:
        """Begin a connection that takes over; `books` are still those of the one before it."""
        tops = {symbol: books.top(symbol) for symbol in self._newest}
        self._known = {symbol: [*self._newest[symbol], _plain(top)] for symbol, top in tops.items() if top}
        self._until_us = until_us

    def is_known(self, update: BookUpdate, sides: Sides, received_us: int) -> bool:
        """Say whether the old connection has brought this state or a later one; if not, take note of it."""
        symbol, at = update.symbol, [update.time_us or received_us, update.sequence or 0]
        if self._known and received_us >= self._until_us:
            self._known = {}
        if symbol in self._known:
            *until, top = self._known[symbol]
            # without numbers two states may be of one time
            if at < until or (at == until and (update.sequence is not None or _plain(sides) == top)):
                return True
        self._newest[symbol] = at
        return False

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from."""
        return {"newest": dict(self._newest), "known": self._known, "until_us": self._until_us}


def _plain(sides: Sides) -> list[list[list[str]]]:
    """Return the levels as JSON has them."""
    return [[list(level) for level in side] for side in sides]
