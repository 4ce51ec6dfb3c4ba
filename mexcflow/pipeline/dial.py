"""Dial: a socket to a host, directly or through a proxy, with TLS where the host wants it.

Websocket and REST share it. The socket is made here and by none of the libraries above it, which would
let the environment's proxy variables decide: a proxy is what --proxy or the instance file says, and with
one nothing ever goes another way.
"""

import socket
import ssl

from mexcflow.errors import ConnectionLost
from mexcflow.pipeline.address import parse_proxy, redacted
from mexcflow.pipeline.proxy import go_through
from mexcflow.pipeline.secure import Limit, Socket, secure

TIMEOUT_S = 10.0
"""How long each step may take: to reach the host or proxy, to be let through, TLS, the first answer."""


def dial(
    host: str, port: int, *, is_secure: bool, proxy: str, where: str, timeout_s: float = TIMEOUT_S
) -> Socket:
    """Return a line to host:port; `where` names it in errors.

    Raises `ConnectionLost`, or `ProxyRefused` when the proxy is at fault.
    """
    sock: Socket | None = None
    try:
        if proxy:
            sock = go_through(parse_proxy(proxy), host, port, timeout_s=timeout_s)
        else:
            sock = socket.create_connection((host, port), timeout=timeout_s)
        _keep_alive(sock)
        if is_secure:
            with Limit(sock, timeout_s):
                sock = secure(sock, host)
    except (OSError, ValueError) as error:  # ValueError: a host's name that cannot be one
        if sock is not None:
            sock.close()
        raise ConnectionLost(f"{where}: {reason(error, timeout_s)}") from error
    return sock


def way_to(url: str, proxy: str) -> str:
    """Return the URL and the way there, for messages."""
    return f"{redacted(url)} through proxy {redacted(proxy)}" if proxy else redacted(url)


def reason(error: Exception, timeout_s: float) -> str:
    """Return what went wrong with a connection, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _keep_alive(sock: Socket) -> None:
    """Send small frames at once, and let the kernel notice a line that is dead."""
    plain = sock if isinstance(sock, socket.socket) else sock.socket
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
