"""Rest: one GET over http or https, directly or through a proxy, by the same way as the websocket.

A connection a request. Redirects are not followed: they could lead past the proxy. An answer that does
not say how long it is, is refused: it could have been cut anywhere, even within its head.
"""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from mexcflow import __version__
from mexcflow.errors import Banned, ConnectionLost, Misuse, Permanent
from mexcflow.pipeline import ban
from mexcflow.pipeline.address import redacted
from mexcflow.pipeline.dial import TIMEOUT_S, dial, reason, way_to
from mexcflow.pipeline.secure import Limit, Socket

_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back; `retry_after_s` is 0 where the exchange did not ask for a pause."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


def fetch(url: str, *, proxy: str = "", timeout_s: float = TIMEOUT_S, max_bytes: int = _MAX_BYTES) -> Answer:
    """GET a URL; `timeout_s` is for each step, of which the whole answer is one.

    Raises `Banned` for HTTP 403, 418, 429 and 451 (any other status is returned), `ConnectionLost`,
    `ProxyRefused`, and `Permanent` for an answer longer than `max_bytes`.
    """
    host, port, is_secure, target = _taken_apart(url)
    where = way_to(url, proxy)
    sock = dial(host, port, is_secure=is_secure, proxy=proxy, where=where, timeout_s=timeout_s)
    try:
        with Limit(sock, timeout_s):
            named = f"[{host}]" if ":" in host else host
            answer = _ask(sock, named if port in (80, 443) else f"{named}:{port}", target, max_bytes)
    except http.client.IncompleteRead as error:
        raise ConnectionLost(f"{where}: the answer is cut short, or does not say its length") from error
    except http.client.HTTPException as error:
        raise ConnectionLost(f"{where}: no HTTP: {error!r}") from error
    except OSError as error:
        raise ConnectionLost(f"{where}: {reason(error, timeout_s)}") from error
    finally:
        sock.close()
    if len(answer.body) > max_bytes:
        raise Permanent(f"{where}: the answer is longer than {max_bytes:,} bytes")
    if answer.status in ban.STATUSES:
        raise Banned(f"{where}: HTTP {answer.status}", retry_after_s=answer.retry_after_s)
    return answer


def at_endpoint(url: str, endpoint: str) -> str:
    """Return an exchange's REST URL, or the same path at the websocket's URL that was given in its place."""
    if not endpoint:
        return url
    own, given = urlsplit(url), urlsplit(endpoint)
    return urlunsplit((given.scheme.replace("ws", "http"), given.netloc, own.path, own.query, ""))


def _ask(sock: Socket, host: str, target: str, max_bytes: int) -> Answer:
    connection = http.client.HTTPConnection(host)
    connection.sock = sock  # so it opens none of its own, and looks at no environment
    headers = {
        "Host": host,
        "User-Agent": f"mexcflow/{__version__}",
        "Accept": "application/json",
        "Connection": "close",
    }
    connection.request("GET", target, headers=headers)
    with connection.getresponse() as response:
        if response.length is None and not response.chunked:
            raise http.client.IncompleteRead(b"")
        asked_s = ban.read_retry_after(response.headers.get("Retry-After"), now_s=time.time())
        body = response.read(max_bytes + 1)
        if len(body) <= max_bytes and response.length:  # a read with a limit tells of no early end
            raise http.client.IncompleteRead(body)
        return Answer(response.status, body, asked_s)


def _taken_apart(url: str) -> tuple[str, int, bool, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise Misuse(f"{redacted(url)!r} is no URL for REST", hint="It looks like https://host/path")
    is_secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or (443 if is_secure else 80), is_secure, target
