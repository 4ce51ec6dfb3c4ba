"""A database server that can go away: an embedded store behind HTTP, behind a TCP proxy with faults."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mexcflow.model import Row
from mexcflow.store import open_store
from tests.fault_proxy import FaultProxy
from tests.http_front import HttpFront


class Server:
    """The server at `url`; `store` looks at its tables past all faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = contextlib.ExitStack()

    def __enter__(self) -> "Server":
        self._start()
        self.proxy = FaultProxy(self.front.port)
        self.proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.__exit__(None, None, None)
        self._running.close()

    def _start(self) -> None:
        self.store = self._running.enter_context(open_store(str(self._folder)))
        self.front = self._running.enter_context(HttpFront(self.store))
        self.front.server.handle_error = lambda *_: (
            None
        )  # connections that were cut: as they were meant to be

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Stop the server, and start it again when the block ends."""
        with self.proxy.refuse():
            self._running.close()
            yield
            self._start()
            self.proxy._target_port = self.front.port

    @contextlib.contextmanager
    def refusing(self, answer: tuple[int, int, str]) -> Iterator[None]:
        """Answer everything with this HTTP status, code of ClickHouse, and text."""
        self.front.refuse_with = answer
        try:
            yield
        finally:
            self.front.refuse_with = None

    def command(self, *statements: str) -> None:
        for statement in statements:
            self.store.command(statement)

    def rows(self) -> list[Row]:
        """Return the rows of the table in the order they were stored."""
        return self.store.query(
            "SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.btc SETTINGS max_threads = 1"
        )
