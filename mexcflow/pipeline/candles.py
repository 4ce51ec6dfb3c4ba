"""Candles: which of them are closed, also where the exchange does not say it.

A candle is closed when the exchange says so, when one that begins later comes, or when its interval is over
for `GRACE_US`. It is then given out once more, closed. A state machine; the receive times of frames are its
clock.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mexcflow.model import Candle

GRACE_US = 3_000_000
"""An exchange's last word on a candle comes within this time: 0.3 s were seen."""
_NEVER = 1 << 63
_UNITS_US = {"s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6, "w": 7 * 86_400 * 10**6}
_INTERVAL = re.compile(r"([0-9]+)([smhdw])").fullmatch


class Candles:
    """The newest candle of each symbol and interval; `due_us` is when the first of them is over."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._open: dict[tuple[str, str], Candle] = {}
        for candle in msgspec.convert(state.get("open", []), list[Candle]):
            self._open[candle.symbol, candle.interval] = candle
        self._ended: dict[tuple[str, str], int] = {
            (symbol, interval): open_us for symbol, interval, open_us in state.get("ended", [])
        }
        self._set_due()

    def take(self, candle: Candle) -> Iterator[Candle]:
        """Yield the rows that an update makes: the candle before it, closed, and this one."""
        key = (candle.symbol, candle.interval)
        before = self._open.get(key)
        if before is not None and candle.open_us > before.open_us:
            yield _closed(before)
        elif candle.open_us <= self._ended.get(key, -1) or (before and candle.open_us < before.open_us):
            yield _closed(candle)  # one that is over: the last word on it came late
            return
        candle.closed = bool(candle.closed)
        if candle.closed:
            self._open.pop(key, None)
            self._ended[key] = candle.open_us
        else:
            self._open[key] = candle
        self._set_due()
        yield candle

    def ended(self, received_us: int) -> Iterator[Candle]:
        """Yield, closed, the candles that are over by now."""
        for key, candle in list(self._open.items()):
            if _end_us(candle) <= received_us:
                del self._open[key]
                self._ended[key] = candle.open_us
                yield _closed(candle)
        self._set_due()

    def reset(self) -> None:
        """Forget those that are open: nobody was listening, so nobody knows how they ended."""
        self._open.clear()
        self._set_due()

    def _set_due(self) -> None:
        self.due_us = min(map(_end_us, self._open.values()), default=_NEVER)

    def checkpoint(self) -> dict[str, Any]:
        """Return a JSON-able state to go on from."""
        return {
            "open": msgspec.to_builtins(list(self._open.values())),
            "ended": [[*key, open_us] for key, open_us in self._ended.items()],
        }


def _closed(candle: Candle) -> Candle:
    candle.closed = True
    return candle


def _end_us(candle: Candle) -> int:
    match = _INTERVAL(candle.interval)
    length_us = int(match[1]) * _UNITS_US[match[2]] if match else _NEVER
    return candle.open_us + length_us + GRACE_US
