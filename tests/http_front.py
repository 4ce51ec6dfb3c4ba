"""A ClickHouse server for the tests, which can be made to fail: the endpoint, behind a front that has faults.

`requests` holds (query parameters, body) of every POST; `refuse_with` makes it answer everything with that
ClickHouse error, `hangs_up` makes it close the connection in place of an answer, `moved_to` sends every
request to another address, `password` asks for one of `user`, `profile` are settings for requests that do not
give them. Everything else is executed by the project's own endpoint, as its clients sent it.

It is another version when `lacks` names settings that it does not know, or `fixes` such as may not be set:
a request with one of them is refused. `keep_alive` is what its answers say about the connection, `peers`
has the client's port of each request: another one is another connection. With `tls` it speaks https.

Like a server it refuses a query id that is running (code 216), and it executes an INSERT to its end
whether or not its client still waits: `with front.holding_inserts():` keeps them running until it ends.
"""

import base64
import contextlib
import http.client
import http.server
import ssl
import threading
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from mexcflow.store import Store
from mexcflow.store.endpoint import Endpoint

TOKEN = "of the endpoint behind the front"
PASSED_ON = ("content-type", "content-encoding", "accept-encoding")


class Reply(NamedTuple):
    status: int
    code: int
    """ClickHouse's, 0 for none."""
    body: bytes | str
    headers: dict[str, str]


class HttpFront:
    def __init__(
        self, store: Store, password: str = "", *, user: str = "default", tls: ssl.SSLContext | None = None
    ) -> None:
        self.store = store
        self.user, self.password = user, password
        self.lacks: set[str] = set()
        self.fixes: set[str] = set()
        self.keep_alive = ""
        self.peers: list[int] = []
        self.refuse_with: tuple[int, int, str] | None = None  # HTTP status, ClickHouse code, text
        self.break_results_with: tuple[str, bytes] | None = None  # tag, what stands at the end
        self.hangs_up = False
        self.moved_to = ""
        self.profile: dict[str, str] = {}
        self.running: set[str] = set()
        self._go_on = threading.Event()
        self._go_on.set()
        self.requests: list[tuple[dict[str, str], bytes]] = []
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # as a real server; 40 ms an answer otherwise

            def do_POST(self) -> None:
                front.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._start_engine()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "HttpFront":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        self._stop_engine()

    def _start_engine(self) -> None:
        self._endpoint = Endpoint(self.store.folder, token=TOKEN, owner="front")
        self._behind = self._endpoint.start()

    def _stop_engine(self) -> None:
        self._endpoint.close()

    @property
    def inserts(self) -> list[dict[str, str]]:
        """The query parameters of every INSERT with rows."""
        return [
            parameters
            for parameters, body in self.requests
            if parameters.get("query", body[:6].decode(errors="replace")).startswith("INSERT")
        ]

    @contextlib.contextmanager
    def holding_inserts(self) -> Iterator[None]:
        """Let no INSERT get on until the block ends; they count as running meanwhile."""
        self._go_on.clear()
        try:
            yield
        finally:
            self._go_on.set()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        parameters = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
        query_id = parameters.get("query_id", "")
        known = query_id in self.running
        self.running.add(query_id)  # as soon as its head is there, as in a server
        try:
            body = _body(request)
            if body is None:  # it was cut: nothing of it is executed
                request.close_connection = True
                return
            self.requests.append((parameters, body))
            self.peers.append(request.client_address[1])
            if self.hangs_up:
                request.close_connection = True
                return
            reply = self._refusal(request, parameters, known) or self._executed(request, parameters, body)
        finally:
            if not known:
                self.running.discard(query_id)
        if self.keep_alive:
            reply.headers["Keep-Alive"] = self.keep_alive
        _reply(request, reply)

    def _refusal(
        self, request: http.server.BaseHTTPRequestHandler, parameters: dict[str, str], known: bool
    ) -> Reply | None:
        if self.moved_to:
            return Reply(301, 0, "", {"Location": self.moved_to + request.path})
        if self.refuse_with:
            return Reply(*self.refuse_with, {})
        expected = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if self.password and request.headers.get("Authorization") != expected:
            return Reply(403, 516, "Code: 516. DB::Exception: default: Authentication failed: "
                         "password is incorrect. (AUTHENTICATION_FAILED) (version 26.8.1.1)", {})  # fmt: skip
        if known:
            return Reply(500, 216, f"Code: 216. DB::Exception: Query with id = {parameters['query_id']} is "
                         "already running. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)", {})  # fmt: skip
        for name in self.lacks & parameters.keys():
            return Reply(404, 115, f"Code: 115. DB::Exception: Setting {name} is neither a builtin setting "
                         "nor started with the prefix 'SQL_'. (UNKNOWN_SETTING)", {})  # fmt: skip
        for name in self.fixes & parameters.keys():
            return Reply(500, 164, f"Code: 164. DB::Exception: Cannot modify '{name}' setting in readonly "
                         "mode. (READONLY)", {})  # fmt: skip
        return None

    def _executed(
        self, request: http.server.BaseHTTPRequestHandler, parameters: dict[str, str], body: bytes
    ) -> Reply:
        if body.startswith(b"INSERT") or parameters.get("query", "").startswith("INSERT"):
            self._go_on.wait()
        if self.lacks or self.fixes:
            body = body.replace(
                b"name, value, readonly FROM system.settings",
                f"name, value, if(name IN {[*self.fixes, '']}, 1, readonly)::UInt8 AS readonly FROM "
                f"system.settings WHERE name NOT IN {[*self.lacks, '']}".encode(),
            )
        tag, end = self.break_results_with or ("", b"")
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        if tag:
            headers.pop("accept-encoding", None)  # the end is put behind what is not packed
        line = http.client.HTTPConnection("127.0.0.1", self._behind)
        target = "/?" + urlencode({**self.profile, **parameters})
        line.request("POST", target, body, {**headers, "X-ClickHouse-Key": TOKEN})
        answer = line.getresponse()
        payload = answer.read()
        line.close()
        found = {name: value for name, value in answer.getheaders() if name not in ("content-length", "date")}
        code = int(found.pop("x-clickhouse-exception-code", 0))
        if tag:
            found["x-clickhouse-exception-tag"] = tag
        return Reply(answer.status, code, payload + end, found)


def _body(request: http.server.BaseHTTPRequestHandler) -> bytes | None:
    """Return the body of a request, None if the connection ended before it did."""
    if request.headers.get("Transfer-Encoding") != "chunked":
        length = int(request.headers.get("Content-Length", 0))
        body = request.rfile.read(length)
        return body if len(body) == length else None
    body = b""
    with contextlib.suppress(ValueError, ConnectionError):
        while size := int(request.rfile.readline(), 16):
            body += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
        return body
    return None


def _reply(request: http.server.BaseHTTPRequestHandler, reply: Reply) -> None:
    payload = reply.body.encode() if isinstance(reply.body, str) else reply.body
    headers = {"Content-Length": str(len(payload)), **reply.headers}
    if reply.code:
        headers["X-ClickHouse-Exception-Code"] = str(reply.code)
    with contextlib.suppress(ConnectionError):  # a client that does not wait any more
        request.send_response(reply.status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(payload)
