"""A result on its way from the engine, which writes it into a pipe as if that were a file (INTO OUTFILE).

So every format streams, whole and as the engine writes it, and the engine waits when the reader does: a
result of any size needs the memory of the pipe. What the engine does not do is to stop when the pipe is
closed: it goes on without writing, and has to be killed.
"""

import asyncio
import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from mexcflow.store.endpoint.refusal import ClientGone

if TYPE_CHECKING:
    from mexcflow.store.endpoint.engine import Outcome

_PIPE_BYTES = 1 << 20


class Pipe:
    """`write_end` is the file that the engine opens; only the event loop reads.

    A result is at its end when its statement is (`ends_with`) and the pipe is empty.
    """

    def __init__(self, gone: "asyncio.Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._ended: asyncio.Future[Outcome] | None = None
        self._waiter: asyncio.Future[None] | None = None
        gone.add_done_callback(self._wake)
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        with contextlib.suppress(OSError):  # a user's pipes may be limited to less: slower, that is all
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def ends_with(self, outcome: "asyncio.Future[Outcome]") -> None:
        """Say which statement writes into the pipe."""
        self._ended = outcome
        outcome.add_done_callback(self._wake)

    async def read(self, timeout_s: float | None = None) -> bytes | None:
        """Return what there is, b"" at the end, None when nothing came in time.

        Raises `ClientGone` when nobody waits for it any more.
        """
        until = None if timeout_s is None else self._loop.time() + timeout_s
        while True:
            if self._gone.done():
                raise ClientGone
            over = self._ended is not None and self._ended.done()  # before the look: nothing comes after it
            try:
                return os.read(self._read_end, _PIPE_BYTES)
            except BlockingIOError:
                pass
            if over:
                return b""
            if until is not None and self._loop.time() >= until:
                return None
            await self._something(until)

    async def _something(self, until: float | None) -> None:
        """Wait until there is something to read, the statement ends, or the client or the time is gone."""
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._read_end, self._wake)
        timer = self._loop.call_at(until, self._wake) if until is not None else None
        try:
            await self._waiter
        finally:
            self._loop.remove_reader(self._read_end)
            if timer:
                timer.cancel()

    def _wake(self, *_: object) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Close what the engine writes to as well: its statement has ended."""
        os.close(self.write_end)

    def stop_reading(self) -> None:
        """Nobody reads any more: what the engine still writes is lost, and it does not wait."""
        os.close(self._read_end)
