"""A server: opened, and followed when it comes back as another one.

clickhouse-connect asks a server once, when it is opened, which settings it knows and which of them we may
set, and from then on sends what it chose with every statement. A recording lives longer than that: the
server comes back as another version, or with other rights. It would then refuse everything (code 115, 164
or 452), and what is refused for good ends a recording. So after such a refusal the server is asked again.
If what goes along with every statement changes by that, the refusal was transient and the next attempt is
another one. If it does not, the refusal was meant for the statement.

Of what is left, nothing is believed for longer than an answer: each one names its own time zone, and
client_protocol_version, which changes the bytes of an answer, is not asked for.
"""

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from mexcflow.errors import StoreUnavailable
from mexcflow.store.connections import close_pool, make_pool
from mexcflow.store.credentials import Address, read_address, read_certificates
from mexcflow.store.patience import Patience, PatientPool, hurried
from mexcflow.store.store import Attached, Store
from mexcflow.store.translate import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from urllib3 import BaseHTTPResponse, PoolManager

logger = logging.getLogger(__name__)

_SETTING_REFUSED = frozenset({"115", "164", "452"})  # unknown, read-only, against a constraint
_ZONE = "session_timezone"


def open_server(location: str, patience: Patience) -> Store:
    """Open a server; see `open_store` for the errors."""
    address = read_address(location)
    line = connect(address, patience)

    def release() -> None:
        line.client.close()
        close_pool(line.pool)

    return Store(Attached(line.client, embedded=False, release=release), address.shown, None)


class Line(NamedTuple):
    """An open client and its connections."""

    client: "Client"
    pool: "PoolManager"


def connect(address: Address, patience: Patience) -> Line:
    """Return a client of this server, which answers and lets us in."""
    pool = make_pool(read_certificates() if address.scheme == "https" else None)
    with contextlib.ExitStack() as failing:
        failing.callback(close_pool, pool)
        try:
            with translated(address.shown, server=True):
                client = _negotiated(address, patience, pool)
                client.command("SELECT 1")
        except StoreUnavailable as error:
            hint = error.hint
            if hint in ("", "Is the server up?"):
                hint = "Is the server up, and is this its HTTP port?"
            raise StoreUnavailable(error.what, hint=hint) from error
        client.http = FollowingPool(pool, patience, client, address)
        failing.pop_all()
    return Line(client, pool)


def _negotiated(address: Address, patience: Patience, pool: "PoolManager") -> "Client":
    """Return a client that has asked the server which settings it takes."""
    import clickhouse_connect
    from clickhouse_connect import common

    # it would note every pool for ever, to clear it when it is old; ours renew their connections themselves
    common.set_setting("max_connection_age", 0)
    with hurried():
        client = clickhouse_connect.get_client(
            interface=address.scheme,
            host=address.host,
            port=address.port,
            username=address.user,
            password=address.password,
            pool_mgr=PatientPool(pool, patience),
            **patience.for_opening(),
            autogenerate_session_id=False,  # a session takes one statement at a time
            show_clickhouse_errors="scrub",
        )
    # urllib3 repeats nothing and follows no redirect: it would follow with an INSERT that has no rows
    client.http_retries = False
    client.protocol_version = 0
    _use_utc(client)
    return client


def _use_utc(client: "Client") -> None:
    zone = client.server_settings.get(_ZONE)
    if zone is not None and not zone.readonly:
        client.set_client_setting(_ZONE, "UTC")
    elif zone is None or zone.value != "UTC":
        # before 23.6, or a read-only user, who may not set it
        logger.warning("%s: times are in the server's time zone", client.uri)


class FollowingPool(PatientPool):
    """A client's pool that makes the client follow its server to other settings."""

    def __init__(self, pool: "PoolManager", patience: Patience, client: "Client", address: Address) -> None:
        super().__init__(pool, patience)
        self._client = client
        self._address = address
        self._looking = threading.Lock()

    def request(self, method: str, url: str, **how: object) -> "BaseHTTPResponse":
        """Send a request; raises `StoreUnavailable` when it was refused and the next one is another."""
        sent = _along(self._client)
        response = super().request(method, url, **how)
        if response.headers.get("X-ClickHouse-Exception-Code") in _SETTING_REFUSED and self._differs(sent):
            response.close()
            raise StoreUnavailable(
                f"{self._address.shown}: the server takes other settings than before "
                f"(it is version {self._client.server_version} now)"
            )
        return response

    def _differs(self, sent: dict[str, Any]) -> bool:
        """Ask the server anew, unless another thread did; say whether what goes along has changed."""
        client = self._client
        with self._looking:
            if _along(client) == sent:
                fresh = _negotiated(self._address, self._patience, self._pool)
                fresh.database, fresh.http = client.database, self
                # in one step: a statement of another thread has the old client's settings or the new one's
                vars(client).update(vars(fresh))
            return _along(client) != sent


def _along(client: "Client") -> dict[str, Any]:
    """Return what goes along with every statement, as it was negotiated."""
    transport: Any = vars(client)["_backend"]
    chosen = ("compression", "send_comp_setting", "send_progress", "progress_interval")
    return {**client.params, **{name: getattr(transport, name) for name in chosen}}
