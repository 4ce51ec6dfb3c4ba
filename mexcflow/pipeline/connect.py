"""Connect: open a websocket and read whole frames from it.

websocket-client does the handshake, masking, control frames and fragments. What it does slowly is the
common case: two to three `recv` calls and 4 µs a frame. `Line` reads what the socket has in one call
and cuts whole, unfragmented messages out of that buffer itself; everything else (pings, closes,
fragments, a frame cut in two) goes the library's way, from the same buffer.
"""

import time

import websocket

from mexcflow.errors import Banned, ConnectionLost
from mexcflow.pipeline import ban
from mexcflow.pipeline.address import parse_endpoint, redacted
from mexcflow.pipeline.dial import TIMEOUT_S, dial, reason, way_to
from mexcflow.pipeline.secure import Limit, Socket

_READ_BYTES = 65_536
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
TICK_S = 0.5
"""How long `Line.read` waits at most: the caller looks at its clocks that often on a quiet line."""

_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_DATA_OPCODES = (0x0, 0x1, 0x2)


class _NoCookies:
    """What websocket-client keeps cookies in, for the whole process, and cannot be told not to.

    An exchange could tell from them that two proxies are one user.
    """

    def add(self, set_cookie: str | None) -> None:
        """Keep nothing."""

    def get(self, host: str) -> str:
        """Have nothing."""
        return ""


websocket._handshake.CookieJar = _NoCookies()


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


def open_line(url: str, proxy: str = "", *, timeout_s: float = TIMEOUT_S) -> Line:
    """Connect to a websocket URL, directly or through a proxy; `timeout_s` is for each step.

    Raises `ConnectionLost`, of which `Banned` is one, or `ProxyRefused` when the proxy is at fault.
    """
    where = way_to(url, proxy)
    sock = reach(url, proxy, timeout_s=timeout_s)
    try:
        with Limit(sock, timeout_s):
            line: Line = websocket.create_connection(
                url,
                timeout=timeout_s,
                class_=Line,
                socket=sock,
                redirect_limit=0,  # it would follow one without the proxy
                skip_utf8_validation=True,  # decoding finds bad text anyhow; the check costs 30 µs a frame
            )
    except websocket.WebSocketBadStatusException as error:
        sock.close()
        said = f"{where}: the handshake was answered with HTTP {error.status_code}"
        if error.status_code in ban.STATUSES:
            asked = (error.resp_headers or {}).get("retry-after")
            asked_s = ban.read_retry_after(asked, now_s=time.time())
            raise Banned(said, retry_after_s=asked_s) from error
        raise ConnectionLost(said) from error
    except (websocket.WebSocketException, OSError, ValueError) as error:
        sock.close()
        late = isinstance(error, websocket.WebSocketTimeoutException)
        said = reason(TimeoutError() if late else error, timeout_s)
        raise ConnectionLost(f"{where}: {said}") from error
    line.shown_url = redacted(url)
    line.settimeout(TICK_S)
    return line


def reach(url: str, proxy: str = "", *, timeout_s: float = TIMEOUT_S) -> Socket:
    """Return a line to where a websocket URL points, before a word is said; raises as `open_line`."""
    host, port, is_secure = parse_endpoint(url)
    where = way_to(url, proxy)
    return dial(host, port, is_secure=is_secure, proxy=proxy, where=where, timeout_s=timeout_s)
