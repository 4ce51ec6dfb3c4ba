"""Sampler: the state of each book at full seconds (or whatever the interval is), in place of every change.

A sample is the book as it stood before the first frame that was received after the full second. Its row's
receive time is that second, its event time that of the book's last change. What is kept of a book is the text
of its row: a number that cannot be stored is found when its frame is taken, not when a sample is.
A state machine without clock.
"""

from collections.abc import Iterator
from typing import Any

_SET_BACK_US = 60_000_000
"""Frames that were held back while a connection took over are older than those before, by less than this."""


class Sampler:
    """Keeps each symbol's newest whole book; `due_us` is when samples are next to be taken."""

    def __init__(self, interval_us: int, state: dict[str, Any] | None = None) -> None:
        self._interval_us = interval_us
        self._kept: dict[str, tuple[str, str]] = {}
        self.due_us = 0
        if state:
            self.due_us = state["due_us"]
            self._kept = {symbol: (time, book) for symbol, (time, book) in state["kept"].items()}

    def put(self, symbol: str, time: str, book: str) -> None:
        """Take a book's newest state: its event time, and the fields behind the receive time."""
        self._kept[symbol] = (time, book)

    def rewind(self, received_us: int) -> None:
        """Sample from then on if the clock was set back: else nothing would be until it has caught up."""
        if received_us < self.due_us - self._interval_us - _SET_BACK_US:
            self.due_us = received_us - received_us % self._interval_us + self._interval_us

    def forget(self, symbol: str) -> None:
        """Take it that a book is not whole any more."""
        self._kept.pop(symbol, None)

    def reset(self) -> None:
        """Forget every book."""
        self._kept.clear()

    def begin(self, received_us: int) -> int:
        """Return the full second (Unix µs) that `kept` are the samples of."""
        sampled_us = received_us - received_us % self._interval_us
        self.due_us = sampled_us + self._interval_us
        return sampled_us

    def kept(self) -> Iterator[tuple[str, str, str]]:
        """Yield symbol, event time and state of each book."""
        for symbol, (time, book) in self._kept.items():
            yield symbol, time, book

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from."""
        return {"due_us": self.due_us, "kept": dict(self._kept)}
