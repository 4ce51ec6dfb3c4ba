"""Recorded messages as a tape that several clients may be at different places of; one by one, never held.

They are one stream, as those of a real exchange: whoever connects again goes on where an earlier
connection ended. The reel of that connection is kept for it, so that going on does not mean reading
half a day again.
"""

import asyncio
from collections.abc import Callable, Iterator

from mexcflow.simulator.exchange import Message
from mexcflow.simulator.settings import Settings

Timed = tuple[int, Message]
"""When a message was received (Unix ns; 0 where nobody knows), and the message."""

_GZIP = b"\x1f\x8b"
"""Exchanges send gzip as binary messages. A recording does not say which kind a message was."""
_YIELD_MESSAGES = 1000


class Reel:
    """One client's way along the tape: `current` is what it is sent next, None at the end."""

    def __init__(self, messages: Iterator[Timed], *, place: int = 0) -> None:
        self._messages = messages
        self.place = place
        self.current = next(messages, None)

    def advance(self) -> None:
        """Go on to the next message."""
        self.place += 1
        self.current = next(self._messages, None)


class Tape:
    """The messages that `read` yields, again and again with `loop`."""

    def __init__(self, read: Callable[[], Iterator[Timed]], *, loop: bool) -> None:
        self._read = read
        self._loop = loop
        self._length = 0  # not known before its end was seen
        self._place = 0
        self._kept: Reel | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Tape | None":
        """Return the tape of what is to be played, None if nothing is."""
        frames, recording = settings.frames, settings.recording
        if frames is not None:
            return cls(lambda: ((0, message) for message in frames), loop=settings.loop)
        if recording is not None:
            return cls(lambda: _typed(recording()), loop=settings.loop)
        return None

    async def take(self) -> Reel:
        """Return a reel at the furthest place that any ended client has come to."""
        if self._kept is not None:
            reel, self._kept = self._kept, None
            return reel
        start = self._place - self._place % self._length if self._length else 0
        reel = Reel(self._messages(), place=start)
        while reel.place < self._place and reel.current is not None:
            reel.advance()
            if reel.place % _YIELD_MESSAGES == 0:  # the other clients go on meanwhile
                await asyncio.sleep(0)
        return reel

    def give_back(self, reel: Reel) -> None:
        """Take a reel back from a client that is gone."""
        if reel.place >= self._place:
            self._place, self._kept = reel.place, reel

    def _messages(self) -> Iterator[Timed]:
        while True:
            length = 0
            for timed in self._read():
                length += 1
                yield timed
            self._length = length
            if not self._loop or not length:
                return


def _typed(recording: Iterator[tuple[int, bytes]]) -> Iterator[Timed]:
    for at_ns, payload in recording:
        yield at_ns, Message(payload, is_text=not payload.startswith(_GZIP))
