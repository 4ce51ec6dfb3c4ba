"""A guest of a data folder: a process that works in it over HTTP, through the process that owns it.

A guest holds on to one owner: each request says which one is meant, and each answer who gave it. So a
request is never executed by the successor of the owner it was meant for, and an answer never taken for the
owner's when somebody else got its port.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mexcflow.errors import FolderInUse, StoreUnavailable
from mexcflow.store.owner import ENDPOINT_NAME, Address, holder, read_address
from mexcflow.store.patience import Patience, PatientPool
from mexcflow.store.translate import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from urllib3 import BaseHTTPResponse, PoolManager

_OWNER_HEADER = "X-Mexcflow-Owner"
_PATIENCE = Patience(connect_s=10.0, insert_s=30.0, query_s=86_400.0)
"""A query may take its time: an owner that dies is noticed at once."""
_TO_OPEN = Patience.of(10.0)
"""An owner that is frozen must not hold up a command without a word."""
_CONNECTIONS = 4
_HINT = "Is it stopped, or very busy? When it ends, another process takes the folder over"


class Unanswered(StoreUnavailable):
    """Somebody owns the folder, and does not let us in yet."""


class _OwnersPool(PatientPool):
    """A client's pool of connections to one owner, and to nobody else."""

    def __init__(self, pool: "PoolManager", owner: str) -> None:
        super().__init__(pool, _TO_OPEN)
        self._owner = owner

    def opened(self) -> None:
        """Give the statements to come their usual time."""
        self._patience = _PATIENCE

    def request(self, method: str, url: str, **how: object) -> "BaseHTTPResponse":
        response = super().request(method, url, **how)
        if response.headers.get(_OWNER_HEADER) != self._owner:
            response.close()
            raise ConnectionError("another process answers in place of the folder's owner")
        return response


def find_owner(folder: Path) -> Address:
    """Return where the folder's living owner answers; raises `Unanswered` while nobody does."""
    who = holder(folder)
    if who is None:
        raise Unanswered(f"{folder}: nobody has the folder open")
    try:
        address = read_address(folder)
    except PermissionError as error:
        raise FolderInUse(
            f"{folder}: PID {who.pid} of another user has this data folder open",
            hint="Only that user gets in: run this as the same one",
        ) from error
    if address is None or not address.url or address.owner != who.owner:
        raise Unanswered(
            f"{folder}: PID {who.pid} has this data folder, and {ENDPOINT_NAME} does not say where",
            hint=_HINT,
        )
    return address


def connect(folder: Path) -> "Client":
    """Return a client of the engine that another process runs; raises `Unanswered`, `FolderInUse`."""
    address = find_owner(folder)
    url = urlsplit(address.url)
    import clickhouse_connect
    from clickhouse_connect import common
    from urllib3 import PoolManager

    common.set_setting("max_connection_age", 0)  # it would note every pool for ever
    # a pool of our own: the environment's proxies are not for us
    pool = _OwnersPool(PoolManager(maxsize=_CONNECTIONS), address.owner)
    try:
        with translated(f"{folder} through PID {address.pid}", server=True):
            client = clickhouse_connect.get_client(
                interface="http",
                host=url.hostname,
                port=url.port,
                username="default",
                password=address.token,
                pool_mgr=pool,
                headers={_OWNER_HEADER: address.owner},
                compress=False,  # it never leaves this machine
                settings={"session_timezone": "UTC"},
                autogenerate_session_id=False,  # a session takes one statement at a time
                show_clickhouse_errors="scrub",
                **_TO_OPEN.for_opening(),
            )
            # urllib3 repeats nothing and follows no redirect: it would follow with an INSERT that has no rows
            client.http_retries = False
            pool.opened()
            return client
    except StoreUnavailable as error:
        raise Unanswered(error.what, hint=_HINT) from error
