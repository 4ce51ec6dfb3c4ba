"""Sampler: the state of each book at full seconds (or whatever the interval is), in place of every change.

A sample is the book as it stood before the first frame that was received after the full second. Its row's
receive time is that second, its event time that of the book's last change. A state machine without clock.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mexcflow.exchanges.book import Level

Sides = tuple[Sequence[Level], Sequence[Level]]
_Kept = tuple[str, int, int, Sides]


class Sampler:
    """Keeps each symbol's newest whole book; `due_us` is when samples are next to be taken."""

    def __init__(self, interval_us: int, state: dict[str, Any] | None = None) -> None:
        self._interval_us = interval_us
        self._kept: dict[str, tuple[int, int, Sides]] = {}
        self.due_us = 0
        self.sampled_us = 0
        if state:
            self.due_us = state["due_us"]
            for symbol, (time_us, sequence, (bids, asks)) in state["kept"].items():
                self._kept[symbol] = (time_us, sequence, (_levels(bids), _levels(asks)))

    def put(self, symbol: str, time_us: int, sequence: int, sides: Sides) -> None:
        """Take a book's newest state."""
        self._kept[symbol] = (time_us, sequence, sides)

    def forget(self, symbol: str) -> None:
        """Take it that a book is not whole any more."""
        self._kept.pop(symbol, None)

    def reset(self) -> None:
        """Forget every book."""
        self._kept.clear()

    def take(self, received_us: int) -> Iterator[_Kept]:
        """Yield symbol, event time, sequence and levels of each book as of `sampled_us`."""
        self.sampled_us = received_us - received_us % self._interval_us
        self.due_us = self.sampled_us + self._interval_us
        for symbol, (time_us, sequence, sides) in self._kept.items():
            yield symbol, time_us, sequence, sides

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from."""
        return {"due_us": self.due_us, "kept": self._kept}


def _levels(kept: Sequence[Sequence[str]]) -> list[Level]:
    return [(price, quantity) for price, quantity in kept]
