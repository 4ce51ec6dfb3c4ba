"""The endpoint before a real engine, for the tests, and a client that sends exactly what it is told to."""

import contextlib
import http.client
import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from mexcflow.store import Store, open_store
from mexcflow.store.endpoint import Endpoint


class Reply(NamedTuple):
    status: int
    code: int
    """ClickHouse's, 0 for none."""
    body: bytes
    headers: dict[str, str]
    """Names in small letters."""

    @property
    def summary(self) -> dict[str, str]:
        return json.loads(self.headers["x-clickhouse-summary"])


class Served:
    """An engine in this process with its endpoint; `store` is the engine itself."""

    def __init__(self, store: Store, endpoint: Endpoint, port: int, token: str, owner: str) -> None:
        self.store = store
        self.endpoint = endpoint
        self.port = port
        self.token = token
        self.owner = owner
        self._line: http.client.HTTPConnection | None = None

    @property
    def url(self) -> str:
        return f"http://default:{self.token}@127.0.0.1:{self.port}"

    def line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, sql: str = "", body=None, *, method: str = "POST", path: str = "/", headers=None, **parameters
    ) -> Reply:
        """Send one request: `sql` as the body, or in the URL when there is another body or a GET."""
        if sql and (body is not None or method != "POST"):
            parameters["query"] = sql
        else:
            body = sql if body is None else body
        given = {"X-ClickHouse-Key": self.token, **(headers or {})}
        sent = {name: value for name, value in given.items() if value is not None}
        if isinstance(body, str):
            body = body.encode()
        if method != "POST":
            body = None
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        self._line = self._line or self.line()
        # chunked only when it says so itself
        self._line.request(method, target, body, sent, encode_chunked=hasattr(body, "__next__"))
        answer = self._line.getresponse()
        payload = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if found.get("connection") == "close":
            self._line.close()
        return Reply(answer.status, int(found.get("x-clickhouse-exception-code", 0)), payload, found)

    def text(self, sql: str, **parameters) -> str:
        """Return a result as text; the statement must succeed."""
        reply = self.ask(sql, **parameters)
        assert (reply.status, reply.code) == (200, 0), reply.body
        return reply.body.decode()

    def raw(self, data: bytes = b"", *, timeout: float = 30) -> socket.socket:
        """Open a socket and send bytes as they are."""
        line = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        line.sendall(data)
        return line

    def head(self, target: str, *lines: str, method: str = "POST", host: str = "") -> bytes:
        """Return the head of a request for `raw`."""
        first = (f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}")
        return "\r\n".join((*first, f"X-ClickHouse-Key: {self.token}", *lines, "", "")).encode()

    def close(self) -> None:
        if self._line:
            self._line.close()


@contextlib.contextmanager
def serving(folder: Path, **how) -> Iterator[Served]:
    """Own a folder and answer for it."""
    token, owner = secrets.token_hex(8), secrets.token_hex(8)
    with open_store(str(folder)) as store:
        endpoint = Endpoint(store.folder, token=token, owner=owner, **how)
        served = Served(store, endpoint, endpoint.start(), token, owner)
        try:
            yield served
        finally:
            served.close()
            endpoint.close(grace_s=1)


@contextlib.contextmanager
def answering(store: Store) -> Iterator[Store]:
    """Open a second store, through an endpoint of its own, on what this one has open in this process."""
    endpoint = Endpoint(store.folder, token="of this test", owner="test")
    port = endpoint.start()
    try:
        with open_store(f"http://default:of%20this%20test@127.0.0.1:{port}") as other:
            yield other
    finally:
        endpoint.close()


def either(kind: str, store: Store) -> Iterator[Store]:
    """Yield the store itself, or one that reaches it through the endpoint: the same test over both."""
    if kind == "embedded":
        yield store
        return
    with answering(store) as other:
        yield other


def read_all(line: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := line.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)
