"""Opening a database: what kind it is, and every reason why it cannot be opened, said in advance."""

import logging
from pathlib import Path

from mexcflow.errors import Misuse
from mexcflow.store.attach import open_folder
from mexcflow.store.credentials import refuse_address
from mexcflow.store.owner import ANYWHERE, Listen
from mexcflow.store.patience import Patience
from mexcflow.store.server import open_server
from mexcflow.store.store import Store

_QUIET = logging.NullHandler()
"""Without a handler of its own, logging would print clickhouse-connect's warnings and stack traces."""


def open_store(
    location: str,
    *,
    create: bool = True,
    timeout_s: float | None = None,
    listen: Listen = ANYWHERE,
    alone: bool = False,
) -> Store:
    """Open a folder (embedded engine) or a server (`http://user:password@host:8123`).

    `timeout_s` is how long a server may take to connect and to answer, in place of what `Patience` says, and
    how long the owner of a folder may take to let us in.
    `listen` is where a folder's engine answers other processes, should it be this one that runs it, and
    `alone` says that it has to be this one.

    Raises `FolderInUse` when another process holds the folder and lets nobody in, `DiskFailed` when it cannot
    be made or written, `Misuse` for what is neither folder nor URL (with `create=False` also when there is no
    database yet), `StoreUnavailable` when a server does not answer, `StatementRefused` when it does not
    let us in.
    """
    logging.getLogger("clickhouse_connect").addHandler(_QUIET)
    if "://" in location:
        return open_server(location, Patience.of(timeout_s))
    if not location.strip():
        raise Misuse("--database is empty", hint="Give a folder, or http://user:password@host:8123")
    refuse_address(location)
    return open_folder(Path(location), create=create, listen=listen, alone=alone, within_s=timeout_s)
