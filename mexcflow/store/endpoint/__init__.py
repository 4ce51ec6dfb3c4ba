"""ClickHouse's HTTP protocol in front of the engine that this process has open.

What a server does is in CLICKHOUSE's documents; what differs here:

- one token in place of users and passwords; any user name will do;
- no `compress=1` (ClickHouse's own framing), no external tables, no progress headers, no `role`;
- `query_id` is ours: system.processes shows the engine's own, and KILL QUERY takes both;
- `replace_running_query` is ignored: a second statement with the same id is always refused;
- GET reads only, and so does HEAD.

The engine writes results into a pipe (`pipe.py`) and reads data from a file without a name (`upload.py`).
Any number of results stream at once, and a slow reader holds up nobody else: only its own statement.
"""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mexcflow.errors import Misuse, StoreUnavailable

if TYPE_CHECKING:
    from mexcflow.store.endpoint.app import App
    from mexcflow.store.endpoint.engine import Engine
    from mexcflow.store.endpoint.serve import Server

logger = logging.getLogger(__name__)

_SPARE = 8
"""Worker threads beside those of the statements: they take bodies in, and kill."""


class Endpoint:
    """Serves one folder. `folder` is the very text with which the engine was opened."""

    def __init__(
        self, folder: Path, *, token: str, owner: str, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._folder = folder
        self._token = token
        self._owner = owner
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._server: Server
        self._app: App
        self._engine: Engine
        self._workers: ThreadPoolExecutor

    def start(self) -> int:
        """Bind, serve in a thread of its own, return the port; raises `Misuse` when it cannot be bound."""
        listener = self.bind()
        port: int = listener.getsockname()[1]
        self.serve(listener)
        return port

    def serve(self, listener: socket.socket) -> None:
        """Serve who comes in there, in a thread of its own."""
        from mexcflow.store.endpoint.app import LIMIT, App
        from mexcflow.store.endpoint.engine import Engine
        from mexcflow.store.endpoint.request import Gate
        from mexcflow.store.endpoint.serve import server

        self._engine = Engine(self._folder)
        self._workers = ThreadPoolExecutor(LIMIT + _SPARE, thread_name_prefix="endpoint")
        gate = Gate(token=self._token, owner=self._owner, host=self._host)
        self._app = App(self._folder, self._engine, gate, self._workers, self._owner)
        self._server = server(self._app)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="endpoint", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise StoreUnavailable(f"{self._folder}: the endpoint does not start")
            time.sleep(0.001)

    def close(self, *, grace_s: float = 5.0) -> None:
        """Take no new requests; what runs may end within the time; then it is cancelled and cut."""
        if self._thread is None:
            return
        self._app.draining = True
        self._wait(grace_s)
        until = time.monotonic() + 5
        while (executing := self._engine.statements.executing()) and time.monotonic() < until:
            for running in executing:
                self._engine.statements.kill(running)
            self._wait(0.2)
        self._server.should_exit = True
        self._thread.join()
        self._workers.shutdown(wait=not self._engine.statements.executing())
        self._engine.close()
        self._thread = None

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while len(self._engine.statements) and time.monotonic() < until:
            time.sleep(0.01)

    def bind(self) -> socket.socket:
        """Return a socket with the address that was asked for; raises `Misuse`."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((self._host.strip("[]"), self._port))
        except OSError as error:
            listener.close()
            raise Misuse(
                f"--http-host, --http-port: {self._host}:{self._port} cannot be bound: {error.strerror}",
                hint="Is the port taken (0 means any free one), and is the address one of this machine's?",
            ) from error
        return listener
