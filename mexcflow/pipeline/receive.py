"""Receive: one thread a connection, which subscribes, reads, sends heartbeats and reconnects.

- A connection is a `Session`; a new one is made after each loss.
- Waits between attempts: full jitter under a ceiling that doubles from 1 s to 60 s, without limit,
  and back to 1 s only once market data has come. Which way the next attempt goes, and whether a ban
  makes the wait longer, is the route's to say (`route.py`).
- The journal also gets the beginning and the end of each connection, with the reason.
- A connection that the exchange will cut at a certain age is replaced before: see `handover.py`.
"""

import contextlib
import logging
import math
import threading
from collections.abc import Callable

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import ConnectionLost, MexcflowError, ProxyRefused
from mexcflow.journal import Journal
from mexcflow.metrics import Metrics
from mexcflow.pipeline.connect import Line
from mexcflow.pipeline.handover import Handover, HeldBack
from mexcflow.pipeline.route import Route
from mexcflow.pipeline.session import Backoff, Session, Sink

logger = logging.getLogger(__name__)

STOPPED = "stopped"
SessionMaker = Callable[[Line, Sink, Metrics, Backoff, Clock], Session]


class Receiver:
    """Keeps one connection's stream coming into the journal until it is stopped.

    `name` tells it from the instance's other connections; `lifetime_s` is the age at which the exchange cuts
    a connection.
    """

    def __init__(  # noqa: PLR0913 - what it is wired to, and a connection's own settings
        self,
        make_session: SessionMaker,
        route: Route,
        journal: Journal,
        metrics: Metrics,
        *,
        ping_interval_s: float,
        name: str = "",
        lifetime_s: float = math.inf,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._make_session = make_session
        self._route = route
        self._journal = journal
        self._metrics = metrics
        self._ping_interval_s = ping_interval_s
        self._name = name
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._backoff = Backoff()
        self._stop = threading.Event()
        self._stopped_by = STOPPED
        self._line: Line | None = None
        self._ever_connected = False
        self._lived_s: float | None = None

    @property
    def proxy_in_use(self) -> str:
        """The proxy of the connection, or of the last attempt at one, without its password; "" for none."""
        return self._route.in_use

    @property
    def stands(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._line is not None

    def stop(self, reason: str = STOPPED) -> None:
        """End `run` soon, from any thread; what was read until then is in the journal, and the reason."""
        self._stopped_by = reason
        self._stop.set()
        line = self._line
        if line is not None:
            line.abort()

    def run(self) -> None:
        """Receive until stopped; raises only what no new attempt can mend."""
        while not self._stop.is_set():
            try:
                self._session()
            except (ConnectionLost, ProxyRefused) as lost:
                if not self._stop.is_set():
                    self._give_up_connection(lost)

    def _give_up_connection(self, lost: ConnectionLost | ProxyRefused) -> None:
        following = self._route.failed(lost, lived_s=self._lived_s)
        self._lived_s = None
        self._metrics.disconnected(lost.what)
        of = f"{self._name}: " if self._name else ""
        if following.at_once:
            logger.warning("%s%s; the next proxy", of, lost.what)
            return
        wait_s = following.pause_s + self._backoff.next_s()
        logger.warning("%s%s; attempt %d in %.1f s", of, lost.what, self._backoff.attempt, wait_s)
        self._clock.wait(self._stop, wait_s)

    def _session(self) -> None:
        self._line = line = self._route.open()
        try:
            if self._ever_connected:
                self._metrics.reconnected()
            self._ever_connected = True
            self._metrics.connection(self._name, stands=True)
            session = self._new_session(line, self._journal)
            self._journal.connected(self._clock.time_ns(), channels=session.channels, url=line.shown_url)
            self._listen(session)
        finally:
            line = self._line or line
            self._line = None
            self._metrics.connection(self._name, stands=False)
            line.shutdown()

    def _new_session(self, line: Line, sink: Sink) -> Session:
        return self._make_session(line, sink, self._metrics, self._backoff, self._clock)

    def _listen(self, session: Session) -> None:
        """Read until stopped; however it ends, the journal is told why."""
        handover = Handover(self._route, self._new_session, self._lifetime_s, self._clock)
        try:
            session.subscribe()
            while not self._stop.is_set():
                successor = self._step(session, handover)
                if successor is not None:
                    session = self._taken_over(session, successor)
        except MexcflowError as error:
            reason = self._stopped_by if self._stop.is_set() else error.what
            with contextlib.suppress(MexcflowError):  # it may be the journal itself that failed
                self._disconnected(reason, session.silent_since_ns)
            raise
        finally:
            handover.abandon()
            self._lived_s = session.lived_s
        self._disconnected(self._stopped_by, session.silent_since_ns)

    def _step(self, session: Session, handover: Handover) -> Session | None:
        """Read once; return the connection that has to go on, if it is another one."""
        try:
            session.step(self._ping_interval_s)
        except ConnectionLost as lost:
            standing = None if self._stop.is_set() or session.silent_since_ns else handover.standing()
            if standing is None:
                raise
            logger.warning("%s, while the one that was to take over stands already", lost.what)
            return standing
        return handover.successor_of(session, self._ping_interval_s)

    def _taken_over(self, before: Session, after: Session) -> Session:
        """Go on with a connection that stands already; `stop` may come at any moment."""
        logger.info("%sa new connection has taken over", f"{self._name}: " if self._name else "")
        self._line = after.line
        self._journal.connected(
            self._clock.time_ns(), channels=after.channels, url=after.line.shown_url, handover=True
        )
        held_back, after.sink = after.sink, self._journal
        before.line.shutdown()
        if isinstance(held_back, HeldBack):
            for received_ns, payloads in held_back.reads:
                self._journal.append(received_ns, payloads)
        if self._stop.is_set():
            after.line.abort()
        return after

    def _disconnected(self, reason: str, silent_since_ns: int) -> None:
        now_ns = self._clock.time_ns()
        self._journal.disconnected(now_ns, reason=reason, since_ns=silent_since_ns or now_ns)
