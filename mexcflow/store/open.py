"""Opening a database: what kind it is, and every reason why it cannot be opened, said in advance."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from mexcflow.errors import Misuse, StoreUnavailable
from mexcflow.store.folder import open_folder
from mexcflow.store.patience import Patience, PatientPool
from mexcflow.store.store import Store
from mexcflow.store.translate import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_ADDRESS = re.compile(r"[^/]*@[^/]*|[\w.-]+:\d+")
_PORTS = {"http": 8123, "https": 8443}


def open_store(location: str, *, create: bool = True, timeout_s: float | None = None) -> Store:
    """Open a folder (embedded engine) or a server (`http://user:password@host:8123`).

    `timeout_s` is how long a server may take to connect and to answer, in place of what `Patience` says.

    Raises `FolderInUse` when another process holds the folder, `DiskFailed` when it cannot be made or
    written, `Misuse` for what is neither folder nor URL (with `create=False` also when there is no
    database yet), `StoreUnavailable` when a server does not answer, `StatementRefused` when it does not
    let us in.
    """
    # without a handler of its own, logging would print clickhouse-connect's warnings and stack traces
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    if "://" in location:
        return _open_server(location, Patience.of(timeout_s))
    if not location.strip():
        raise Misuse("--database is empty", hint="Give a folder, or http://user:password@host:8123")
    if _ADDRESS.fullmatch(location.strip()):
        raise Misuse(
            "--database: this looks like a server's address and not like a folder",
            hint="Put http:// before it, or ./ if it is a folder",
        )
    return open_folder(Path(location), create=create)


def _open_server(location: str, patience: Patience) -> Store:
    url, port = _checked_url(location)
    shown = f"{url.scheme}://{url.username + '@' if url.username else ''}{_host(url)}:{port}"
    import clickhouse_connect

    try:
        with translated(shown, server=True):
            client = clickhouse_connect.get_client(
                interface=url.scheme,
                host=url.hostname,
                port=port,
                username=unquote(url.username or "default"),
                password=unquote(url.password or ""),
                **patience.for_opening(),
                autogenerate_session_id=False,  # a session takes one statement at a time
                show_clickhouse_errors="scrub",
            )
            client.http = PatientPool(client.http, patience)
            # urllib3 repeats nothing and follows no redirect: it would follow with an INSERT that has no rows
            client.http_retries = False
            client.command("SELECT 1")
            _use_utc(client)
    except StoreUnavailable as error:
        raise StoreUnavailable(error.what, hint="Is the server up, and is this its HTTP port?") from error
    return Store(client, shown, None)


def _checked_url(location: str) -> tuple[SplitResult, int]:
    """Return the parts of a server's URL and its port; the error shows no password."""
    hint = "Give http://user:password@host:8123, https://... or a folder"
    try:
        url = urlsplit(location.strip())
        port = url.port
    except ValueError:
        raise Misuse("--database: this is no URL: its host or port cannot be read", hint=hint) from None
    if url.scheme not in _PORTS:
        raise Misuse(f"--database: {url.scheme}:// is not spoken here", hint=hint)
    if not url.hostname:
        raise Misuse("--database: the URL names no host", hint=hint)
    if url.path.strip("/") or url.query or url.fragment:
        raise Misuse("--database: nothing may follow the port in the URL", hint=hint)
    return url, port or _PORTS[url.scheme]


def _host(url: SplitResult) -> str:
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host


def _use_utc(client: "Client") -> None:
    from clickhouse_connect.driver.exceptions import ProgrammingError

    try:
        client.set_client_setting("session_timezone", "UTC")
    except ProgrammingError:
        # a read-only user may not set it: times are then shown in the server's zone
        logging.getLogger(__name__).warning("%s: times are in the server's time zone", client.uri)
