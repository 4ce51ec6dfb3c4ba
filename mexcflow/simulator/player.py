"""Plays recorded messages to one client once it has subscribed, each when it is due.

Whoever connects again goes on where an earlier connection ended, so that nobody is sent a message
twice. Clients that are there together get the same.
"""

import asyncio
import logging

from mexcflow.simulator.exchange import Message
from mexcflow.simulator.line import Line
from mexcflow.simulator.settings import LATE_S, Settings
from mexcflow.simulator.tape import Reel, Tape

log = logging.getLogger(__name__)

USUAL_SUBSCRIPTIONS = 3
"""So many one instance makes: ticker, deal and depth of its symbol."""
QUIET_S = 0.2
"""No further subscription for so long: it has all it wanted."""
QUIET_AFTER_USUAL_S = 0.02
"""The same once it has the usual ones; its further requests would be in the socket already."""
_YIELD_MESSAGES = 64


class Pace:
    """When each message is due, in seconds from the first one; None: as soon as the client has room.

    Evenly with a rate. Otherwise by the times of the recording, `speed` times as fast and no pause
    longer than `max_pause_s`. A clock that was set back while it was recorded is no pause.
    """

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.rate
        self._speed = settings.speed if settings.recording is not None else 0.0
        self._max_pause_ns = settings.max_pause_s * 1e9
        self._count = 0
        self._last_ns: int | None = None
        self._played_ns = 0.0

    def due_s(self, at_ns: int) -> float | None:
        """Return when the next message is due, which was received at this time."""
        self._count += 1
        if self._rate is not None:
            return (self._count - 1) / self._rate
        if not self._speed:
            return None
        if self._last_ns is not None:
            self._played_ns += min(max(at_ns - self._last_ns, 0), self._max_pause_ns)
        self._last_ns = at_ns
        return self._played_ns / 1e9 / self._speed


async def play(line: Line, tape: Tape, settings: Settings) -> None:
    """Send what is on the tape; afterwards, unless it loops, the connection just stays open."""
    await _subscribed(line)
    reel = await tape.take()
    log.info("%s: playing from frame %d", line.name, reel.place + 1)
    try:
        await _play(line, reel, Pace(settings))
        if not line.gone:
            log.info("%s: all %d frames played", line.name, reel.place)
        await asyncio.get_running_loop().create_future()  # until the connection ends
    finally:
        tape.give_back(reel)


async def _play(line: Line, reel: Reel, pace: Pace) -> None:
    loop = asyncio.get_running_loop()
    zero_s = loop.time()
    while reel.current is not None:
        at_ns, message = reel.current
        due_s, now_s = pace.due_s(at_ns), loop.time()
        if due_s is not None:
            if now_s - (zero_s + due_s) > LATE_S:  # the client, or we, were slow: no rush afterwards
                zero_s = now_s - due_s
            await asyncio.sleep(zero_s + due_s - now_s)
        elif reel.place % _YIELD_MESSAGES == 0:  # sending alone does not yield while the socket has room
            await asyncio.sleep(0)
        while line.muted and not line.gone:
            await asyncio.sleep(0.01)
        if line.gone:
            return
        reel.advance()  # before it leaves: a connection that ends now may have got it
        await _send(line, message)


async def _send(line: Line, message: Message) -> None:
    now_s = asyncio.get_running_loop().time()
    if not message.is_text:  # faults are for text frames; a binary one passes as it is
        await line.send(message)
        return
    for payload in line.disturber.pass_on("", message.payload, now_s):
        await line.send(Message(payload))


async def _subscribed(line: Line) -> None:
    """Wait until the client has subscribed, asks for nothing more and has all its answers."""
    while not line.session.accepted:
        line.requested.clear()
        await line.requested.wait()
    while True:
        enough = line.session.accepted >= USUAL_SUBSCRIPTIONS
        line.requested.clear()
        try:
            async with asyncio.timeout(QUIET_AFTER_USUAL_S if enough else QUIET_S):
                await line.requested.wait()
        except TimeoutError:
            break
    await line.emptied()
