"""Connect: open a websocket, directly or through a proxy, and read whole frames from it.

websocket-client does the handshake, masking, control frames and fragments. What it does slowly is the
common case: two to three `recv` calls and 4 µs a frame. `Line` reads what the socket has in one call
and cuts whole, unfragmented messages out of that buffer itself; everything else (pings, closes,
fragments, a frame cut in two) goes the library's way, from the same buffer.
"""

import re
import socket
import ssl
import time
from urllib.parse import urlsplit

import websocket
from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.sync import Proxy

from mexcflow.errors import ConnectionLost, Misuse, ProxyRefused

_READ_BYTES = 65_536
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_CONNECT_TIMEOUT_S = 10.0
TICK_S = 0.5
"""How long `Line.read` waits at most: the caller looks at its clocks that often on a quiet line."""

_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_DATA_OPCODES = (0x0, 0x1, 0x2)
_FAR_SIDE = (3, 4, 5, 6, 502, 503, 504)
"""What a proxy answers when it works and the exchange does not: SOCKS 5 replies, HTTP statuses."""
_PROXY_SCHEMES = {"http": 80, "socks5": 1080, "socks5h": 1080}


class Line(websocket.WebSocket):  # type: ignore[misc]  # websocket-client is not typed through
    """A websocket whose messages are read many at a time."""

    shown_url = ""
    """Where it goes, without user, password and query."""
    received_ns = 0
    """When the last bytes were read: the receive time of every message of the last `read`."""
    _buffer = b""
    _at = 0

    def read(self) -> list[bytes]:
        """Return the messages that are here, at least one; an empty list after `TICK_S` without any.

        Raises `ConnectionLost` with the reason. A message is only returned whole.
        """
        messages: list[bytes] = []
        try:
            while not messages:
                if self._in_library_frame():
                    self._read_slowly(messages)
                    continue
                self._cut(messages)
                if messages:
                    break
                if self._wants_library():
                    self._read_slowly(messages)
                else:
                    self._fill()
        except (TimeoutError, websocket.WebSocketTimeoutException):
            return messages
        except websocket.WebSocketConnectionClosedException as error:
            raise ConnectionLost("connection lost: closed without a close frame") from error
        except websocket.WebSocketException as error:
            raise ConnectionLost(f"connection lost: websocket protocol: {error}") from error
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror or error}") from error
        return messages

    def _cut(self, messages: list[bytes]) -> None:
        """Move every whole, unfragmented message at the front of the buffer to `messages`."""
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        while end - at >= 2:
            first, size = buffer[at], buffer[at + 1]
            if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
                break
            start = at + 2
            if size == 126:
                start += 2
                size = int.from_bytes(buffer[at + 2 : start], "big")
            elif size > 126:  # eight bytes of length, or a mask: no server sends one to a client
                break
            if start + size > end:
                break
            messages.append(buffer[start : start + size])
            at = start + size
        self._at = at

    def _wants_library(self) -> bool:
        """Say whether what is next in the buffer is for websocket-client: a control frame, a fragment."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return False
        size = buffer[at + 1]
        if size == 127 and buffer[at] & 0x0F in _DATA_OPCODES:
            if len(buffer) - at < 10:
                return False
            declared = int.from_bytes(buffer[at + 2 : at + 10], "big")
            if declared > _MAX_MESSAGE_BYTES:
                raise ConnectionLost(f"connection lost: a message of {declared} bytes was announced")
            return True
        return buffer[at] not in (_WHOLE_TEXT, _WHOLE_BINARY) or size > 126

    def _in_library_frame(self) -> bool:
        """Say whether websocket-client was interrupted inside a frame, which it then has to finish."""
        frames = self.frame_buffer
        return frames.header is not None or bool(frames.recv_buffer)

    def _read_slowly(self, messages: list[bytes]) -> None:
        opcode, payload = self.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            reason = payload[2:].decode("utf-8", "replace")
            raise ConnectionLost(f"closed by the exchange: code {code} {reason}".rstrip())
        messages.append(payload)

    def _fill(self) -> None:
        if self.sock is None:
            raise websocket.WebSocketConnectionClosedException("the socket is closed")
        more = self.sock.recv(_READ_BYTES)
        self.received_ns = time.time_ns()
        if not more:
            raise websocket.WebSocketConnectionClosedException("end of stream")
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def _recv(self, bufsize: int) -> bytes:
        """Serve websocket-client from the buffer."""
        if self._at == len(self._buffer):
            self._fill()
        chunk = self._buffer[self._at : self._at + bufsize]
        self._at += len(chunk)
        return chunk

    def transmit(self, payload: bytes) -> None:
        """Send one text frame; raises `ConnectionLost`."""
        try:
            self.send(payload)
        except (websocket.WebSocketException, OSError) as error:
            raise ConnectionLost(f"connection lost while sending: {error}") from error


def open_line(url: str, proxy: str = "") -> Line:
    """Connect to a websocket URL; raises `ConnectionLost`, or `ProxyRefused` when the proxy is at fault.

    The socket is made here and not by websocket-client, which would let the environment's proxy
    variables decide: a proxy is what --proxy or the instance file says.
    """
    host, port, secure = _target(url)
    sock: socket.socket | None = None
    try:
        if proxy:
            sock = _through_proxy(proxy, host, port)
        else:
            sock = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if secure:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        line: Line = websocket.create_connection(
            url,
            timeout=_CONNECT_TIMEOUT_S,
            class_=Line,
            socket=sock,
            skip_utf8_validation=True,  # decoding finds bad text anyhow; the check costs 30 µs a frame
        )
    except (websocket.WebSocketException, OSError, ValueError) as error:
        if sock is not None:
            sock.close()
        raise ConnectionLost(f"{redacted(url)}: {_reason(error)}") from error
    line.shown_url = redacted(url)
    line.settimeout(TICK_S)
    return line


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError | websocket.WebSocketTimeoutException):
        return f"no answer within {_CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, websocket.WebSocketBadStatusException):
        return f"the handshake was answered with HTTP {error.status_code}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _target(url: str, *, where: str = "--endpoint") -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        host, port, secure = parts.hostname, parts.port, parts.scheme == "wss"
    except ValueError:
        host, port, secure = None, 0, False
    if not host or port == 0 or parts.scheme not in ("ws", "wss"):
        raise Misuse(
            f"{where}: {redacted(url)!r} is no websocket URL", hint="It looks like wss://host:port/path"
        )
    return host, port or (443 if secure else 80), secure


def check_proxy(proxy: str, *, where: str) -> None:
    """Raise `Misuse` unless `proxy` is a proxy's URL that we can use."""
    if not proxy:
        return
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Misuse(
            f"{where}: {redacted(proxy)!r} is no proxy's URL",
            hint="It looks like http://user:password@host:port, socks5://host:port or socks5h://host:port",
        )


def check_endpoint(url: str, *, where: str) -> None:
    """Raise `Misuse` unless `url` is a websocket's."""
    _target(url, where=where)


def redacted(proxy: str) -> str:
    """Return a URL (or what was meant as one) without user, password and query, for messages."""
    credentials, at, address = proxy.partition("?")[0].rpartition("@")
    scheme = re.match(r"\w+://", credentials) if at else None
    return f"{scheme.group()}{address}" if scheme else address


def _through_proxy(proxy: str, host: str, port: int) -> socket.socket:
    parts = urlsplit(proxy)
    shown = redacted(proxy)
    # python-socks calls remote name resolution rdns, and knows one scheme for both kinds of SOCKS 5
    url = f"{parts.scheme.removesuffix('h') if parts.scheme == 'socks5h' else parts.scheme}://"
    if parts.username:
        url += f"{parts.username}:{parts.password or ''}@"
    url += f"{parts.hostname}:{parts.port or _PROXY_SCHEMES[parts.scheme]}"
    through = Proxy.from_url(url, rdns=parts.scheme != "socks5")
    try:
        return through.connect(host, port, timeout=_CONNECT_TIMEOUT_S)
    except ProxyTimeoutError as error:
        raise ProxyRefused(f"proxy {shown}: no answer within {_CONNECT_TIMEOUT_S:g} s", hint=_HINT) from error
    except ProxyError as error:
        if error.error_code in _FAR_SIDE:
            raise ConnectionLost(f"{host}:{port} through proxy {shown}: {error}") from error
        raise ProxyRefused(f"proxy {shown}: {error}", hint=_HINT) from error
    except (ProxyConnectionError, OSError) as error:
        raise ProxyRefused(f"proxy {shown}: {error.strerror or error}", hint=_HINT) from error


_HINT = "Is it running, and are address, user and password right? See --proxy and the instance file"
