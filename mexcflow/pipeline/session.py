"""Session: one connection to an exchange: what was asked, what was answered, when market data last came.

- Every message goes to the sink (the journal) before anything else happens to it.
- Only market data proves that a feed is alive: pongs and acknowledgements do not count.
- A message that says the contract is unknown, while its subscription waits for an answer, is for good.
"""

import logging
import math
from typing import Protocol

from tenacity import RetryCallState, wait_random_exponential

from mexcflow.clock import Clock
from mexcflow.errors import ConnectionLost, UnknownContract
from mexcflow.exchanges import Exchange, TypedExchange
from mexcflow.metrics import Metrics
from mexcflow.model import Frame, Kind
from mexcflow.pipeline.connect import Line
from mexcflow.pipeline.decode import read_frame

logger = logging.getLogger(__name__)

_CEILING_S = 60.0
_REASON_S = 5.0
"""An exchange that says why it will cut the line does so within this time, and sends data meanwhile."""
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


class Sink(Protocol):
    """Where messages go: the journal, or what holds them back while a connection takes over."""

    @property
    def backlog_age_s(self) -> float:
        """How long the oldest message has waited for its table."""

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        """Keep the messages of one read."""


class Session:
    """What every connection has in common; `metrics` and `backoff` are those of the receiver."""

    def __init__(
        self,
        exchange: Exchange | TypedExchange,
        line: Line,
        sink: Sink,
        metrics: Metrics,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        self.line = line
        self.sink = sink
        self._of = exchange
        self._metrics = metrics
        self._backoff = backoff
        self._clock = clock
        self._started = self._last_data = self._last_ping = clock.monotonic()
        self._last_error = ""
        self._last_error_at = -math.inf
        self._last_data_ns = clock.time_ns()
        self.lived_s: float | None = None
        """From the beginning to the last market data; None as long as there was none."""
        self.silent_since_ns = 0
        """When silence ended the connection: the last market data, or else the connection's beginning."""

    @property
    def channels(self) -> tuple[str, ...]:
        """What is subscribed."""
        raise NotImplementedError

    @property
    def restart_asked(self) -> bool:
        """Whether the exchange has asked us to connect anew."""
        return False

    @property
    def settled(self) -> bool:
        """Whether everything that was asked for is answered, and market data comes."""
        return self.lived_s is not None

    @property
    def age_s(self) -> float:
        """Seconds since the connection stood."""
        return self._clock.monotonic() - self._started

    def subscribe(self) -> None:
        """Ask for what is wanted."""
        raise NotImplementedError

    def step(self, ping_interval_s: float) -> None:
        """Read once, then see to heartbeat, acknowledgements and silence."""
        try:
            payloads = self.line.read()
        except ConnectionLost as lost:
            if self._clock.monotonic() - self._last_error_at < _REASON_S:
                raise ConnectionLost(f"closed by the exchange: {self._last_error}") from lost
            raise
        now = self._clock.monotonic()
        if payloads:
            self.sink.append(self.line.received_ns, payloads)
            self._look_at(payloads, now)
        self._check_time(now, ping_interval_s)

    def _look_at(self, payloads: list[bytes], now: float) -> None:
        is_market_data = self._of.is_market_data
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
            self._last_data_ns = self._metrics.newest_data_ns = self.line.received_ns
            self._backoff.reset()

    def _answer(self, payload: bytes) -> bool:
        """Deal with a message that looks like no market data; True when it was some all the same."""
        raise NotImplementedError

    def _check_acknowledged(self, now: float) -> None:
        """Raise `ConnectionLost` when an acknowledgement is overdue."""
        raise NotImplementedError

    def _complained(self, text: str) -> None:
        """Remember what the exchange said last, in case it cuts the line for it."""
        self._last_error = text
        self._last_error_at = self._clock.monotonic()

    def _check_time(self, now: float, ping_interval_s: float) -> None:
        if self._of.heartbeat and now - self._last_ping >= ping_interval_s:
            self._last_ping = now
            self.line.transmit(self._of.heartbeat)
        self._check_acknowledged(now)
        if now - self._last_data > self._of.silence_s:
            self.silent_since_ns = self._last_data_ns
            raise ConnectionLost(f"no market data for {self._of.silence_s:g} s")


class StringSession(Session):
    """A connection of one symbol, for a string table."""

    def __init__(
        self,
        exchange: Exchange,
        line: Line,
        sink: Sink,
        metrics: Metrics,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        super().__init__(exchange, line, sink, metrics, backoff, clock)
        self._exchange = exchange
        self._unacknowledged: dict[str, str] = {}

    @property
    def channels(self) -> tuple[str, ...]:
        """What is subscribed."""
        return tuple(self._exchange.subscriptions())

    def subscribe(self) -> None:
        """Ask for every channel, one frame each."""
        for channel, frame in self._exchange.subscriptions().items():
            self._unacknowledged[channel] = frame.decode()
            self.line.transmit(frame)
        logger.info("connected; subscribing to %s", ", ".join(self._unacknowledged))

    def _answer(self, payload: bytes) -> bool:
        reading = read_frame(self._exchange, Frame(self.line.received_ns, payload))
        if reading.kind is Kind.ACK:
            waited_for = self._unacknowledged.pop(reading.channel, None)
            if waited_for and not self._unacknowledged:
                logger.info("every subscription is acknowledged")
        elif reading.kind is Kind.ERROR:
            self._complained(reading.text)
            if reading.permanent and self._unacknowledged:
                exchange = self._exchange
                raise UnknownContract(
                    f"{exchange.name} does not know the contract {exchange.symbol}: {reading.text}",
                    hint="Write --symbol as the exchange does, e.g. BTC_USDT",
                )
            logger.error("the exchange says: %s", reading.text)
        return reading.kind is Kind.DATA

    def _check_acknowledged(self, now: float) -> None:
        if self._unacknowledged and now - self._started > self._exchange.ack_timeout_s:
            self._metrics.error()
            missing = "; ".join(self._unacknowledged.values())
            raise ConnectionLost(f"not acknowledged within {self._exchange.ack_timeout_s:g} s: {missing}")
