"""A ClickHouse server for the tests: the HTTP protocol in front of an embedded store.

Only what clickhouse-connect sends. `requests` holds (query parameters, body) of every POST; `refuse_with`
makes it answer everything with that ClickHouse error, `hangs_up` makes it close the connection in place of
an answer, `password` asks for one.
"""

import base64
import http.server
import re
import threading
from urllib.parse import parse_qsl, urlsplit

from mexcflow.store import Store


class HttpFront:
    def __init__(self, store: Store, password: str = "") -> None:
        self.store = store
        self.password = password
        self.refuse_with: tuple[int, int, str] | None = None  # HTTP status, ClickHouse code, text
        self.break_results_with: tuple[str, bytes] | None = None  # tag, what stands at the end
        self.hangs_up = False
        self.requests: list[tuple[dict[str, str], bytes]] = []
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                front.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "HttpFront":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        parameters = dict(parse_qsl(urlsplit(request.path).query, keep_blank_values=True))
        body = _body(request)
        self.requests.append((parameters, body))
        if self.hangs_up:
            request.close_connection = True
            return
        if self.refuse_with:
            _reply(request, *self.refuse_with)
            return
        expected = "Basic " + base64.b64encode(f"default:{self.password}".encode()).decode()
        if self.password and request.headers.get("Authorization") != expected:
            _reply(request, 403, 516, "Code: 516. DB::Exception: default: Authentication failed: "
                   "password is incorrect. (AUTHENTICATION_FAILED) (version 26.8.1.1)")  # fmt: skip
            return
        try:
            self._run(request, parameters, body)
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            _reply(request, 500, int(code.group(1)) if code else 1, str(error))

    def _run(
        self, request: http.server.BaseHTTPRequestHandler, parameters: dict[str, str], body: bytes
    ) -> None:
        sql, data = parameters.get("query", ""), body
        if not sql:
            head, _, data = body.partition(b"\n") if body.startswith(b"INSERT") else (body, b"", b"")
            sql = head.decode()
        insert = re.match(r"INSERT INTO (.*) FORMAT (\w+)\s*$", sql)
        client = self.store._client
        if insert and data:
            client.raw_insert(insert.group(1), insert_block=data, fmt=insert.group(2))
            _reply(request, 200, 0, "")
            return
        bound = {
            name.removeprefix("param_"): _unescaped(value)
            for name, value in parameters.items()
            if name.startswith("param_")
        }
        result = client.raw_query(sql, parameters=bound or None)
        tag, end = self.break_results_with or ("", b"")
        _reply(request, 200, 0, result + end, tag=tag)


def _body(request: http.server.BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), value, flags=re.S)


def _reply(
    request: http.server.BaseHTTPRequestHandler, status: int, code: int, body: bytes | str, *, tag: str = ""
) -> None:
    payload = body.encode() if isinstance(body, str) else body
    request.send_response(status)
    if code:
        request.send_header("X-ClickHouse-Exception-Code", str(code))
    elif payload:
        request.send_header("X-ClickHouse-Format", "TabSeparated")
    if tag:
        request.send_header("X-ClickHouse-Exception-Tag", tag)
    request.send_header("X-ClickHouse-Timezone", "UTC")
    request.send_header("Content-Length", str(len(payload)))
    request.end_headers()
    request.wfile.write(payload)
