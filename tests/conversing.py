"""A line to a simulated exchange without sockets, on a clock that only reading moves."""

from collections.abc import Callable
from urllib.parse import urlsplit

from mexcflow.errors import ConnectionLost
from mexcflow.exchanges import TypedExchange
from mexcflow.metrics import Metrics
from mexcflow.model import Frame
from mexcflow.pipeline.converse import Conversation
from mexcflow.pipeline.plan import plan
from mexcflow.pipeline.session import Backoff
from tests.simulated import Player

TICK_S = 0.25


class SimulatedClock:
    """The simulated exchange's time."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def time_ns(self) -> int:
        return self._player.now_ms * 1_000_000

    def monotonic(self) -> float:
        return self._player.now_ms / 1000


class SimulatedLine:
    """Each `read` takes a quarter of a second, or what `settimeout` says.

    `sent` has what was sent, with the time since the beginning in seconds. `swallowed` says what of it never
    arrives, `dropped` what of the answers and frames.
    """

    shown_url = "ws://nowhere"

    def __init__(self, player: Player, path: str) -> None:
        self._player = player
        self._client = player.client(path)
        self._began_ms = player.now_ms
        self._waiting: list[bytes] = []
        self._seen = 0
        self._read_s = TICK_S
        self.sent: list[tuple[float, bytes]] = []
        self.swallowed: Callable[[bytes], bool] = lambda payload: False
        self.dropped: Callable[[bytes], bool] = lambda payload: False
        self.received_ns = 0
        self.open = True

    @property
    def since_s(self) -> float:
        return (self._player.now_ms - self._began_ms) / 1000

    def transmit(self, payload: bytes) -> None:
        self.sent.append((self.since_s, payload))
        if not self.swallowed(payload):
            replies = self._client.session.answer(payload, self._player.now_ms)
            self._waiting += [reply.payload for reply in replies]

    def push(self, payload: bytes) -> None:
        """Let the exchange send this."""
        self._waiting.append(payload)

    def read(self) -> list[bytes]:
        if not self.open:
            raise ConnectionLost("connection lost: closed")
        self._player.run(self._read_s)
        frames, self._seen = self._client.frames[self._seen :], len(self._client.frames)
        here, self._waiting = [*self._waiting, *frames], []
        self.received_ns = self._player.now_ms * 1_000_000
        return [payload for payload in here if not self.dropped(payload)]

    def settimeout(self, seconds: float) -> None:
        self._read_s = min(seconds, TICK_S)

    def shutdown(self) -> None:
        self.open = False
        if self._client in self._player.clients:
            self._player.clients.remove(self._client)

    abort = shutdown


class Kept:
    """A journal for a session alone."""

    backlog_age_s = 0.0

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        self.frames += [Frame(received_ns, payload) for payload in payloads]


class Conversing:
    """A conversation with the first socket of a simulated exchange."""

    def __init__(self, exchange: TypedExchange, player: Player | None = None) -> None:
        self.exchange = exchange
        self.player = player or Player(exchange.name)
        connection = plan(exchange)[0]
        self.line = SimulatedLine(self.player, urlsplit(connection.url).path)
        self.journal = Kept()
        self.backoff = Backoff()
        self.session = Conversation(
            exchange,
            connection.topics,
            self.line,
            self.journal,
            Metrics("X", "market_data", exchange.channels, now=0.0),
            self.backoff,
            SimulatedClock(self.player),
        )

    def run(self, seconds: float) -> None:
        """Step for so long."""
        until = self.line.since_s + seconds
        while self.line.since_s < until:
            self.session.step(15.0)

    @property
    def sent(self) -> list[bytes]:
        return [payload for _, payload in self.line.sent]
