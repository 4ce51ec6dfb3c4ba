"""`mexcflow engine`: owns a data folder, and does nothing else."""

import logging
import os
import signal
import threading
from typing import Annotated

import orjson
import typer

from mexcflow.cli.app import app
from mexcflow.cli.options import AsJson, Database, HttpHost, HttpPort, LogFormat, LogLevel, start_log
from mexcflow.config import STARTED_BY, database_location
from mexcflow.errors import FolderInUse, Misuse
from mexcflow.store.open import open_store
from mexcflow.store.owner import ENDPOINT_NAME, Listen
from mexcflow.store.store import Store

logger = logging.getLogger(__name__)

_STAND_BY_S = _LOOK_S = 0.5

_EPILOG = """Examples:

mexcflow engine

mexcflow engine --database /srv/market-data --http-port 8123

mexcflow engine --wait --json
"""


@app.command("engine", epilog=_EPILOG)
def engine(
    http_port: HttpPort = 0,
    http_host: HttpHost = "127.0.0.1",
    wait: Annotated[
        bool, typer.Option("--wait", help="Stand by while another process owns the folder.")
    ] = False,
    started_by: Annotated[  # read by the next `up`, from outside
        int, typer.Option(STARTED_BY, metavar="PID", hidden=True, help="Set by mexcflow up.")
    ] = 0,
    database: Database = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Own a data folder until Ctrl-C: run its engine, and answer every other mexcflow over HTTP.

    Without it the first command that opens the folder does so, and when that one ends, the next. Clients of
    ClickHouse get in as well: the address and the token are in endpoint.json in the folder, which only you
    can read.
    """
    start_log(log_level, log_format)
    location = database_location(database)
    if "://" in location:
        raise Misuse("mexcflow engine: a server has its own engine", hint="Give a folder with --database")
    stop = _stop_event()
    store = _own(location, Listen(http_host, http_port), stop, wait=wait)
    if store is None:
        return
    with store:
        _announce(store, as_json)
        while not stop.wait(_LOOK_S):  # a signal that another thread gets does not wake this one
            pass
        logger.info("leaving %s", store.location)


def _stop_event() -> threading.Event:
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():  # a second one ends at once
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    return stop


def _own(location: str, listen: Listen, stop: threading.Event, *, wait: bool) -> Store | None:
    """Return the folder's store; with `wait` once nobody else has it, None when that never comes."""
    told = ""
    while True:
        try:
            return open_store(location, listen=listen, alone=True)
        except FolderInUse as error:
            if not wait:
                raise
            if error.what != told:
                logger.info("standing by: %s", error.what)
            told = error.what
        if stop.wait(_STAND_BY_S):
            return None


def _announce(store: Store, as_json: bool) -> None:
    address = store.address
    if address is None or store.folder is None:  # never of a folder of our own
        return
    file = store.folder / ENDPOINT_NAME
    if as_json:
        said = {"database": store.location, "url": address.url, "pid": address.pid}
        typer.echo(orjson.dumps({**said, "endpoint_file": str(file)}))
    else:
        typer.echo(f"{store.location}: the engine answers on {address.url} (token in {file})")
