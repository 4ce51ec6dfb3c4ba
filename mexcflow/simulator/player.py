"""Plays recorded frames to one client once it has subscribed.

They are one stream, as those of a real exchange: whoever connects again goes on where an earlier
connection ended, so that nobody is sent a frame twice. Clients that are there together get the same.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterable

from mexcflow.simulator.exchange import Message
from mexcflow.simulator.line import Line
from mexcflow.simulator.settings import Settings

log = logging.getLogger(__name__)

USUAL_SUBSCRIPTIONS = 3
"""So many one instance makes: ticker, deal and depth of its symbol."""
QUIET_S = 0.2
"""No further subscription for so long: it has all it wanted."""
QUIET_AFTER_USUAL_S = 0.02
"""The same once it has the usual ones; its further requests would be in the socket already."""


async def play(line: Line, settings: Settings) -> None:
    """Send the frames in order; afterwards, unless they loop, the connection just stays open."""
    frames = settings.frames or ()
    await _subscribed(line)
    first = line.shared.played % len(frames) if settings.loop else line.shared.played
    source: Iterable[Message] = itertools.cycle(frames) if settings.loop else frames
    log.info("%s: playing from frame %d of %d", line.name, first + 1, len(frames))
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    sent = 0
    try:
        for message in itertools.islice(source, first, None):
            if settings.rate is not None:
                await asyncio.sleep(start_s + sent / settings.rate - loop.time())
            elif sent % 64 == 0:  # sending alone does not yield while the socket has room
                await asyncio.sleep(0)
            while line.muted and not line.gone:
                await asyncio.sleep(0.01)
            if line.gone:
                return
            await _send(line, message)
            sent += 1
        log.info("%s: all %d frames played", line.name, len(frames))
        await loop.create_future()  # until the connection ends
    finally:
        line.shared.played = max(line.shared.played, first + sent)


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
