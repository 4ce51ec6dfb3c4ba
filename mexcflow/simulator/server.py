"""The listening side: accepts clients, moves the one market they share, and refuses them on request.

On the same port plain GETs are answered, as far as the exchange has REST.
"""

import asyncio
import http
import logging
import math
import os
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qsl

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from mexcflow.errors import Misuse
from mexcflow.simulator.exchanges import open_exchange
from mexcflow.simulator.line import Line, name_of
from mexcflow.simulator.market import Event, Market
from mexcflow.simulator.player import play
from mexcflow.simulator.settings import LATE_S, Settings, Shared
from mexcflow.simulator.tape import Tape

log = logging.getLogger(__name__)

FIRST_DATA_S = 0.2
"""Between the first subscription and the first frame; 216 ms were measured on MEXC."""
CLOCK_EVERY_S = 0.25
"""How often candles are looked at; the close of one was seen 256 ms after its end on Binance."""

# Handshakes that fail are the client's business, and websockets would log them with a stack trace.
_quiet = logging.getLogger("mexcflow.simulator.websockets")
_quiet.setLevel(logging.CRITICAL)


class Server:
    """An exchange on localhost. Runs in one event loop: all calls from there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shared = Shared()
        if (status := settings.faults.http_status) is not None:
            self.shared.bans.append((status, settings.faults.retry_after_s))
        self.lines: set[Line] = set()
        self._exchange = exchange = open_exchange(
            settings.exchange, settings.symbols, odd_numbers=settings.faults.exponents
        )
        self._market = Market(exchange.contracts, seed=settings.seed, levels=exchange.levels)
        self._tape = Tape.of(settings)
        self._listener: Listener | None = None
        self._port = settings.port
        self._refusing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._requested = asyncio.Event()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def address(self) -> str:
        """Where we listen, without a path."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"ws://{host}:{self._port}"

    @property
    def urls(self) -> list[str]:
        """Where clients connect to, one a socket that they need."""
        return [f"{self.address}{path}" for path in self._exchange.rules.paths]

    async def start(self) -> None:
        """Listen, and set the market going."""
        await self._listen()
        settings, faults = self.settings, self.settings.faults
        if settings.generate and self._tape is None:
            self._start_task(self._run_market())
            self._start_task(self._run_clock())
        if faults.refuse_every_s is not None and faults.refuse_for_s is not None:
            self._start_task(self._refuse_now_and_then(faults.refuse_every_s, faults.refuse_for_s))

    async def wait_ended(self) -> None:
        """Wait until `end` was called; raises what made a task of ours fail, should one."""
        await self._ended

    def end(self, error: BaseException | None = None) -> None:
        """Let `wait_ended` return, or raise the error."""
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    async def stop(self) -> None:
        """Close everything without waiting for any client."""
        await self._stop_listening()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.end(error)  # a fault of ours: no client may be left waiting for a dead task

    async def _listen(self) -> None:
        host, port = self.settings.host, self._port
        try:
            self._listener = await serve(
                self._serve_client,
                host,
                port,
                process_request=self._look_at_request,
                compression=None,  # the real one offers none either
                ping_interval=None,  # heartbeats are the client's business here
                server_header=None,
                logger=_quiet,
            )
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0  # below 0: not found by name; its own text is good
            reason = os.strerror(number).lower() if number > 0 else getattr(error, "strerror", error)
            hint = "Give another --port (0: any free one) or --host"
            raise Misuse(f"cannot listen on {host} port {port}: {reason}", hint=hint) from error
        self._port = next(iter(self._listener.sockets)).getsockname()[1]

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close(close_connections=False)
            while listener.is_serving():  # it closes in a task of its own
                await asyncio.sleep(0)

    def _look_at_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no websocket's business; None lets the handshake go on."""
        name = name_of(connection)
        self.shared.callers.append(name)
        if self.shared.bans:
            status, retry_after_s = self.shared.bans[-1]
            log.info("%s is answered with HTTP %d", name, status)
            asked = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
            return _answer(status, b"you are banned\n", "text/plain", **asked)
        path, query = _parts(request.path)
        if "Upgrade" in request.headers:
            if self._exchange.session(path, query) is None:
                return _answer(404, b"there is no websocket here\n", "text/plain")
            return None
        answer = self._exchange.rest(path, query, self.settings.now_ms())
        return None if answer is None else _answer(answer.status, answer.body, "application/json")

    async def _serve_client(self, connection: ServerConnection) -> None:
        request = connection.request
        session = self._exchange.session(*_parts(request.path if request else ""))
        if session is None:  # not again: it was asked in `_look_at_request`
            return
        line = Line(connection, self._exchange, session, self.settings, self.shared)
        self.lines.add(line)
        self.shared.connections += 1
        log.info("%s connected", line.name)
        tasks = [self._start_task(chore) for chore in line.chores()]
        if self._tape is not None:
            tasks.append(self._start_task(play(line, self._tape, self.settings)))
        reader = self._start_task(line.read(self._requested.set))
        try:
            await asyncio.wait([reader])
        finally:
            self.lines.discard(line)
            for task in (*tasks, reader):
                task.cancel()
            log.info("%s is gone", line.name)

    async def _run_market(self) -> None:
        """Send each event when its time has come; the market stands still while nobody listens.

        So the first client sees the market from its first event, whenever it comes: the same seed then
        gives the same frames.
        """
        loop = asyncio.get_running_loop()
        speed, zero_s = self.settings.speed, 0.0  # zero_s: loop time of market time 0
        running = False
        while True:
            due_s, event = self._market.next_event()
            while not any(line.session.subscribed for line in self.lines):
                running = False
                self._requested.clear()
                await self._requested.wait()
            now_s = loop.time()
            if not running:
                running, zero_s = True, now_s + FIRST_DATA_S - due_s / speed
            elif now_s - (zero_s + due_s / speed) > LATE_S:
                zero_s = now_s - due_s / speed
            await asyncio.sleep(zero_s + due_s / speed - now_s)
            self._publish(event)

    def _publish(self, event: Event) -> None:
        stream = f"{type(event).__name__} {event.contract.symbol}"
        now_ms = self.settings.now_ms()
        self._exchange.take(event, now_ms)
        wanted = [(line, variant) for line in self.lines for variant in line.session.variants(event)]
        if not wanted:
            return
        frames: dict[str, list[bytes]] = {}  # those of each form wanted, shared by its clients
        for _, variant in wanted:
            if variant not in frames:
                frames[variant] = self._exchange.frames(event, variant, now_ms)
        if self.shared.loses(stream):
            self.shared.lost += [frame for form in frames.values() for frame in form]
            return
        for line, variant in wanted:
            for frame in frames[variant]:
                line.offer(stream, frame)

    async def _run_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_EVERY_S)
            for event in self._exchange.due(self.settings.now_ms()):
                self._publish(event)

    def drop(self) -> None:
        """Cut all connections."""
        for line in tuple(self.lines):
            line.abort()

    def expire(self) -> None:
        """End all connections of age."""
        for line in tuple(self.lines):
            self._start_task(line.expire())

    async def refuse(self) -> None:
        """Refuse new connections until `accept`; those that are open stay open."""
        self._refusing += 1
        await self._stop_listening()

    async def accept(self) -> None:
        """Listen again, on the same port, once everyone who called `refuse` has called this."""
        self._refusing -= 1
        if not self._refusing and self._listener is None:
            await self._listen()

    async def _refuse_now_and_then(self, every_s: float, for_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            log.info("refusing connections for %g s", for_s)
            await self.refuse()
            self.drop()
            await asyncio.sleep(for_s)
            await self.accept()
            log.info("listening again")


def _parts(target: str) -> tuple[str, dict[str, str]]:
    """Return path and query of a request."""
    path, _, query = target.partition("?")
    return path, dict(parse_qsl(query, keep_blank_values=True))


def _answer(status: int, body: bytes, content_type: str, **more: str) -> Response:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # one that no standard knows
        phrase = "No Name"
    headers = Headers(
        {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close", **more}
    )
    return Response(status, phrase, headers, body)
