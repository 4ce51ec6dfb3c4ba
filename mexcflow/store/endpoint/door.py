"""The door to the endpoint: it is open at once, and who serves behind it comes with the first visitor.

Most processes that own a folder never have one. The server's libraries take 100 ms to load and 20 MB, and
it takes 100 ms to stop.
"""

import selectors
import socket
import threading

from mexcflow.store.endpoint import Endpoint

_BACKLOG = 128


class Door:
    """Listens for an `Endpoint` that has not started yet, and starts it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._bell, self._enough = socket.socketpair()
        self._thread = threading.Thread(target=self._wait, name="door", daemon=True)

    def open(self) -> int:
        """Bind and listen; return the port. Raises `Misuse` when it cannot be bound."""
        self._listener = self._endpoint.bind()
        self._listener.listen(_BACKLOG)
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def close(self, *, grace_s: float) -> None:
        """Let nobody in any more; see `Endpoint.close` for those who are."""
        self._enough.close()
        self._thread.join()
        self._bell.close()
        self._endpoint.close(grace_s=grace_s)
        self._listener.close()

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            rung = {key.fileobj for key, _ in selector.select()}
        if self._bell not in rung:
            self._endpoint.serve(self._listener)
