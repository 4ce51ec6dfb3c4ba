"""The HTTP server under the application: uvicorn with httptools, in a thread, silent.

It was taken because it keeps connections, streams with back pressure both ways, parses requests in C, and
tells the application when a client has gone; a ping takes 0.2 ms.
"""

import asyncio
import socket

import uvicorn

from mexcflow.store.endpoint.app import App

_KEEP_ALIVE_S = 3600
"""Idle connections are kept long: an INSERT into one that is just being closed has an unknown outcome."""


class Server(uvicorn.Server):
    """A server that at its end cuts what is still open: a client that does not read could hold it for ever."""

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
            http="httptools",
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
