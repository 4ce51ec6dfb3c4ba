"""The books that an exchange has published: what a snapshot shows, and what changed since.

One for all clients, so a client that comes later gets the state that the next delta follows.
"""

from typing import NamedTuple

from mexcflow.simulator.book import Level
from mexcflow.simulator.market import Depth

GONE = 0
"""The quantity of a level that is no more."""

Change = tuple[int, int]
"""Price in ticks, new quantity in contracts; `GONE` removes the level."""


class Published(NamedTuple):
    """A book as clients have it. `number` counts its states from 1."""

    depth: Depth
    number: int


class Changes(NamedTuple):
    """What turns one state into the next; removed levels first, in no order that a client may rely on."""

    bids: tuple[Change, ...]
    asks: tuple[Change, ...]


class Books:
    """The latest state of each symbol, the one before, and the way from that."""

    def __init__(self) -> None:
        self._latest: dict[str, Published] = {}
        self._before: dict[str, Published] = {}

    def take(self, depth: Depth) -> None:
        """Publish a new state."""
        symbol = depth.contract.symbol
        latest = self._latest.get(symbol)
        if latest is not None:
            self._before[symbol] = latest
        self._latest[symbol] = Published(depth, 1 if latest is None else latest.number + 1)

    def latest(self, symbol: str) -> Published | None:
        """Return the last state, None before the first."""
        return self._latest.get(symbol)

    def before(self, symbol: str) -> Published | None:
        """Return the state before the last one, None if there was none."""
        return self._before.get(symbol)

    def changes(self, symbol: str, levels: int | None = None) -> Changes:
        """Return the way from the state before to the latest; from nothing if there was none.

        With `levels`: for clients that see so many a side and forget what lies beyond by themselves. A
        level that was pushed out of sight is then not removed, one that comes into sight is sent again.
        """
        latest, before = self._latest[symbol].depth, self._before.get(symbol)
        old = ((), ()) if before is None else (before.depth.bids, before.depth.asks)
        return Changes(_changes(old[0], latest.bids, levels), _changes(old[1], latest.asks, levels))


def _changes(old: tuple[Level, ...], new: tuple[Level, ...], levels: int | None) -> tuple[Change, ...]:
    had = {level.price_ticks: level.contracts for level in old[:levels]}
    has = {level.price_ticks: level.contracts for level in new[:levels]}
    there = has if levels is None else {level.price_ticks for level in new}
    gone = [(ticks, GONE) for ticks in had if ticks not in there]
    return (*gone, *((ticks, count) for ticks, count in has.items() if had.get(ticks) != count))
