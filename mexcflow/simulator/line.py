"""One client's connection: its requests, its outbox, its heartbeat and its faults.

Everything but recorded frames goes through one outbox in order, so an acknowledgement always precedes
the data it announces. A client that reads so slowly that its outbox is full is cut, as a real exchange
would; recorded frames wait for the client instead (the socket's own back-pressure).
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode

from mexcflow.model import Kind
from mexcflow.simulator.exchange import Exchange, Message, Reply, Session
from mexcflow.simulator.faults import Disturber
from mexcflow.simulator.settings import Settings, Shared

log = logging.getLogger(__name__)

FAREWELL_S = 1.0
"""How long the last bytes before a cut may take to leave."""
NOTHING_YET = b'{"nothing":"yet"}'
"""What half of is sent where there is nothing else."""


class Line:
    """One connection from its handshake to its end; `run` returns when it is gone."""

    def __init__(
        self,
        connection: ServerConnection,
        exchange: Exchange,
        session: Session,
        settings: Settings,
        shared: Shared,
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._rules = exchange.rules
        self._settings = settings
        self.shared = shared
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[tuple[Message, bool]] = asyncio.Queue(settings.outbox_messages)
        self._unsent = 0  # in the outbox, or taken from it and on its way
        self._cut = False  # nothing more may be sent: half a frame or last words went out
        self._heartbeat_s = self._loop.time()
        self._last_data = b""
        self._request_times_s: deque[float] = deque()  # of the last second
        self.session = session
        self.disturber = Disturber(settings.faults, self._loop.time(), shared.lost)
        self.requested = asyncio.Event()  # set by each request; who waits for it clears it
        self.name = name_of(connection)
        self._sent: list[bytes] = []
        if settings.keep_sent:
            shared.sent_to.append((self.name, self._sent))
        for payload in session.greeting(settings.now_ms()):
            self.post(Message(payload), is_data=False)

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._cut or self._connection.transport.is_closing()

    @property
    def muted(self) -> bool:
        """Whether market data may not be sent now."""
        return bool(self.shared.silence) or self.disturber.stalled(self._loop.time())

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run beside `read` as long as the connection lives."""
        faults, rules = self._settings.faults, self._rules
        timers: list[tuple[float | None, Callable[[], Awaitable[None]]]] = [
            (faults.drop_every_s, self.drop),
            (faults.half_frame_every_s, self.half_frame),
            (faults.lifetime_s, self.expire),
            (rules.subscribe_within_s, self._check_subscribed),
        ]
        chores = [self._write(), self._watch_heartbeat()]
        chores += [_after(seconds, action) for seconds, action in timers if seconds is not None]
        if rules.beat_every_s is not None:
            chores.append(self._beat(rules.beat_every_s))
        if rules.server_ping_s is not None:
            chores.append(self._ping(self._settings.server_ping_s or rules.server_ping_s))
        if faults.garbage_every_s is not None:
            chores.append(self._litter(faults.garbage_every_s))
        return chores

    async def read(self, on_request: Callable[[], None]) -> None:
        """Answer requests until the connection is gone."""
        try:
            while True:
                # Bytes, because a client's text is not ours to judge: what is no JSON is ignored.
                request = await self._connection.recv(decode=False)
                self.shared.received.append(request)
                if self._too_fast():
                    log.warning(
                        "%s sends more than %g messages/s: cut", self.name, self._rules.messages_per_s
                    )
                    self.abort()
                    return
                replies = self.session.answer(request, self._settings.now_ms())
                log.debug("%s: %r is answered by %r", self.name, request, [one.payload for one in replies])
                for reply in replies:
                    self._reply(reply)
                if self._rules.traffic_counts:
                    self._heartbeat_s = self._loop.time()
                self.requested.set()
                on_request()
        except ConnectionClosed:
            return

    def _too_fast(self) -> bool:
        times_s, now_s = self._request_times_s, self._loop.time()
        times_s.append(now_s)
        while times_s[0] <= now_s - 1:
            times_s.popleft()
        return len(times_s) > self._rules.messages_per_s

    def _reply(self, reply: Reply) -> None:
        faults, shared = self._settings.faults, self.shared
        if reply.kind is Kind.PONG:
            self._heartbeat_s = self._loop.time()
            if faults.no_pongs or shared.no_pongs:
                return
        if reply.kind is Kind.ACK and (faults.no_acks or shared.no_acks):
            return
        is_data = reply.kind is Kind.DATA  # a snapshot, which belongs to the answer
        if not (is_data and self.muted):
            self.post(Message(reply.payload), is_data=is_data)

    def offer(self, stream: str, frame: bytes) -> None:
        """Send a frame of the generated market, with this line's faults."""
        if not self.muted:
            for disturbed in self.disturber.pass_on(stream, frame, self._loop.time()):
                self.post(Message(disturbed))

    def post(self, message: Message, *, is_data: bool = True) -> None:
        """Put a message into the outbox; market data is remembered when it is sent."""
        if self.gone:
            return
        try:
            self._outbox.put_nowait((message, is_data))
            self._unsent += 1
        except asyncio.QueueFull:
            log.warning("%s reads too slowly: %d messages behind, cut", self.name, self._unsent)
            self.abort()

    async def _write(self) -> None:
        while True:
            message, is_data = await self._outbox.get()
            await self.send(message, is_data=is_data)
            self._unsent -= 1

    async def send(self, message: Message, *, is_data: bool = True) -> None:
        """Send past the outbox; returns when the socket has room again. Nothing if the client is gone."""
        if self.gone:
            return
        if self._settings.keep_sent:  # noted before it leaves: whoever has received it must find it there
            self._sent.append(message.payload)
            if is_data:
                self.shared.sent.append(message.payload)
        if is_data:
            self._last_data = message.payload
        if self._rules.traffic_counts:
            self._heartbeat_s = self._loop.time()
        try:
            await self._connection.send(message.payload, text=message.is_text)
        except ConnectionClosed:
            return

    async def emptied(self) -> None:
        """Wait until the outbox is sent or the client is gone."""
        while self._unsent and not self.gone:
            await asyncio.sleep(0.001)

    async def _watch_heartbeat(self) -> None:
        timeout_s = self._settings.ping_timeout_s or self._rules.heartbeat_s
        if math.isinf(timeout_s):
            return
        while (rest_s := self._heartbeat_s + timeout_s - self._loop.time()) > 0:
            await asyncio.sleep(rest_s)
        log.info("%s gave no heartbeat for %g s: cut", self.name, timeout_s)
        await self._leave(self._exchange.no_heartbeat(self._settings.now_ms()))

    async def _beat(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            for payload in self.session.beats(self._settings.now_ms()):
                self.post(Message(payload), is_data=False)

    async def _ping(self, every_s: float) -> None:
        """Send websocket pings with the time in them; a pong with the same is a heartbeat."""

        def answered(pong: "asyncio.Future[float]") -> None:
            if not pong.cancelled() and pong.exception() is None:
                self._heartbeat_s = self._loop.time()

        while True:
            await asyncio.sleep(every_s)
            if self.gone:
                return
            try:
                pong = await self._connection.ping(str(self._settings.now_ms()).encode())
            except ConnectionClosed:
                return
            asyncio.ensure_future(pong).add_done_callback(answered)

    async def _check_subscribed(self) -> None:
        if not self.session.accepted:
            log.info("%s has not subscribed: cut", self.name)
            self.abort()

    async def expire(self) -> None:
        """End the connection of age: what the exchange says before, then a close frame."""
        log.info("%s has come of age: closed", self.name)
        for payload in self.session.farewell(self._settings.now_ms()):
            self.post(Message(payload), is_data=False)
        await self.emptied()
        self._cut = True
        await self._connection.close(CloseCode.GOING_AWAY)

    async def _leave(self, payload: bytes, *, share: float = 1.0) -> None:
        """Send that share of one last message (b"": none), then cut the connection without a close frame."""
        if self.gone:
            return
        self._cut = True
        message = Frame(Opcode.TEXT, payload).serialize(mask=False) if payload else b""
        transport = self._connection.transport
        transport.write(message[: round(len(message) * share)])
        deadline_s = self._loop.time() + FAREWELL_S
        while transport.get_write_buffer_size() and self._loop.time() < deadline_s:
            await asyncio.sleep(0.005)
        transport.abort()

    async def half_frame(self) -> None:
        """Send the first half of a message (the latest data again), then cut the connection."""
        log.info("%s gets half a frame", self.name)
        payload = self._last_data or self._exchange.no_heartbeat(self._settings.now_ms()) or NOTHING_YET
        await self._leave(payload, share=0.5)

    async def drop(self) -> None:
        """Cut the connection."""
        log.info("%s is dropped", self.name)
        self.abort()

    def abort(self) -> None:
        """Cut the connection at once; what the socket has not taken yet is lost."""
        self._cut = True
        self._connection.transport.abort()

    async def _litter(self, every_s: float) -> None:
        turn = 0
        while True:
            await asyncio.sleep(every_s)
            if self.session.subscribed and not self.muted:
                pieces = self.session.garbage()
                message = pieces[turn % len(pieces)]
                turn += 1
                if self._settings.keep_sent:
                    self.shared.garbage.append(message.payload)
                self.post(message, is_data=False)


def name_of(connection: ServerConnection) -> str:
    """Return a client's host:port."""
    return ":".join(str(part) for part in (connection.remote_address or ("?",))[:2])


async def _after(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(seconds)
    await action()
