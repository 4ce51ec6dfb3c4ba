"""A result on its way from the engine, which writes it into a pipe as if that were a file (INTO OUTFILE).

So every format streams, whole and as the engine writes it, and the engine waits when the reader does: a
result of any size needs the memory of the pipe. What the engine does not do is to stop when the pipe is
closed: it goes on without writing, and has to be killed.
"""

import asyncio
import contextlib
import fcntl
import os

from mexcflow.store.endpoint.refusal import ClientGone

_PIPE_BYTES = 1 << 20


class Pipe:
    """`write_end` is the file that the engine opens; only the event loop reads."""

    def __init__(self, gone: "asyncio.Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        with contextlib.suppress(OSError):  # a user's pipes may be limited to less: slower, that is all
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    async def read(self, timeout_s: float | None = None) -> bytes | None:
        """Return what there is, b"" at the end, None when nothing came in time.

        Raises `ClientGone` when nobody waits for it any more.
        """
        while True:
            if self._gone.done():
                raise ClientGone
            try:
                return os.read(self._read_end, _PIPE_BYTES)
            except BlockingIOError:
                pass
            if not await self._readable(timeout_s):
                return None

    async def _readable(self, timeout_s: float | None) -> bool:
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._read_end, _settle, readable)
        try:
            done, _ = await asyncio.wait(
                {readable, self._gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._loop.remove_reader(self._read_end)
        return bool(done)

    def close_write_end(self) -> None:
        """Let the reader come to the end: the engine is done. Any thread may call it."""
        os.close(self.write_end)

    def close(self) -> None:
        """Nobody reads any more."""
        os.close(self._read_end)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
