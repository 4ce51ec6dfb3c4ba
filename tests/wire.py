"""A plain websocket client for the simulated exchanges: it keeps frames as they came, and looks into them."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec
import websocket

CUT = (websocket.WebSocketConnectionClosedException, ConnectionError)


def parsed(frame: bytes) -> Any:
    """Return a frame's content; numbers with a point are Decimals."""
    return json.loads(frame, parse_float=Decimal)


class Wire:
    """One connection. `frames` are those that came, in order."""

    def __init__(self, url: str, *requests: dict | bytes) -> None:
        self.socket = websocket.create_connection(url, timeout=30, skip_utf8_validation=True)
        self.frames: list[bytes] = []
        for request in requests:
            self.ask(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.socket.shutdown()

    def ask(self, request: dict | bytes) -> None:
        """Send a request as one text message."""
        self.socket.send(
            request if isinstance(request, bytes) else json.dumps(request, separators=(",", ":"))
        )

    def raw(self, timeout: float = 30) -> bytes:
        """Return the next message."""
        self.socket.settimeout(timeout)
        opcode, payload = self.socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise websocket.WebSocketConnectionClosedException("closed")
        self.frames.append(payload)
        return payload

    def next(self, wanted: Callable[[Any], object] = bool, timeout: float = 30) -> Any:
        """Return the content of the next frame that is wanted; others are passed over."""
        end = time.monotonic() + timeout
        while True:
            content = parsed(self.raw(max(0.001, end - time.monotonic())))
            if wanted(content):
                return content

    def all_for(self, seconds: float) -> list[Any]:
        """Return what comes meanwhile."""
        end, contents = time.monotonic() + seconds, []
        with suppress(websocket.WebSocketTimeoutException):
            while (rest := end - time.monotonic()) > 0:
                contents.append(parsed(self.raw(rest)))
        return contents

    def until_cut(self) -> list[bytes]:
        """Return all messages up to the end of the connection."""
        frames = []
        with suppress(*CUT):
            while True:
                frames.append(self.raw())
        return frames


def rest_of(address: str, url: str) -> bytes:
    """Return what the simulator at `address` answers to the exchange's own URL."""
    parts = urlsplit(url)
    where = address.replace("ws://", "http://") + parts.path + (f"?{parts.query}" if parts.query else "")
    with urlopen(where, timeout=30) as answer:
        return answer.read()


def undecodable(read: Callable[[bytes], object], payload: bytes) -> bool:
    """Whether the recorder cannot decode a message."""
    try:
        read(payload)
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError):
        return True
    return False


def get(address: str, path: str) -> tuple[int, Any]:
    """Return status and content of a plain GET; `address` is the simulator's."""
    try:
        with urlopen(address.replace("ws://", "http://") + path, timeout=30) as answer:
            return answer.status, parsed(answer.read())
    except HTTPError as error:
        return error.code, parsed(error.read() or b"null")
