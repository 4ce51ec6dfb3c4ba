"""Proxy: the way through a proxy to a host.

| scheme | way |
|---|---|
| `http://` | CONNECT |
| `https://` | the same inside TLS to the proxy |
| `socks5://` | SOCKS 5; the host's name is looked up here |
| `socks5h://` | SOCKS 5; the proxy looks the name up |

User and password are percent-decoded, and UTF-8 on the wire. Messages show neither.
"""

import base64
import contextlib
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterator

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.sync import Proxy as Socks

from mexcflow import __version__
from mexcflow.errors import Banned, BannedByProxy, ConnectionLost, ProxyRefused
from mexcflow.pipeline import ban
from mexcflow.pipeline.address import Proxy
from mexcflow.pipeline.secure import Limit, Socket, secure

_FAR_SIDE = (1, 3, 4, 5, 6)
"""SOCKS 5 replies of a proxy that works while the exchange does not; 1 is "general failure"."""
_TOO_MUCH = (418, 429)
_LONGEST_HEAD_BYTES = 65_536
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?")
_NO_HTTP = "it speaks no HTTP"
_HINT = "Is it running, and are address, user and password right? See --proxy and the instance file"


def go_through(proxy: Proxy, host: str, port: int, *, timeout_s: float) -> Socket:
    """Return a line to host:port that leads through the proxy, within `timeout_s` for each of two steps.

    Raises `ProxyRefused` (`BannedByProxy`) when the proxy is at fault, `ConnectionLost` when it works and
    what is behind it does not. The first step is to reach the proxy, the second to be let through.
    """
    shown = f"proxy {proxy.shown}"
    with contextlib.ExitStack() as failing:
        with _blamed_on_proxy(shown, timeout_s):
            sock: Socket = socket.create_connection((proxy.host, proxy.port), timeout=timeout_s)
        failing.callback(sock.close)
        address = _looked_up(host, port) if proxy.scheme == "socks5" else host
        with _blamed_on_proxy(shown, timeout_s), Limit(sock, timeout_s):
            if proxy.scheme == "https":
                sock = secure(sock, proxy.host)
                failing.callback(sock.close)
            if "socks5" in proxy.scheme:
                _socks(proxy, sock, address, port)
            else:
                _connect(proxy, sock, address, port)
        failing.pop_all()
    return sock


@contextlib.contextmanager
def _blamed_on_proxy(shown: str, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, ProxyTimeoutError) as error:
        raise ProxyRefused(f"{shown}: no answer within {timeout_s:g} s", hint=_HINT) from error
    except ssl.SSLError as error:
        hint = "Is it a proxy that is spoken to in TLS? SSL_CERT_FILE names an authority of your own"
        raise ProxyRefused(f"{shown}: TLS: {error.reason or error}", hint=hint) from error
    except (OSError, ProxyError) as error:
        raise ProxyRefused(f"{shown}: {getattr(error, 'strerror', None) or error}", hint=_HINT) from error


def _looked_up(host: str, port: int) -> str:
    """Return an address of the host, an IPv4 one if there is one: not every proxy can do IPv6."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        hint = "With socks5h:// the proxy looks names up"
        raise ConnectionLost(f"{host}: {error.strerror or error}. {hint}") from error
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])


def _connect(proxy: Proxy, sock: Socket, host: str, port: int) -> None:
    """Ask an HTTP proxy for a line.

    python-socks would take whatever comes in one `recv` for the whole answer, and keep `Retry-After`
    to itself.
    """
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: mexcflow/{__version__}"]
    if proxy.user:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = _read_head(sock)
    match = _STATUS.match(head)
    if match is None:
        raise OSError(_NO_HTTP)
    status, reason = int(match[1]), (match[2] or b"").decode("latin-1").strip()
    if 200 <= status < 300:
        return
    said = f"proxy {proxy.shown}: HTTP {status} {reason}".rstrip()
    if status in ban.STATUSES:
        asked_s = ban.read_retry_after(_header(head, "Retry-After"), now_s=time.time())
        if status in _TOO_MUCH:  # of use again later, so it is no mistake in the configuration
            raise Banned(said, retry_after_s=asked_s)
        raise BannedByProxy(said, hint=_HINT, retry_after_s=asked_s)
    if status >= 500:
        raise ConnectionLost(f"{target} through {said}")
    raise ProxyRefused(said, hint=_HINT)


def _read_head(sock: Socket) -> bytes:
    """Read up to the empty line and not a byte further: what follows belongs to what is inside."""
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        byte = sock.recv(1)
        if not byte or len(head) == _LONGEST_HEAD_BYTES:
            raise OSError(f"it hung up after {len(head)} bytes of its answer" if not byte else _NO_HTTP)
        head += byte
    return bytes(head)


def _header(head: bytes, name: str) -> str | None:
    lines = io.BytesIO(head.partition(b"\n")[2])
    try:
        return http.client.parse_headers(lines).get(name)
    except http.client.HTTPException:
        return None


class _Utf8(str):
    """A text that python-socks, which knows ASCII only, sends as UTF-8 with its length in bytes."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", errors)


class _Reached(Socks):
    """The line to the proxy, in the shape of a proxy before it."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock

    def connect(self, *_: object, **__: object) -> socket.socket:
        return self._sock  # type: ignore[return-value]


def _socks(proxy: Proxy, sock: Socket, host: str, port: int) -> None:
    through = Socks(
        ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        _Utf8(proxy.user) if proxy.user else None,
        _Utf8(proxy.password) if proxy.password else None,
        rdns=True,
        forward=_Reached(sock),
    )
    try:
        through.connect(host, port)
    except ProxyError as error:
        if error.error_code in _FAR_SIDE:
            raise ConnectionLost(f"{host}:{port} through proxy {proxy.shown}: {error}") from error
        raise
