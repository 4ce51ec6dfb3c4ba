"""How long a server may take to answer: less for an INSERT than for a query over a whole table.

An INSERT that hangs has to be given up while frames go on arriving, and so has every question about it.
clickhouse-connect knows one timeout a client, so the pool it sends its requests through is wrapped.

While a request is sent, its timeout is the one of connecting, and it counts anew for each part of the
body: a slow line takes as long as it needs, a line that takes nothing ends the request.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_hurried: ContextVar[bool] = ContextVar("hurried", default=False)


class Patience(NamedTuple):
    """Seconds that a server has."""

    connect_s: float = 10.0
    """For the TCP connection; then for each part of a body to go out."""
    insert_s: float = 30.0
    """For the answer to an INSERT, and to everything that is asked `hurried`."""
    query_s: float = 300.0
    """For the answer to any other statement; a server at work says so every 25 s and then has them anew."""

    @classmethod
    def of(cls, seconds: float | None) -> "Patience":
        """Return the same number of seconds for everything; the usual ones for None."""
        return cls() if seconds is None else cls(seconds, seconds, seconds)

    def for_opening(self) -> dict[str, int]:
        """Return what `get_client` takes, which are whole seconds."""
        return {
            "connect_timeout": math.ceil(self.connect_s),
            "send_receive_timeout": math.ceil(self.insert_s),
        }


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Give every request inside the time of an INSERT."""
    token = _hurried.set(True)
    try:
        yield
    finally:
        _hurried.reset(token)


class PatientPool:
    """A client's pool of connections that sets the timeout of each request."""

    def __init__(self, pool: "PoolManager", patience: Patience) -> None:
        self._pool: Any = pool
        self._patience = patience

    def request(self, method: str, url: str, **how: object) -> "BaseHTTPResponse":
        """Send a request like the pool itself, within our timeouts."""
        from urllib3 import Timeout

        answer_s = self._patience.insert_s if _hurried.get() else self._patience.query_s
        how["timeout"] = Timeout(connect=self._patience.connect_s, read=answer_s)
        how["retries"] = False  # also while the client is made, when clickhouse-connect would ask for one
        response: BaseHTTPResponse = self._pool.request(method, url, **how)
        return response

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)
