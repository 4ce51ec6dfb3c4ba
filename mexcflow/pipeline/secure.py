"""Secure: TLS over a socket, also over one that is TLS already, and a limit on the time of a conversation."""

import contextlib
import os
import socket
import ssl
import threading
from types import TracebackType

from urllib3.util.ssltransport import SSLTransport


class TlsInTls(SSLTransport):
    """TLS to the exchange inside TLS to the proxy, as much of a socket as websocket-client needs."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return what is there, b"" at the end; urllib3 returns the number 0 then."""
        return super().recv(buflen, flags) or b""  # type: ignore[return-value]

    def shutdown(self, how: int) -> None:
        """Wake up whoever reads, from any thread."""
        self.socket.shutdown(how)

    @property
    def _closed(self) -> bool:
        """websocket-client closes a socket only if it finds that here."""
        return self.socket.fileno() < 0


Socket = socket.socket | TlsInTls


def secure(sock: Socket, host: str) -> Socket:
    """Return TLS to `host` over a socket; raises `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.create_default_context()
    if isinstance(sock, ssl.SSLSocket):  # the ssl module would take the plain socket below
        return TlsInTls(sock, context, server_hostname=host)
    assert isinstance(sock, socket.socket)  # noqa: S101 - no third TLS: a proxy is one hop
    return context.wrap_socket(sock, server_hostname=host)


class Limit:
    """Gives what happens inside `with` so many seconds in all; raises `TimeoutError`.

    A socket's own timeout is one for each call: whoever sends a byte now and then never reaches it. The
    line is cut through a second descriptor, so it does not matter what is laid over the socket meanwhile.
    """

    def __init__(self, sock: Socket, seconds: float) -> None:
        self._second = socket.socket(fileno=os.dup(sock.fileno()))
        self._passed = threading.Event()
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def _cut(self) -> None:
        self._passed.set()
        with contextlib.suppress(OSError):  # it has gone by itself
            self._second.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._second.close()
        if self._passed.is_set() and (error is None or isinstance(error, Exception)):
            raise TimeoutError(f"not finished within {self._seconds:g} s") from error
