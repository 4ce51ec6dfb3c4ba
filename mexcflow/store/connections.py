"""The connections to a server, for weeks of uptime.

How many: a recording's database is used by one thread, two at most, and a result that is streamed keeps
its connection while another statement runs. So four are kept; nobody ever waits for one, a further one is
made and not kept.

When one is used again: a server closes an idle connection after its `keep_alive_timeout`, in ClickHouse
3 s (before 23.11), 10 s (as configured until 26.5) or 30 s. An INSERT that is sent just then has an unknown
outcome, and costs an error in the statistics, a wait and a look at the fence. urllib3 sees a connection that
is closed already, and cannot see one that is about to be. So a connection is not used again later than
`_MARGIN_S` before what the last answer said (`Keep-Alive: timeout=10`), and where the answer does not say
it, not after `_QUIET_S`. A server that is stopped closes its connections whenever it likes: there the fence
decides, as ever.

How old one gets: `_OLDEST_S`, ten minutes. A new connection asks for the address again and goes through the
load balancer again, so a server that has moved is found although the old one still answers. Nothing is
lost by it: a connection costs a millisecond, with TLS some ten.

A peer that is gone without a word (power cut, a firewall that forgot us): every wait has a time limit, see
`patience.py`; but that of a query is long, because a query may work for minutes. TCP itself notices it
sooner: a peer that does not acknowledge what we sent within `_SILENCE_S` is gone (TCP_USER_TIMEOUT; the
system would try for 15 minutes), and while we wait for an answer it is asked (SO_KEEPALIVE), which also
keeps a NAT from forgetting us.

Nothing here repeats a request. The environment's proxy variables are not looked at.
"""

import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3 import HTTPResponse, PoolManager

_KEPT = 4
_MARGIN_S = 2.0
_QUIET_S = 2.0
_OLDEST_S = 600.0
_SILENCE_S = 30
_ASK_AFTER_S, _ASK_EVERY_S, _ASK_TIMES = 15, 5, 3

_TIMEOUT = re.compile(r"\btimeout=(\d+)")


def socket_options() -> list[tuple[int, int, int]]:
    """Return what is set on every socket to a server."""
    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_EVERY_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ASK_TIMES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_S * 1000),
    ]


def idle_limit_s(keep_alive: str | None) -> float:
    """Return how long a connection may be idle after an answer with this `Keep-Alive` header."""
    announced = _TIMEOUT.search(keep_alive or "")
    return max(0.0, int(announced[1]) - _MARGIN_S) if announced else _QUIET_S


class Age:
    """What a connection must remember to say whether it may be used again.

    The idle time counts from the beginning of the last answer, so it is never taken for too short.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._made = self._used = clock()
        self._idle_limit_s = _QUIET_S

    def answered(self, keep_alive: str | None) -> None:
        """Note an answer and what it says about the connection."""
        self._used = self._clock()
        self._idle_limit_s = idle_limit_s(keep_alive)

    @property
    def is_over(self) -> bool:
        """Whether a new connection is to be made."""
        now = self._clock()
        return now - self._used >= self._idle_limit_s or now - self._made >= _OLDEST_S


def make_pool(tls: ssl.SSLContext | None, *, clock: Callable[[], float] = time.monotonic) -> "PoolManager":
    """Return the pool of one server; `tls` is what https:// needs."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
    from urllib3.connection import HTTPConnection, HTTPSConnection

    # urllib3 asks a pooled connection `is_connected` before it sends, and connects anew if it is not
    class Aging(HTTPConnection):
        _age = Age(clock)

        def connect(self) -> None:
            super().connect()
            self._age = Age(clock)

        def getresponse(self) -> "HTTPResponse":  # type: ignore[override]  # as in urllib3 itself
            response = super().getresponse()
            self._age.answered(response.headers.get("Keep-Alive"))
            return response

        @property
        def is_connected(self) -> bool:
            return super().is_connected and not self._age.is_over

    class AgingTls(Aging, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Aging

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = AgingTls

    pool = PoolManager(
        num_pools=1,
        maxsize=_KEPT,
        block=False,
        retries=False,
        socket_options=socket_options(),
        ssl_context=tls,
    )
    pool.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
    return pool


def close_pool(pool: "PoolManager") -> None:
    """Close the connections that nobody uses; one in use is closed when its answer is read."""
    with pool.pools.lock:
        of_hosts = [pool.pools[key] for key in pool.pools.keys()]  # noqa: SIM118 - it is no dict
    pool.clear()
    for one in of_hosts:
        one.close()
