"""The simulator for synchronous code: the server in a thread of its own, every call from any thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from mexcflow.config import DEFAULT_EXCHANGE
from mexcflow.simulator.exchange import Message
from mexcflow.simulator.faults import Faults
from mexcflow.simulator.frames import parse
from mexcflow.simulator.server import Server
from mexcflow.simulator.settings import Recording, Settings

T = TypeVar("T")
CALL_TIMEOUT_S = 10.0
"""How long a call may take; only a client that does not read can make one that slow."""


class Simulator:
    """An exchange on localhost: `with Simulator() as exchange: connect(exchange.url)`.

    The arguments are those of `Settings`; `frames` are lines as in a file of frames. An error inside
    the server is raised by the next call, or at the end of the `with` block. Not to be used twice.
    """

    def __init__(  # noqa: PLR0913 - the one place where all settings meet
        self,
        *,
        exchange: str = DEFAULT_EXCHANGE,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 1,
        speed: float = 1.0,
        symbols: Sequence[str] = (),
        ping_timeout_s: float | None = None,
        server_ping_s: float | None = None,
        clock_ahead_ms: int = 0,
        frames: Sequence[bytes | str] | None = None,
        recording: Recording | None = None,
        max_pause_s: float = 10.0,
        loop: bool = False,
        rate: float | None = None,
        faults: Faults | None = None,
        generate: bool = True,
        keep_sent: bool = False,
    ) -> None:
        self._settings = Settings(
            exchange=exchange,
            host=host,
            port=port,
            seed=seed,
            speed=speed,
            symbols=tuple(symbols),
            ping_timeout_s=ping_timeout_s,
            server_ping_s=server_ping_s,
            clock_ahead_ms=clock_ahead_ms,
            frames=None if frames is None else parse(frames),
            recording=recording,
            max_pause_s=max_pause_s,
            loop=loop,
            rate=rate,
            faults=faults or Faults(),
            generate=generate,
            keep_sent=keep_sent,
        )
        self._started: Future[tuple[Server, asyncio.AbstractEventLoop]] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return a simulator of ready settings."""
        simulator = cls()
        simulator._settings = settings
        return simulator

    def __enter__(self) -> Self:
        self._thread.start()
        self._server, self._loop = self._started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.end)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - outermost frame of the thread: handed to its user
            self._failure = error
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        server = Server(self._settings)
        await server.start()
        self._started.set_result((server, asyncio.get_running_loop()))
        try:
            await server.wait_ended()
        finally:
            await server.stop()

    def _call(self, work: Callable[[Server], Coroutine[Any, Any, T]]) -> T:
        if self._failure is not None:
            raise self._failure
        return asyncio.run_coroutine_threadsafe(work(self._server), self._loop).result(CALL_TIMEOUT_S)

    @property
    def running(self) -> bool:
        """Whether the server still runs; it ends by itself only when something in it failed."""
        return self._thread.is_alive()

    @property
    def url(self) -> str:
        """Where clients connect to: ws://127.0.0.1:PORT/edge; the first one, where there are several."""
        return self._server.urls[0]

    @property
    def urls(self) -> list[str]:
        """Where clients connect to, one a socket that they need."""
        return self._server.urls

    @property
    def address(self) -> str:
        """Where it listens, without a path: ws://127.0.0.1:PORT, what `mexcflow run --endpoint` takes."""
        return self._server.address

    @property
    def connections(self) -> int:
        """Number of connections accepted so far."""
        return self._server.shared.connections

    @property
    def sent(self) -> list[bytes]:
        """Every market-data frame in the order it went out, once for each client; needs keep_sent=True.

        Garbage and half frames are not in it. The list grows while you look. What was sent just before
        a connection was cut need not have arrived.
        """
        return self._server.shared.sent

    @property
    def sent_to(self) -> list[tuple[str, list[bytes]]]:
        """Each connection in the order they came: the client's host:port, and all that went out to it.

        Acknowledgements, pongs and garbage are in it, half frames are not; needs keep_sent=True.
        """
        return self._server.shared.sent_to

    @property
    def callers(self) -> list[str]:
        """The host:port of each client in the order they came, also of those that were turned away."""
        return self._server.shared.callers

    @property
    def garbage(self) -> list[bytes]:
        """Every undecodable message that `Faults.garbage_every_s` sent; needs keep_sent=True."""
        return self._server.shared.garbage

    @property
    def lost(self) -> list[bytes]:
        """Every frame that was never sent, by `Faults.lose_every_s` or `lose`, in order."""
        return self._server.shared.lost

    @property
    def received(self) -> list[bytes]:
        """Every request in the order it came."""
        return self._server.shared.received

    def send(self, payload: bytes) -> int:
        """Send a text message to every subscribed client now, past all faults; return how many those are.

        It need not be valid UTF-8. Returns when the sockets have taken it.
        """
        return self._send(Message(payload))

    def send_binary(self, payload: bytes) -> int:
        """Send a binary message; otherwise as `send`."""
        return self._send(Message(payload, is_text=False))

    def _send(self, message: Message) -> int:
        async def work(server: Server) -> int:
            lines = [line for line in server.lines if line.session.subscribed and not line.gone]
            for line in lines:
                line.post(message)
            for line in lines:
                await line.emptied()
            return len(lines)

        return self._call(work)

    def lose(self, stream: str, count: int = 1) -> None:
        """Send the next so many events of a stream to nobody; they have happened all the same.

        A stream is 'Depth BTCUSDT' or the start of such a name: Ticker, Trades, Depth or Candle, and the
        symbol. All clients lose the same.
        """

        async def work(server: Server) -> None:
            server.shared.to_lose.extend([stream] * count)

        self._call(work)

    def expire(self) -> None:
        """End every connection of age: what the exchange says before, then a close frame.

        Returns at once; how fast it ends is up to the client, who has to answer.
        """

        async def work(server: Server) -> None:
            server.expire()

        self._call(work)

    def drop(self) -> None:
        """Cut all connections, without a close frame."""

        async def work(server: Server) -> None:
            server.drop()

        self._call(work)

    def half_frame(self) -> None:
        """Send half a websocket message to every client, then cut its connection."""

        async def work(server: Server) -> None:
            for line in tuple(server.lines):
                await line.half_frame()

        self._call(work)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Send no market data meanwhile; pongs and acknowledgements go on, and so does `send`.

        Generated frames of that time are never sent; recorded ones wait.
        """
        with self._switch("silence"):
            yield

    @contextmanager
    def no_pongs(self) -> Iterator[None]:
        """Answer no ping meanwhile; pings still count as heartbeats."""
        with self._switch("no_pongs"):
            yield

    @contextmanager
    def no_acks(self) -> Iterator[None]:
        """Acknowledge nothing meanwhile; subscriptions still take effect."""
        with self._switch("no_acks"):
            yield

    @contextmanager
    def _switch(self, name: str) -> Iterator[None]:
        async def turn(server: Server, by: int) -> None:
            setattr(server.shared, name, getattr(server.shared, name) + by)
            for line in tuple(server.lines):  # what was on its way is out before the caller goes on
                await line.emptied()

        self._call(lambda server: turn(server, 1))
        try:
            yield
        finally:
            self._call(lambda server: turn(server, -1))

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """Refuse new connections meanwhile: the port is closed. Open ones stay; see `drop`."""
        self._call(Server.refuse)
        try:
            yield
        finally:
            self._call(Server.accept)

    @contextmanager
    def banned(self, status: int = 403, retry_after_s: float | None = None) -> Iterator[None]:
        """Answer every new request, for a websocket or not, with this HTTP status. Open lines stay."""
        ban = (status, retry_after_s)

        async def turn(server: Server, *, on: bool) -> None:
            bans = server.shared.bans
            bans.append(ban) if on else bans.remove(ban)

        self._call(lambda server: turn(server, on=True))
        try:
            yield
        finally:
            self._call(lambda server: turn(server, on=False))
