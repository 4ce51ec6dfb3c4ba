"""Journal: what stands between receive and decode.

`Journal` is the seam. The receive thread appends frames as they come; the insert thread takes them in
order, and acknowledges them once their rows are in the table. `MemoryJournal` keeps that order in
memory only: it survives neither a crash nor a power cut, and while the database is away it holds what
fits `limit_bytes`. Then `append` waits, the kernel's buffers fill, and the exchange sees a slow reader:
nothing that was read is dropped. The journal on disk takes its place behind the same four methods.
"""

import threading
from collections import deque
from typing import Protocol

from mexcflow.model import Frame

DEFAULT_LIMIT_BYTES = 256 * 1024 * 1024
_FRAME_OVERHEAD_BYTES = 200
"""What a frame costs in memory beyond its payload: a tuple, an int, a bytes header (CPython 3.11)."""


class Journal(Protocol):
    """Frames between the receive thread (append) and the insert thread (wait, take, acknowledge)."""

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        """Keep the messages of one read; they are safe, to the degree promised, when this returns."""

    def wait(self, at_least: int, seconds: float) -> None:
        """Return once `at_least` frames wait, after `seconds`, or at `close`."""

    def take(self, at_most: int) -> list[Frame]:
        """Return the next frames in order, without forgetting them; none when there are none."""

    def acknowledge(self) -> None:
        """Forget what the last `take` returned: the table has its rows."""

    def close(self) -> None:
        """Nothing more will be appended: end every wait."""

    @property
    def backlog(self) -> int:
        """How many frames are not yet acknowledged."""


class MemoryJournal:
    """A bounded journal in memory, for one writer and one reader."""

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._taken: list[Frame] = []
        self._wanted = 0
        self._closed = False
        self._changed = threading.Condition()

    def append(self, received_ns: int, payloads: list[bytes]) -> None:
        """See `Journal`; waits while the journal is full, until room is made or it is closed."""
        with self._changed:
            while self._bytes > self._limit_bytes and not self._closed:
                self._changed.wait()
            self._frames.extend([Frame(received_ns, payload) for payload in payloads])
            self._bytes += _size(payloads)
            # waking the reader costs a context switch: only when it waits for this many
            if self._wanted and len(self._frames) >= self._wanted:
                self._wanted = 0
                self._changed.notify_all()

    def wait(self, at_least: int, seconds: float) -> None:
        """See `Journal`."""
        with self._changed:
            if self._closed or len(self._frames) >= at_least:
                return
            self._wanted = at_least
            self._changed.wait(seconds)
            self._wanted = 0

    def take(self, at_most: int) -> list[Frame]:
        """See `Journal`; what was taken and not acknowledged is returned again."""
        if not self._taken:
            with self._changed:
                count = min(at_most, len(self._frames))
                self._taken = [self._frames.popleft() for _ in range(count)]
        return self._taken

    def acknowledge(self) -> None:
        """See `Journal`."""
        freed = _size([frame.payload for frame in self._taken])
        with self._changed:
            self._taken = []
            self._bytes -= freed
            self._changed.notify_all()

    def close(self) -> None:
        """See `Journal`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def backlog(self) -> int:
        """See `Journal`."""
        return len(self._frames) + len(self._taken)


def _size(payloads: list[bytes]) -> int:
    return sum(map(len, payloads)) + _FRAME_OVERHEAD_BYTES * len(payloads)
