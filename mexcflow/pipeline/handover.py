"""Handover: a new connection takes over before the old one is closed.

Some exchanges cut a connection at a certain age, or ask for a new one before they restart. Some time before,
a second connection is opened and subscribed while the first goes on. What comes over it is held back; once it
brings what was asked for, the first is closed and the held messages follow into the journal, with the times
they were received at. So nothing is missed; what both have sent comes twice, which numbers and ids tell.

The second one is opened in a thread of its own, because that takes a second over a slow line.
"""

import logging
import math
import threading
from collections.abc import Callable

from mexcflow.clock import Clock
from mexcflow.errors import MexcflowError
from mexcflow.pipeline.connect import TICK_S, Line
from mexcflow.pipeline.route import Route
from mexcflow.pipeline.session import Session, Sink

logger = logging.getLogger(__name__)

_MARGIN_S, _MARGIN_PART = 600.0, 0.25
"""A connection is replaced so long before its end, or in this last part of a short life."""
_SETTLE_S = 2.0
"""How long both stand at least: what one has sent last has reached us over both by then."""
_PATIENCE_S = 30.0
_AGAIN_S = 60.0
_SHORT_TICK_S = 0.02
"""Two lines are read in turn: neither may wait for the other's half second."""
_MAX_HELD_BYTES = 64_000_000


class HeldBack:
    """What came over a connection that has not taken over yet: each read with its time (Unix ns)."""

    backlog_age_s = 0.0

    def __init__(self) -> None:
        self.reads: list[tuple[int, list[bytes]]] = []
        self.held_bytes = 0

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        """Keep the messages of one read in memory."""
        self.reads.append((received_ns, payloads))
        self.held_bytes += sum(map(len, payloads))


class Handover:
    """Watches over one connection's age, and prepares its successor."""

    def __init__(
        self,
        route: Route,
        make_session: Callable[[Line, Sink], Session],
        lifetime_s: float,
        clock: Clock,
    ) -> None:
        self._route = route
        self._make_session = make_session
        self._due_s = (
            lifetime_s - min(_MARGIN_S, lifetime_s * _MARGIN_PART) if lifetime_s < math.inf else math.inf
        )
        self._clock = clock
        self._opening: _Opening | None = None
        self._successor: Session | None = None
        self._not_before = -math.inf

    def successor_of(self, session: Session, ping_interval_s: float) -> Session | None:
        """Return the connection that has to go on in place of this one, once it stands; call it often."""
        if self._successor is None:
            if self._opening is None:
                now = self._clock.monotonic()
                is_due = session.restart_asked or session.age_s >= self._due_s
                if is_due and now >= self._not_before:
                    logger.info("opening the connection that is to take over")
                    self._opening = _Opening(self._route)
                return None
            if not self._opening.done.is_set():
                return None
            self._begin(session, self._opening)
            return None
        try:
            return self._stepped(session, self._successor, ping_interval_s)
        except MexcflowError as error:
            self._failed(session, error)
            return None

    def _begin(self, session: Session, opening: "_Opening") -> None:
        self._opening = None
        if opening.line is None:
            self._failed(session, opening.error)
            return
        opening.line.settimeout(_SHORT_TICK_S)
        session.line.settimeout(_SHORT_TICK_S)
        self._successor = self._make_session(opening.line, HeldBack())
        try:
            self._successor.subscribe()
        except MexcflowError as error:
            self._failed(session, error)

    def _stepped(self, session: Session, successor: Session, ping_interval_s: float) -> Session | None:
        successor.step(ping_interval_s)
        held = successor.sink.held_bytes if isinstance(successor.sink, HeldBack) else 0
        late = successor.age_s > _PATIENCE_S or held > _MAX_HELD_BYTES
        if successor.age_s < _SETTLE_S or not (successor.settled or late):
            return None
        if successor.lived_s is None:  # it brings nothing: the old one is better
            self._failed(session, None)
            return None
        return self._ready(successor)

    def standing(self) -> Session | None:
        """Return the successor if it has everything already: the connection before it was cut too early."""
        if self._successor is None or not self._successor.settled:
            return None
        return self._ready(self._successor)

    def _ready(self, successor: Session) -> Session:
        successor.line.settimeout(TICK_S)
        self._successor = None
        self._not_before = self._clock.monotonic() + _AGAIN_S
        return successor

    def _failed(self, session: Session, error: MexcflowError | None) -> None:
        logger.warning(
            "the connection that was to take over: %s; again in %.0f s",
            error.what if error else "no market data",
            _AGAIN_S,
        )
        self._not_before = self._clock.monotonic() + _AGAIN_S
        self._close_successor()
        session.line.settimeout(TICK_S)

    def _close_successor(self) -> None:
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.line.shutdown()

    def abandon(self) -> None:
        """Close what was being prepared."""
        self._close_successor()
        if self._opening is not None:
            self._opening.abandon()


class _Opening:
    """A line that is being opened; `line` or `error` is there once `done` is set."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self.done = threading.Event()
        self.line: Line | None = None
        self.error: MexcflowError | None = None
        self._abandoned = False
        threading.Thread(target=self._open, name="handover", daemon=True).start()

    def _open(self) -> None:
        try:
            self.line = self._route.open()
        except MexcflowError as error:
            self.error = error
        self.done.set()
        if self._abandoned and self.line is not None:
            self.line.shutdown()

    def abandon(self) -> None:
        """Close the line as soon as it stands."""
        self._abandoned = True
        if self.done.is_set() and self.line is not None:
            self.line.shutdown()
