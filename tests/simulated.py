"""An exchange of the simulator without sockets, and a plain client for one with."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

import websocket

from mexcflow.exchanges import TYPED
from mexcflow.model import Kind, TypedReading, Undecodable, Wanted
from mexcflow.simulator.exchange import Exchange, Reply
from mexcflow.simulator.exchanges import open_exchange
from mexcflow.simulator.market import Event, Market

START_MS = 1_790_000_039_000
"""A second before a minute ends."""


class Player:
    """One exchange, its market and its clients, on a clock that only `run` moves."""

    def __init__(self, name: str, *symbols: str, start_ms: int = START_MS, odd_numbers: bool = False) -> None:
        self.exchange: Exchange = open_exchange(name, symbols, odd_numbers=odd_numbers)
        self._market = Market(self.exchange.contracts, levels=self.exchange.levels)
        self._next = self._market.next_event()
        self._start_ms = self.now_ms = start_ms
        self.clients: list[Client] = []
        self.events: list[Event] = []

    def client(self, path: str, *requests: object, **query: str) -> "Client":
        """Return a client that has sent these requests."""
        session = self.exchange.session(path, query)
        assert session is not None, path
        client = Client(self, session)
        self.clients.append(client)
        for request in requests:
            client.ask(request)
        return client

    def run(self, seconds: float) -> None:
        """Let so much time pass; candles are looked at four times a second."""
        end_ms, looked_ms = self.now_ms + round(seconds * 1000), self.now_ms
        while (at_ms := self._start_ms + int(self._next[0] * 1000)) <= end_ms:
            for due_ms in range(looked_ms + 250, at_ms + 1, 250):
                looked_ms = due_ms
                self._publish(*self.exchange.due(due_ms), now_ms=due_ms)
            self._publish(self._next[1], now_ms=at_ms)
            self._next = self._market.next_event()
        self.now_ms = end_ms

    def _publish(self, *events: Event, now_ms: int) -> None:
        self.now_ms = now_ms
        for event in events:
            self.events.append(event)
            self.exchange.take(event, now_ms)
            for client in self.clients:
                for variant in client.session.variants(event):
                    client.frames += self.exchange.frames(event, variant, now_ms)


class Client:
    """What one client asked for and got; snapshots that follow an acknowledgement are among the frames."""

    def __init__(self, player: Player, session: Any) -> None:
        self._player = player
        self.session = session
        self.replies: list[Reply] = []
        self.frames: list[bytes] = []

    def ask(self, request: object) -> list[Any]:
        """Send a request, as JSON unless it is bytes; return the answers, parsed, without snapshots."""
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        replies = self.session.answer(payload, self._player.now_ms)
        self.replies += replies
        self.frames += [reply.payload for reply in replies if reply.kind is Kind.DATA]
        return [json.loads(reply.payload) for reply in replies if reply.kind is not Kind.DATA]

    def parsed(self) -> Iterator[Any]:
        """Return the frames as JSON."""
        return map(json.loads, self.frames)


def readings(name: str, frames: list[bytes], *symbols: str) -> list[TypedReading]:
    """Return what the recorder's exchange makes of frames; it must make something of each."""
    exchange = TYPED[name](Wanted(symbols=symbols, channels=TYPED[name].channels))
    return [exchange.read(frame) for frame in frames]


def is_readable(name: str, payload: bytes, symbol: str) -> bool:
    """Say whether the recorder's exchange makes anything of a message."""
    exchange = TYPED[name](Wanted(symbols=(symbol,), channels=TYPED[name].channels))
    try:
        exchange.read(payload)
    except (Undecodable, ValueError, LookupError, TypeError, RecursionError):
        return False
    return True


class Socket:
    """A plain websocket that has sent these requests."""

    def __init__(self, url: str, *requests: object) -> None:
        self.socket = websocket.create_connection(url, timeout=30, skip_utf8_validation=True)
        for request in requests:
            self.ask(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown()

    def ask(self, request: object) -> None:
        """Send a request, as JSON unless it is text."""
        self.socket.send(request if isinstance(request, str) else json.dumps(request))

    def raw(self, timeout: float = 30) -> tuple[int, bytes]:
        """Return the next message: opcode and bytes; pings are answered on the way."""
        self.socket.settimeout(timeout)
        return self.socket.recv_data()

    def next(self, timeout: float = 30) -> Any:
        """Return the next message as JSON."""
        return json.loads(self.raw(timeout)[1])

    def all_for(self, seconds: float) -> list[bytes]:
        """Return all messages of so many seconds."""
        end, frames = time.monotonic() + seconds, []
        with suppress(websocket.WebSocketTimeoutException):
            while (rest := end - time.monotonic()) > 0:
                frames.append(self.raw(rest)[1])
        return frames

    def until_cut(self) -> list[tuple[int, bytes]]:
        """Return all messages up to the cut; a close frame would be among them, with opcode 8."""
        messages = []
        with suppress(websocket.WebSocketConnectionClosedException, ConnectionError):
            while True:
                messages.append(self.raw())
        return messages
