"""Converse: one connection of an exchange with typed tables, which carries several symbols and channels.

- Subscribe frames leave no faster than the exchange allows; reading goes on between them.
- A request that is refused as a whole is asked again topic by topic, so that one wrong symbol costs the
  others nothing. Only when nothing is left of a connection is that the end of the run.
- A topic that brings nothing within `UNHEARD_S` is named in the log, once: an unknown symbol is met with
  silence by some exchanges. Others may just be quiet.
- While frames wait for a database that is away, a book of all levels is subscribed anew every five minutes: a
  run that begins in the middle of that backlog goes on from a few hundred levels, and needs a snapshot soon.
- Books that are built from deltas are followed here, too. One that breaks is subscribed anew at once,
  whatever the database does meanwhile.
"""

import logging
import math
from collections import deque

import msgspec

from mexcflow.clock import Clock
from mexcflow.errors import ConnectionLost, UnknownContract
from mexcflow.exchanges import TypedExchange
from mexcflow.metrics import Metrics
from mexcflow.model import BookUpdate, Kind, Request, Topic, TypedReading, Undecodable
from mexcflow.pipeline.books import Books, Standing, named_in
from mexcflow.pipeline.connect import Line
from mexcflow.pipeline.session import Backoff, Session, Sink
from mexcflow.pipeline.typed_decode import read_typed

logger = logging.getLogger(__name__)

UNHEARD_S = 30.0
_ANCHOR_EVERY_S, _LONG_BACKLOG_S = 300.0, 60.0
_RENEW_EVERY_S = 5.0
"""A book is not asked for again sooner: a snapshot takes its time."""
_SHOWN = 5
_TEXT_CHARS = 500
"""How much is made of what an exchange complains about: its text becomes a line of the log."""


class Conversation(Session):
    """A connection and the topics that it is to bring."""

    def __init__(  # noqa: PLR0913 - what a session is made of, and its topics
        self,
        exchange: TypedExchange,
        topics: tuple[Topic, ...],
        line: Line,
        sink: Sink,
        metrics: Metrics,
        backoff: Backoff,
        clock: Clock,
    ) -> None:
        super().__init__(exchange, line, sink, metrics, backoff, clock)
        self._exchange = exchange
        self._topics = {topic.name: topic for topic in topics}
        self._requests: dict[int, Request] = {}
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._unacknowledged: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._next_id = 1
        self._next_send = -math.inf
        self._unheard = {(topic.channel, topic.symbol) for topic in topics}
        follows = not exchange.whole_books and any(topic.channel == "book" for topic in topics)
        self._books = Books(exchange) if follows else None
        self._renewed_at: dict[str, float] = {}
        self._anchored_at = self._started
        self._awaited: set[str] = set()
        self._restart = False

    @property
    def channels(self) -> tuple[str, ...]:
        """What is subscribed."""
        return tuple(self._topics)

    @property
    def restart_asked(self) -> bool:
        """Whether the exchange has asked us to connect anew."""
        return self._restart

    @property
    def settled(self) -> bool:
        """Whether everything that was asked for is answered, and market data comes."""
        return self.lived_s is not None and not self._unsent and not self._unacknowledged

    def subscribe(self) -> None:
        """Ask for every topic, as fast as the exchange allows."""
        logger.info("connected to %s; subscribing to %s", self.line.shown_url, _named(list(self._topics)))
        self._ask(tuple(self._topics.values()))

    def _ask(self, topics: tuple[Topic, ...]) -> None:
        for request in self._exchange.requests(topics, self._next_id):
            self._next_id = request.id + 1
            self._requests[request.id] = request
            self._unacknowledged |= {topic.name: math.inf for topic in request.topics}
            self._unsent.append((request.id, request.payload))
        self._send(self._clock.monotonic())

    def _send(self, now: float) -> None:
        """Send what may be sent by now, and count from then on how long its answer takes."""
        while self._unsent and now >= self._next_send:
            number, payload = self._unsent.popleft()
            self.line.transmit(payload)
            self._next_send = now + 1 / self._exchange.limits.messages_per_s
            for topic in self._requests[number].topics if number in self._requests else ():
                if topic.name in self._unacknowledged:
                    self._unacknowledged[topic.name] = now

    # ---- what comes

    def _look_at(self, payloads: list[bytes], now: float) -> None:
        super()._look_at(payloads, now)
        if self._unheard:
            self._listen(payloads, now)
        if self._books is not None:
            is_book_delta = self._exchange.is_book_delta
            for payload in payloads:
                if is_book_delta(payload):
                    self._follow(self._books, payload, now)

    def _listen(self, payloads: list[bytes], now: float) -> None:
        """See which topics have brought something."""
        for payload in payloads:
            reading = read_typed(self._exchange, payload)
            if reading.kind is Kind.DATA:
                self._unheard -= {(reading.channel, row.symbol) for row in reading.rows}

    def _follow(self, books: Books, payload: bytes, now: float) -> None:
        reading = read_typed(self._exchange, payload)
        if reading.kind is Kind.DEAD_LETTER:
            for symbol in named_in(payload, [topic.symbol for topic in self._of_books()]):
                if books.lose(symbol):
                    self._renew(symbol, "a change could not be decoded", now)
            return
        for update in reading.rows:
            if not isinstance(update, BookUpdate):
                return
            try:
                standing = books.take(update)
            except Undecodable as error:
                books.lose(update.symbol)
                self._renew(update.symbol, str(error), now)
                continue
            if standing is Standing.WHOLE:
                self._awaited.discard(update.symbol)
            elif standing is Standing.BROKEN:
                self._renew(update.symbol, books.reason, now)
            else:
                self._renew(update.symbol, "", now)

    def _of_books(self) -> list[Topic]:
        return [topic for topic in self._topics.values() if topic.channel == "book"]

    def _renew(self, symbol: str, reason: str, now: float) -> None:
        """Ask for a new snapshot, unless that was done a moment ago."""
        if reason:
            logger.warning("the book of %s is broken: %s; asking for a new snapshot", symbol, reason)
        self._awaited.add(symbol)
        asked = self._renewed_at.get(symbol, self._started if not reason else -math.inf)
        if now - asked < _RENEW_EVERY_S:
            return
        self._renewed_at[symbol] = now
        for topic in self._of_books():
            if topic.symbol == symbol:
                payloads = self._exchange.renew(topic, self._next_id)
                self._unsent.extend((-1, payload) for payload in payloads)
                self._next_id += len(payloads)
        self._send(now)

    # ---- answers

    def _answer(self, payload: bytes) -> bool:
        reading = read_typed(self._exchange, payload)
        if reading.restart:
            logger.warning("the exchange asks us to connect anew: %.200s", reading.text)
            self._restart = True
        if reading.kind is Kind.ACK:
            for name in self._about(reading):
                self._unacknowledged.pop(name, None)
            if not self._unacknowledged and not self._unsent and not self._refused:
                logger.debug("every subscription is acknowledged")
        elif reading.kind is Kind.ERROR:
            reading = msgspec.structs.replace(reading, text=" ".join(reading.text.split())[:_TEXT_CHARS])
            self._complained(reading.text)
            self._refuse(reading)
        return reading.kind is Kind.DATA

    def _about(self, reading: TypedReading) -> tuple[str, ...]:
        """Return the topics that an answer is about, as far as it says so."""
        if reading.topics:
            return reading.topics
        request = self._requests.get(reading.request) if reading.request is not None else None
        return tuple(topic.name for topic in request.topics) if request else ()

    def _refuse(self, reading: TypedReading) -> None:
        """Deal with the exchange's no."""
        names = [name for name in self._about(reading) if name in self._unacknowledged]
        if not names and reading.permanent and not reading.topics:  # only its text may say what it is about
            waiting = list(self._unacknowledged)
            names = [name for name in waiting if self._topics[name].symbol in reading.text]
            if not names and len({self._topics[name].symbol for name in waiting}) == 1:
                names = waiting
        logger.error("the exchange says: %s", reading.text or "no")
        if not names or not (reading.permanent or reading.request is not None):
            return
        for name in names:
            del self._unacknowledged[name]
        if len(names) > 1 and not reading.topics:  # which of them is wrong?
            logger.info("asking again for %d topics one by one", len(names))
            for name in names:
                self._ask((self._topics[name],))
            return
        for name in names:
            self._refused[name] = reading.text
            topic = self._topics[name]
            self._unheard.discard((topic.channel, topic.symbol))
            logger.error(
                "%s refuses %s: %s", self._exchange.name, name, reading.text or "it does not say why"
            )
        everybody = {topic.symbol for topic in self._exchange.topics()}
        alone = everybody == {topic.symbol for topic in self._topics.values()}
        if alone and len(self._refused) == len(self._topics) and self.lived_s is None:
            symbols = _named(list(dict.fromkeys(topic.symbol for topic in self._topics.values())))
            raise UnknownContract(
                f"{self._exchange.name} has none of what was asked for ({symbols}): {reading.text}",
                hint=f"Write --symbol as the exchange does, e.g. {self._exchange.example}; "
                f"`mexcflow symbols --exchange {self._exchange.name}` lists them",
            )

    # ---- the clock

    def _anchor(self, now: float) -> None:
        """Have snapshots of the deepest books in a long backlog."""
        if self._books is None or self._exchange.book_levels or now - self._anchored_at < _ANCHOR_EVERY_S:
            return
        if self.sink.backlog_age_s > _LONG_BACKLOG_S:
            self._anchored_at = now
            for topic in self._of_books():
                self._renew(topic.symbol, "", now)

    def _check_acknowledged(self, now: float) -> None:
        self._send(now)
        for symbol in sorted(self._awaited):  # it may be unsubscribed by now, and nothing comes at all
            if now - self._renewed_at.get(symbol, now) >= _RENEW_EVERY_S:
                logger.warning("no new snapshot of %s within %g s; asking again", symbol, _RENEW_EVERY_S)
                self._renew(symbol, "", now)
        self._anchor(now)
        timeout_s = self._exchange.ack_timeout_s
        late = [name for name, asked in self._unacknowledged.items() if now - asked > timeout_s]
        if late:
            self._metrics.error()
            raise ConnectionLost(f"not acknowledged within {timeout_s:g} s: {_named(late)}")
        if self._unheard and now - self._started > UNHEARD_S:
            for channel, symbol in sorted(self._unheard):
                logger.warning(
                    "no data for %s of %s within %.0f s: is the symbol right? It may only be quiet; "
                    "`mexcflow symbols --exchange %s --search %s` knows it if it is traded",
                    channel,
                    symbol,
                    UNHEARD_S,
                    self._exchange.name,
                    symbol,
                )
            self._unheard.clear()


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
