"""Poll: asks over REST for what no websocket brings, while a connection stands, in a thread of its own.

- Requests are spread over the interval, one at a time; a connection that comes back brings no burst.
- An answer goes into the journal as it came, as a frame like any other, with the time it was received at. It
  proves nothing of the connection: it is not kept without one, and does not count as a sign of life.
- Nothing that goes wrong here ends the run or holds up the receive thread. Ways are chosen as for the
  websocket (`pool.py`): a ban pauses a proxy, or the address, ten minutes at least and as long as it asks.
- An answer that is none, such as that to an unknown symbol, is that symbol's own: it is asked for again at
  intervals that double up to 64 times the usual one.
- What goes wrong is told when it begins, and when it is over.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, Permanent, ProxyRefused
from mexcflow.exchanges import Poll, TypedExchange
from mexcflow.journal import Journal
from mexcflow.pipeline.address import redacted
from mexcflow.pipeline.dial import way_to
from mexcflow.pipeline.pool import Pool
from mexcflow.pipeline.rest import fetch
from mexcflow.pipeline.session import Backoff
from mexcflow.pipeline.typed_decode import read_typed

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_MAX_BYTES = 65_536
_LOOK_S = 0.25
"""How often it is looked whether the connection stands, while it does not."""
_MOST_DOUBLINGS = 6
_OK, _SERVER_ERROR = 200, 500
_SAID_CHARS = 200


@dataclass
class _Asked:
    """One poll, when its turn is next (seconds of the clock), and how often in a row its answer was none."""

    poll: Poll
    due: float
    misses: int = 0


class Poller:
    """Asks for one connection's polls until it is stopped; `stands` says whether the connection does."""

    def __init__(
        self,
        exchange: TypedExchange,
        polls: Sequence[Poll],
        journal: Journal,
        stands: Callable[[], bool],
        proxies: Sequence[str] = (),
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._exchange = exchange
        self._journal = journal
        self._stands = stands
        self._pool = Pool(proxies)
        self._clock = clock
        self._stop = threading.Event()
        self._backoff = Backoff()
        self._troubled = False
        self._gap_s = 1 / sum(1 / poll.every_s for poll in polls)
        now = clock.monotonic()
        self._asked = [_Asked(poll, now + number * self._gap_s) for number, poll in enumerate(polls)]

    def stop(self) -> None:
        """End `run` soon, from any thread; an answer that is still awaited is not kept."""
        self._stop.set()

    def run(self) -> None:
        """Ask until stopped; raises only what the journal raises, which ends the receive thread as well."""
        wait_s = 0.0
        while not self._clock.wait(self._stop, wait_s):
            wait_s = self._turn() if self._stands() else _LOOK_S

    def _turn(self) -> float:
        """Ask for what is due, if anything is; returns how long to wait before the next turn."""
        asked = min(self._asked, key=lambda one: one.due)
        now = self._clock.monotonic()
        if asked.due > now:
            return asked.due - now
        proxy = self._pool.choose(now)
        if proxy is None:
            return self._pool.next(now).pause_s
        url = asked.poll.url
        try:
            answer = fetch(url, proxy=proxy, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
            if answer.status >= _SERVER_ERROR:
                raise ConnectionLost(f"{way_to(url, proxy)}: HTTP {answer.status}")  # noqa: TRY301
        except (ConnectionLost, ProxyRefused) as error:
            return self._failed(error)
        except Permanent as error:  # an answer without end
            self._through()
            return self._missed(asked, error.what)
        received_ns = self._clock.time_ns()
        self._through()
        if answer.status != _OK:
            return self._missed(asked, f"HTTP {answer.status}: {_shown(answer.body)}")
        return self._take(asked, answer.body, received_ns)

    def _take(self, asked: _Asked, body: bytes, received_ns: int) -> float:
        """Keep an answer if it is one."""
        reading = read_typed(self._exchange, body)
        symbol = asked.poll.symbol
        if not reading.polled or any(row.symbol != symbol for row in reading.rows):
            return self._missed(asked, f"{reading.text or 'not what was asked for'}: {_shown(body)}")
        if not self._stop.is_set():
            self._journal.append(received_ns, [body], beside=True)
        if asked.misses:
            asked.misses = 0
            logger.info("polling %s: %s is answered again", symbol, redacted(asked.poll.url))
        return self._done(asked)

    def _missed(self, asked: _Asked, why: str) -> float:
        """Leave alone for a while what is answered with something else."""
        asked.misses += 1
        if asked.misses == 1:
            logger.warning("polling %s: %s: %s", asked.poll.symbol, redacted(asked.poll.url), why)
        return self._done(asked)

    def _done(self, asked: _Asked) -> float:
        doubled = 1 << min(asked.misses, _MOST_DOUBLINGS)
        asked.due = self._clock.monotonic() + asked.poll.every_s * doubled
        return self._gap_s

    def _failed(self, error: ConnectionLost | ProxyRefused) -> float:
        """Go on to the next proxy at once, or wait."""
        now = self._clock.monotonic()
        is_ban = isinstance(error, Banned | BannedByProxy)
        if isinstance(error, Banned | BannedByProxy):
            self._pool.banned(now, error.retry_after_s)
        else:
            self._pool.failed()
        following = self._pool.next(now)
        if following.at_once:
            logger.debug("%s; the next proxy", error.what)
            return 0.0
        wait_s = following.pause_s + self._backoff.next_s()
        if is_ban or not self._troubled:
            logger.warning("polling: %s; again in %.0f s", error.what, wait_s)
        self._troubled = True
        return wait_s

    def _through(self) -> None:
        """Take note that the exchange was reached."""
        self._backoff.reset()
        if self._troubled:
            self._troubled = False
            logger.info("polling: the exchange is reached again")


def _shown(body: bytes) -> str:
    return repr(body[:_SAID_CHARS].decode("utf-8", "replace"))[1:-1]
