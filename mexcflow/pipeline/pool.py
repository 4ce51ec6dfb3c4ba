"""Pool: which of an instance's proxies is next. A state machine without I/O or clock.

    in use ─ line lost after data ──────────▶ kept; at the third line in a row
       │                                      that lived less than a minute: the next one
       ├ failed (refused, or no data came) ─▶ the next one, round and round
       └ banned ────────────────────────────▶ paused, 10 min at first, twice as long
                                              each time; the next one

A ban that comes within a day of the end of the last pause is a repeated one. The direct line is a pool of
one, the proxy "": it is never one of several, for it would give the user's own address away.

Times are seconds of any steady clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mexcflow.pipeline.ban import pause_s

_FORGET_S = 86_400.0
_SHORT_S = 60.0
_SHORT_LINES = 3
DIRECT = ""


@dataclass
class _Way:
    proxy: str
    paused_until: float = -math.inf
    bans: int = 0
    short_lines: int = 0


@dataclass(frozen=True)
class Next:
    """What to do after a failure.

    `at_once`: there is a proxy that has not failed in this round. Otherwise the ordinary wait, and
    `pause_s` before it: 0, unless all are paused.
    """

    at_once: bool
    pause_s: float = 0.0


class Pool:
    """The proxies in the order they were given; without any, the direct line."""

    def __init__(self, proxies: Sequence[str]) -> None:
        self._ways = [_Way(proxy) for proxy in proxies or (DIRECT,)]
        self._at = 0
        self._failed: set[int] = set()

    def __len__(self) -> int:
        return len(self._ways)

    @property
    def at(self) -> int:
        """The number of the proxy in use, from 0."""
        return self._at

    def choose(self, now: float) -> str | None:
        """Return the proxy to use: the one in use, or the first after it that is not paused, or None."""
        for step in range(len(self._ways)):
            at = (self._at + step) % len(self._ways)
            if self._ways[at].paused_until <= now:
                self._at = at
                return self._ways[at].proxy
        return None

    def lost(self, lived_s: float) -> None:
        """Take note that a line is lost that data came through: a new round begins with the same proxy.

        A proxy that cuts line after line, or lets little through, is left.
        """
        self._failed.clear()
        way = self._ways[self._at]
        way.short_lines = way.short_lines + 1 if lived_s < _SHORT_S else 0
        if way.short_lines == _SHORT_LINES:
            way.short_lines = 0
            self.failed()

    def failed(self) -> None:
        """Take note that nothing came through the proxy in use: go on to the next."""
        self._failed.add(self._at)
        self._at = (self._at + 1) % len(self._ways)

    def banned(self, now: float, retry_after_s: float = 0.0) -> float:
        """Pause the proxy in use and go on to the next; return how long the pause is."""
        way = self._ways[self._at]
        way.bans = way.bans + 1 if now - way.paused_until < _FORGET_S else 1
        seconds = pause_s(way.bans, retry_after_s)
        way.paused_until = now + seconds
        self.failed()
        return seconds

    def next(self, now: float) -> Next:
        """Say whether to go on at once; if not, a new round begins after the wait."""
        free = {at for at, way in enumerate(self._ways) if way.paused_until <= now}
        if free - self._failed:
            self._skip_failed(free)
            return Next(at_once=True)
        self._failed.clear()
        if free:
            return Next(at_once=False)
        return Next(at_once=False, pause_s=min(way.paused_until for way in self._ways) - now)

    def _skip_failed(self, free: set[int]) -> None:
        while self._at not in free or self._at in self._failed:
            self._at = (self._at + 1) % len(self._ways)
