"""The HTTP server under the application: uvicorn with httptools, in a thread, silent.

It was taken because it keeps connections, streams with back pressure both ways, parses requests in C, and
tells the application when a client has gone; a ping takes 0.2 ms.
"""

import asyncio
import socket

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mexcflow.store.endpoint.app import App

_HEAD_BYTES = 1 << 18
_HEAD_S = 30.0
_KEEP_ALIVE_S = 3600
"""Idle connections are kept long: an INSERT into one that is just being closed has an unknown outcome."""


class Connection(HttpToolsProtocol):
    """A connection whose requests must have a head of a sensible size, within a sensible time.

    The library takes what comes, and looks through all of it again with each piece.
    """

    _head_bytes = 0
    _in_head = False
    _too_late: asyncio.TimerHandle | None = None

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._head_bytes = True, 0
        self._too_late = self.loop.call_later(_HEAD_S, self.transport.abort)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: bodies may be long."""
        self._in_head = False
        self._in_time()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Take in what has come, unless it is too much."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


class Server(uvicorn.Server):
    """A server that cuts what is still open at its end: a client that does not read would hold it."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is idle, wait a second for the rest, cut it."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # which closes their sockets


def server(app: App) -> Server:
    """Return the server of an application; `run` it with a socket that listens."""
    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
    )
