"""Plan: which topics go over which connection, and how fast connections begin: what the exchange allows."""

import threading
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from mexcflow.clock import Clock
from mexcflow.exchanges import Poll, Polled, TypedExchange
from mexcflow.model import Topic
from mexcflow.pipeline.rest import at_endpoint

_FULL = 0.9
"""How much of its topics a connection is given: resubscribing may need a few more for a moment."""


@dataclass(frozen=True)
class Connection:
    """One connection of an instance: its name (also its journal's folder), its URL, what it subscribes.

    `polls` is what is asked over REST of its symbols meanwhile.
    """

    name: str
    url: str
    topics: tuple[Topic, ...]
    polls: tuple[Poll, ...] = ()

    @property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """The channels of each symbol on it."""
        found: dict[str, dict[str, None]] = {}
        for topic in self.topics:
            found.setdefault(topic.symbol, {})[topic.channel] = None
        return {symbol: tuple(channels) for symbol, channels in found.items()}


class Pace:
    """Lets connections begin no faster than so many a second; from any thread."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        self._every_s = 1 / per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._next_s = clock.monotonic()

    def wait(self) -> None:
        """Return when it is this connection's turn."""
        with self._lock:
            now = self._clock.monotonic()
            begin_s = max(now, self._next_s)
            self._next_s = begin_s + self._every_s
        if begin_s > now:
            self._clock.wait(self._never, begin_s - now)


def plan(exchange: TypedExchange, endpoint: str = "") -> tuple[Connection, ...]:
    """Return the connections that an exchange's topics need, each symbol's topics of a socket together.

    `endpoint` is what takes the place of the exchange's own host: 'ws://127.0.0.1:8765', and a path before
    the exchange's own, if it has one.
    """
    at_most = max(1, int(exchange.limits.topics * _FULL))
    connections = []
    for socket, url in exchange.sockets.items():
        of_socket = [topic for topic in exchange.topics() if topic.socket == socket]
        parts: list[list[Topic]] = [[]]
        for symbol in dict.fromkeys(topic.symbol for topic in of_socket):
            of_symbol = [topic for topic in of_socket if topic.symbol == symbol]
            if parts[-1] and len(parts[-1]) + len(of_symbol) > at_most:
                parts.append([])
            parts[-1] += of_symbol
        for number, topics in enumerate(parts, 1):
            if topics:
                name = socket if number == 1 else f"{socket}-{number}"
                polls = _polls(exchange, topics, endpoint)
                connections.append(Connection(name, _at(url, endpoint), tuple(topics), polls))
    return tuple(connections)


def _polls(exchange: TypedExchange, topics: list[Topic], endpoint: str) -> tuple[Poll, ...]:
    if not isinstance(exchange, Polled):
        return ()
    carried = {(topic.socket, topic.symbol) for topic in topics}
    return tuple(
        poll._replace(url=at_endpoint(poll.url, endpoint))
        for poll in exchange.polls()
        if (poll.socket, poll.symbol) in carried
    )


def _at(url: str, endpoint: str) -> str:
    if not endpoint:
        return url
    own, given = urlsplit(url), urlsplit(endpoint)
    path = given.path.rstrip("/") + own.path
    return urlunsplit((given.scheme, given.netloc, path, own.query, ""))
