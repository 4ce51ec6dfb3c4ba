"""Receive: one thread a connection, which subscribes, reads, sends heartbeats and reconnects.

- Every message goes to the journal before anything else happens to it.
- Only market data proves that a feed is alive: pongs and acknowledgements do not count. A connection
  without market data for `silence_s` is given up.
- Waits between attempts: full jitter under a ceiling that doubles from 1 s to 60 s, without limit,
  and back to 1 s only once market data has come. Which way the next attempt goes, and whether a ban
  makes the wait longer, is the route's to say (`route.py`).
- The journal also gets the beginning and the end of each connection, with the reason.
- A message that says the contract is unknown, while its subscription waits for an answer, is for good.
"""

import contextlib
import logging
import math
import threading

from tenacity import RetryCallState, wait_random_exponential

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.errors import ConnectionLost, MexcflowError, ProxyRefused, UnknownContract
from mexcflow.exchanges import Exchange
from mexcflow.journal import Journal
from mexcflow.metrics import Metrics
from mexcflow.model import Frame, Kind
from mexcflow.pipeline.connect import Line
from mexcflow.pipeline.decode import read_frame
from mexcflow.pipeline.route import Route

logger = logging.getLogger(__name__)

_CEILING_S = 60.0
_REASON_S = 5.0
"""An exchange that says why it will cut the line does so within this time, and sends data meanwhile."""
STOPPED = "stopped"
_FLOOR_S = 0.1  # full jitter may roll 0, and a tight loop helps nobody


class Backoff:
    """Waits between attempts: full jitter, capped, reset by `reset` alone."""

    def __init__(self, *, first_s: float = 1.0, ceiling_s: float = _CEILING_S) -> None:
        self._policy = wait_random_exponential(multiplier=first_s, max=ceiling_s, min=_FLOOR_S)
        self.attempt = 0

    def next_s(self) -> float:
        """Return how long to wait now; each call raises the ceiling of the next."""
        self.attempt += 1
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = self.attempt
        return float(self._policy(state))

    def reset(self) -> None:
        """Start again from the first wait."""
        self.attempt = 0


class Receiver:
    """Keeps one exchange's stream coming into the journal until it is stopped."""

    def __init__(
        self,
        exchange: Exchange,
        route: Route,
        journal: Journal,
        metrics: Metrics,
        *,
        ping_interval_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._exchange = exchange
        self._route = route
        self._journal = journal
        self._metrics = metrics
        self._ping_interval_s = ping_interval_s
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
        if following.at_once:
            logger.warning("%s; the next proxy", lost.what)
            return
        wait_s = following.pause_s + self._backoff.next_s()
        logger.warning("%s; attempt %d in %.1f s", lost.what, self._backoff.attempt, wait_s)
        self._clock.wait(self._stop, wait_s)

    def _session(self) -> None:
        self._line = line = self._route.open()
        try:
            if self._ever_connected:
                self._metrics.reconnected()
            self._ever_connected = self._metrics.connected = True
            session = _Session(self._exchange, line, self._journal, self._metrics, self._backoff, self._clock)
            channels = tuple(self._exchange.subscriptions())
            self._journal.connected(self._clock.time_ns(), channels=channels, url=line.shown_url)
            self._listen(session)
        finally:
            self._line = None
            self._metrics.connected = False
            line.shutdown()

    def _listen(self, session: "_Session") -> None:
        """Read until stopped; however it ends, the journal is told why."""
        try:
            session.subscribe()
            while not self._stop.is_set():
                session.step(self._ping_interval_s)
        except MexcflowError as error:
            reason = self._stopped_by if self._stop.is_set() else error.what
            with contextlib.suppress(MexcflowError):  # it may be the journal itself that failed
                self._disconnected(reason, session.silent_since_ns)
            raise
        finally:
            self._lived_s = session.lived_s
        self._disconnected(self._stopped_by, session.silent_since_ns)

    def _disconnected(self, reason: str, silent_since_ns: int) -> None:
        now_ns = self._clock.time_ns()
        self._journal.disconnected(now_ns, reason=reason, since_ns=silent_since_ns or now_ns)


class _Session:
    """One connection: what was asked, what was answered, and when the last market data came."""

    def __init__(
        self,
        exchange: Exchange,
        line: Line,
        journal: Journal,
        metrics: Metrics,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        self._exchange = exchange
        self._line = line
        self._journal = journal
        self._metrics = metrics
        self._backoff = backoff
        self._clock = clock
        self._started = self._last_data = self._last_ping = clock.monotonic()
        self._unacknowledged: dict[str, str] = {}
        self._last_error = ""
        self._last_error_at = -math.inf
        self._last_data_ns = clock.time_ns()
        self.lived_s: float | None = None
        """From the beginning to the last market data; None as long as there was none."""
        self.silent_since_ns = 0
        """When silence ended the connection: the last market data, or else the connection's beginning."""

    def subscribe(self) -> None:
        """Ask for every channel, one frame each."""
        for channel, frame in self._exchange.subscriptions().items():
            self._unacknowledged[channel] = frame.decode()
            self._line.transmit(frame)
        logger.info("connected; subscribing to %s", ", ".join(self._unacknowledged))

    def step(self, ping_interval_s: float) -> None:
        """Read once, then see to heartbeat, acknowledgements and silence."""
        try:
            payloads = self._line.read()
        except ConnectionLost as lost:
            if self._clock.monotonic() - self._last_error_at < _REASON_S:
                raise ConnectionLost(f"closed by the exchange: {self._last_error}") from lost
            raise
        now = self._clock.monotonic()
        if payloads:
            self._journal.append(self._line.received_ns, payloads)
            self._look_at(payloads, now)
        self._check_time(now, ping_interval_s)

    def _look_at(self, payloads: list[bytes], now: float) -> None:
        is_market_data = self._exchange.is_market_data
        data = False
        for payload in payloads:
            # after a lost connection the cheap look is not enough: garbage must not reset the waits
            if is_market_data(payload) and (data or not self._backoff.attempt):
                data = True
            else:
                data |= self._answer(payload)
        if data:
            self._last_data = now
            self.lived_s = now - self._started
            self._last_data_ns = self._metrics.newest_data_ns = self._line.received_ns
            self._backoff.reset()

    def _answer(self, payload: bytes) -> bool:
        """Deal with a message that looks like no market data; True when it was some all the same."""
        reading = read_frame(self._exchange, Frame(self._line.received_ns, payload))
        if reading.kind is Kind.ACK:
            waited_for = self._unacknowledged.pop(reading.channel, None)
            if waited_for and not self._unacknowledged:
                logger.info("every subscription is acknowledged")
        elif reading.kind is Kind.ERROR:
            self._last_error = reading.text
            self._last_error_at = self._clock.monotonic()
            if reading.permanent and self._unacknowledged:
                exchange = self._exchange
                raise UnknownContract(
                    f"{exchange.name} does not know the contract {exchange.symbol}: {reading.text}",
                    hint="Write --symbol as the exchange does, e.g. BTC_USDT",
                )
            logger.error("the exchange says: %s", reading.text)
        return reading.kind is Kind.DATA

    def _check_time(self, now: float, ping_interval_s: float) -> None:
        if now - self._last_ping >= ping_interval_s:
            self._last_ping = now
            self._line.transmit(self._exchange.heartbeat)
        if self._unacknowledged and now - self._started > self._exchange.ack_timeout_s:
            self._metrics.error()
            missing = "; ".join(self._unacknowledged.values())
            raise ConnectionLost(f"not acknowledged within {self._exchange.ack_timeout_s:g} s: {missing}")
        if now - self._last_data > self._exchange.silence_s:
            self.silent_since_ns = self._last_data_ns
            raise ConnectionLost(f"no market data for {self._exchange.silence_s:g} s")
