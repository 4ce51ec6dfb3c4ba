"""Route: opens an instance's lines, through its proxies one after another, or directly if it has none.

`Pool` decides which is next. Here are the clock, the log lines, and what an error says of a proxy:

- `ProxyRefused`: not let in. On to the next one at once; at the first connection of a run it is for good
  when no proxy lets us in.
- `Banned`, `BannedByProxy`: paused, on to the next one at once.
- `ConnectionLost` before any market data came: on to the next one after the ordinary wait.
- `ConnectionLost` after market data: the same proxy again, unless its lines are cut again and again.
"""

import logging
from collections.abc import Callable, Sequence

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, ProxyRefused
from mexcflow.pipeline.address import redacted
from mexcflow.pipeline.connect import Line
from mexcflow.pipeline.pool import Next, Pool

logger = logging.getLogger(__name__)


class Route:
    """The ways of one instance; `open_line` is given the proxy, "" for none."""

    def __init__(
        self,
        open_line: Callable[[str], Line],
        proxies: Sequence[str] = (),
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._open_line = open_line
        self._pool = Pool(proxies)
        self._clock = clock
        self._refused: dict[int, ProxyRefused] = {}
        self._let_in = not proxies
        self._logged = ""
        self.in_use = ""
        """The proxy of the last attempt, without user and password; "" for a direct line."""

    def open(self) -> Line:
        """Open a line through the proxy whose turn it is; what it raises belongs into `failed`."""
        proxy = self._pool.choose(self._clock.monotonic())
        if proxy is None:
            raise ConnectionLost("every proxy is paused")
        self.in_use = redacted(proxy)
        if proxy and (name := self._name()) != self._logged:
            self._logged = name
            logger.info("connecting through proxy %s", name)
        line = self._open_line(proxy)
        self._let_in = True
        return line

    def failed(self, lost: ConnectionLost | ProxyRefused, *, lived_s: float | None = None) -> Next:
        """Say how to go on after a line that could not be opened or is lost.

        `lived_s` is how long the line lived, if market data came. Raises `ProxyRefused` when no proxy lets
        us in at the first connection of the run.
        """
        now = self._clock.monotonic()
        if isinstance(lost, Banned | BannedByProxy):
            self._note_refusal(lost)
            self._pause(lost, now)
        elif isinstance(lost, ProxyRefused):
            self._note_refusal(lost)
            self._pool.failed()
        else:
            self._let_in = True
            if lived_s is None:
                self._pool.failed()
            else:
                self._pool.lost(lived_s)
            return Next(at_once=False, pause_s=self._pool.next(now).pause_s)
        following = self._pool.next(now)
        if following.pause_s and len(self._pool) > 1:
            logger.warning("every proxy is paused; the first is free in %.0f s", following.pause_s)
        return following

    def _pause(self, lost: Banned | BannedByProxy, now: float) -> None:
        name = self._name()
        seconds = self._pool.banned(now, lost.retry_after_s)
        if self.in_use:
            logger.warning("proxy %s is banned: paused for %.0f s", name, seconds)
        else:
            logger.warning("this address is banned: no attempt for %.0f s", seconds)

    def _note_refusal(self, lost: ConnectionLost | ProxyRefused) -> None:
        if self._let_in or not isinstance(lost, ProxyRefused):
            self._let_in = True
            return
        self._refused[self._pool.at] = lost
        if len(self._refused) < len(self._pool):
            return
        if len(self._pool) == 1:
            raise lost
        said = "; ".join(one.what for _, one in sorted(self._refused.items()))
        raise ProxyRefused(f"none of the {len(self._pool)} proxies lets us in: {said}", hint=lost.hint)

    def _name(self) -> str:
        """Return the proxy for the log: several may have the same address and other passwords."""
        several = len(self._pool) > 1
        return f"{self.in_use} ({self._pool.at + 1} of {len(self._pool)})" if several else self.in_use
