"""The parts of one instance that its settings make: database and journal; `feed.py` puts them together."""

import contextlib
import functools
import logging
import math
import threading
from dataclasses import dataclass
from pathlib import Path

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.config import NEVER, Instance, journal_folder, read_duration, read_tail
from mexcflow.errors import StoreUnavailable
from mexcflow.exchanges import REGISTRY, TYPED
from mexcflow.journal import (
    Durability,
    Journal,
    JournalSettings,
    Retention,
    Stream,
    has_history,
    holder,
    in_use,
)
from mexcflow.pipeline.disk import check_free
from mexcflow.pipeline.table import InsertSettings
from mexcflow.store import Store, check_table, open_store
from mexcflow.store.market import check_market
from mexcflow.store.owner import ANYWHERE, Listen

logger = logging.getLogger(__name__)

_TRIES = 3
"""A folder whose owner goes while we look at it has another one at once, perhaps us."""


@dataclass(frozen=True)
class Settings:
    """What one run needs beyond its instance; `duration_s` 0 means without end."""

    instance: Instance
    database: str
    duration_s: float = 0.0
    min_free_bytes: int = InsertSettings.min_free_bytes
    batch_frames: int = InsertSettings.batch_frames
    adopt: bool = False
    lifetime_s: float = 0.0
    """The age at which a connection is replaced; 0: what the exchange allows."""
    listen: Listen = ANYWHERE
    """Where others get in, should this be the process that owns the data folder."""

    @property
    def url(self) -> str:
        """Where it connects to, for people: the exchange's own, or what was given in its place."""
        name = self.instance.exchange
        if self.instance.endpoint:
            return self.instance.endpoint
        return REGISTRY[name].url if name in REGISTRY else ", ".join(TYPED[name].sockets.values())

    @functools.cached_property
    def folder(self) -> Path:
        """The journal's folder of this stream; where it has several connections, theirs are in it.

        Absolute, from the first look on: the process is in another folder for a moment while the engine is
        loaded, which may be at any time, when it becomes the owner of the data folder.
        """
        instance = self.instance
        folder = journal_folder(instance.journal, self.database, instance.exchange, instance.symbol)
        return Path(folder).absolute()

    @property
    def in_folder(self) -> bool:
        """Whether the database is a data folder, and no server."""
        return "://" not in self.database

    @property
    def fsync_s(self) -> float:
        """Seconds between forcing bytes down to the disk; inf for never."""
        fsync = self.instance.fsync
        return math.inf if fsync == NEVER else float(fsync)

    def check_disk(self) -> None:
        """Raise `DiskFailed` when the disk of the journal is nearly full."""
        folder = self.folder.absolute()
        there = next(one for one in (folder, *folder.parents) if one.is_dir())
        check_free(there, self.min_free_bytes)


def refuse_second(settings: Settings) -> None:
    """Raise `StreamInUse` when somebody records this stream already."""
    who = holder(settings.folder)
    if who is not None:
        raise in_use(settings.folder, who)


def connect(settings: Settings) -> Store:
    """Open the database, whoever has it open besides."""
    return open_store(settings.database, listen=settings.listen)


def open_database(settings: Settings) -> Store | None:
    """Open the database; None when it is away and the stream was recorded before: the journal holds out."""
    tries = _TRIES if settings.in_folder else 1
    while True:
        tries -= 1
        try:
            return _open_and_look(settings)
        except StoreUnavailable as error:
            if recorded_before(settings.folder):
                logger.warning("%s; recording into the journal until it is back", error.what)
                return None
            if not tries:
                raise


def _open_and_look(settings: Settings) -> Store:
    store = connect(settings)
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        if settings.instance.is_typed:
            check_market(store)
        else:
            check_table(store, settings.instance.table)
        stack.pop_all()
    return store


def recorded_before(folder: Path) -> bool:
    """Say whether something was recorded into this folder, or one of its connections', before."""
    return has_history(folder) or any(has_history(one) for one in connection_folders(folder))


def connection_folders(folder: Path) -> list[Path]:
    """Return the journals of an instance's connections, which lie below its own folder."""
    if not folder.is_dir():
        return []
    return sorted(one.parent for one in folder.glob("*/lock"))


def open_journal(settings: Settings, folder: Path, stream: Stream, *, clock: Clock = SYSTEM_CLOCK) -> Journal:
    """Open (and make) a connection's journal."""
    instance = settings.instance
    tail_s, tail_bytes = read_tail(str(instance.journal_tail), where="journal_tail")
    keep_raw_s = read_duration(str(instance.keep_raw), where="keep_raw")
    journal = Journal(
        folder,
        stream,
        settings=JournalSettings(
            durability=Durability(fsync_s=settings.fsync_s),
            retention=Retention(tail_s=tail_s, tail_bytes=tail_bytes, keep_raw_s=keep_raw_s),
        ),
        clock=clock,
    )
    if journal.recovered_frames:
        logger.info(
            "the journal holds %d frames of an earlier run that are not in the table yet",
            journal.recovered_frames,
        )
    return journal


class Database:
    """The database of a run: one store for all feeds, opened when it comes back if it was away."""

    def __init__(self, settings: Settings, store: Store | None, closing: contextlib.ExitStack) -> None:
        self._settings = settings
        self._store = store
        self._closing = closing
        self._opening = threading.Lock()

    def connect(self) -> Store:
        """Return the store; raises what keeps it from being opened."""
        with self._opening:
            if self._store is None:
                self._store = connect(self._settings)
                self._closing.callback(self._store.close)
                logger.info("the database is back: %s", self._store.location)
            return self._store
