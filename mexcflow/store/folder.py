"""The embedded engine in its data folder: opening it, and every reason why it does not open.

chDB answers every trouble with the same "Error initializing EmbeddedServer: .", so the reasons are looked
for before and after: the lock (flock on `status`, which names the PID; the kernel drops it when the process
dies, however it dies), a folder that cannot be written, a sizes.json that was torn by a power cut.

Before the engine starts, string tables that were torn are cut back to what is whole: see `repair.py`.
Which process may start it, and how the others get in, is for `owner.py` and `attach.py`.
"""

import contextlib
import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from mexcflow.errors import DiskFailed, FolderInUse, Misuse, Permanent
from mexcflow.store.repair import Finding, inspect, repair
from mexcflow.store.store import DATABASE

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

logger = logging.getLogger(__name__)

LOCK_NAME = "owner.lock"
"""The lock of the process that owns the folder; see `owner.py`."""


def has_database(location: str) -> bool:
    """Say whether there is something to open or to complain of: a URL, a used folder, a file, nothing."""
    folder = Path(location)
    return not location.strip() or "://" in location or folder.is_file() or _was_used(folder)


def start_engine(folder: Path) -> "Client":
    """Start the engine in a folder that nobody else has open, after what is torn there was repaired.

    Raises `FolderInUse` when somebody has, `DiskFailed`, `Misuse` without chDB, `Permanent`.
    """
    refuse_if_used(folder)
    _repair(folder)
    return another_handle(folder)


def repair_folder(folder: Path, *, dry_run: bool) -> list[Finding]:
    """Go through every string table of a folder that nobody has open, and cut back what is torn.

    Raises `FolderInUse` when somebody has it open, `Misuse` when there is no database, `DiskFailed`.
    """
    if not _was_used(folder):
        raise Misuse(f"{folder}: no database folder there", hint="Give its folder with --database")
    folder = folder.resolve()
    if dry_run:
        owner = _owner(folder)
        if owner is not None:
            raise in_use(folder, owner)
        return inspect(folder, every=True)
    with _locked(folder):
        return repair(folder, inspect(folder, every=True))


def _repair(folder: Path) -> None:
    """Cut back what is torn, so that the engine can read it; see `repair.py`."""
    if unborn := _unborn(folder):
        with _locked(folder):
            for definition in unborn:
                logger.warning("%s is empty (a full disk?) and made anew", definition)
                definition.unlink()
    if not inspect(folder):
        return
    with _locked(folder):
        for done in repair(folder, inspect(folder)):
            logger.warning(
                "%s was torn (%s) and is cut back to what is whole: %d rows of %d INSERTs. "
                "What was behind them, %d bytes, is in %s",
                done.table,
                done.problem,
                done.rows,
                done.inserts,
                done.cut_bytes,
                done.set_aside,
            )


def _unborn(folder: Path) -> list[Path]:
    """Return the definitions of databases, tables and views whose CREATE met a full disk: empty files.

    The engine says that all is well, and then does not start any more. There is nothing in these tables; but
    nothing is returned when there are files that may belong to one of them.
    """
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in _definitions(folder)}
    empty = [path for path, text in texts.items() if not text]
    if not empty:
        return []
    known = "".join(texts.values())
    filled = {path.parent.name for path in folder.glob("store/*/*/data.bin")}
    filled |= {path.parent.parent.name for path in folder.glob("store/*/*/*/columns.txt")}  # parts
    if any(uuid not in known for uuid in filled):
        return []
    tables = {path.parent.name for path, text in texts.items() if text}
    return [path for path in empty if path.stem not in tables or path.parent.name != "metadata"]


def _definitions(folder: Path) -> list[Path]:
    """Return the files that define tables, views and databases."""
    return [*folder.glob("metadata/*/*.sql"), *folder.glob("metadata/*.sql")]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the engine's own lock, so that nobody can open the folder meanwhile.

    The engine cannot take it while we have it, not even in this process: it is given back before the
    engine starts. Whoever comes in between finds a folder that is in order. The file stays: to remove it
    would take the lock from under somebody who waits for it.
    """
    try:
        status = os.open(folder / "status", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DiskFailed(f"{folder}: the data folder cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise in_use(folder, _owner(folder) or "") from None
        yield
    finally:
        os.close(status)


def checked_folder(given: Path, *, create: bool) -> Path:
    """Return the folder's real path after making sure that it is there and can be written."""
    if given.exists() and not given.is_dir():
        raise Misuse(f"{given}: this is a file", hint="--database takes a folder or http://...")
    if not create and not _was_used(given):
        raise Misuse(f"{given}: no database there", hint="Run `mexcflow setup` or `mexcflow run`")
    try:
        given.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=given):
            pass
    except OSError as error:
        raise DiskFailed(
            f"{given}: the data folder cannot be written: {error.strerror}",
            hint="Give another with --database, or mend its rights",
        ) from error
    return given.resolve()


def _was_used(folder: Path) -> bool:
    """Say whether the engine was ever started in this folder; a database comes with the first table."""
    return (folder / "store").is_dir() or (folder / LOCK_NAME).is_file()


def refuse_if_used(folder: Path) -> None:
    """Raise `FolderInUse` when a process has the engine of this folder open, be it this one."""
    owner = _owner(folder)
    if owner is not None:
        raise in_use(folder, owner)


def in_use(folder: Path, owner: str) -> FolderInUse:
    """Return the error that says who has the folder: `owner` is " (PID 123)", or ''."""
    return FolderInUse(
        f"{folder}: another process uses this data folder{owner}",
        hint="Stop it first, or give another --database",
    )


def _owner(folder: Path) -> str | None:
    """Return " (PID 123)" when a living process holds the folder's lock, None when nobody does."""
    try:
        status = os.open(folder / "status", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(status, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two probes do not meet
    except BlockingIOError:
        pid = re.search(rb"PID: (\d+)", os.read(status, 4096))
        return f" (PID {pid.group(1).decode()})" if pid else ""
    else:
        return None
    finally:
        os.close(status)  # gives the lock back


def another_handle(folder: Path) -> "Client":
    """Return a client of the engine, which this process has open, or starts with it."""
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import Error

    try:
        return clickhouse_connect.get_client(
            interface="chdb",
            path=str(folder),
            settings={"session_timezone": "UTC"},
            show_clickhouse_errors="scrub",
        )
    except ImportError as error:
        raise Misuse(
            "the embedded engine, chDB, is not installed",
            hint="pip install 'mexcflow[embedded]', or give a server's URL with --database",
        ) from error
    except (Error, RuntimeError) as error:
        refuse_if_used(folder)  # somebody may have come between the probe and us
        raise _unopenable(folder, error) from error


def _unopenable(folder: Path, error: Exception) -> Permanent:
    if "already initialized" in str(error):  # chDB has no code for it
        return Permanent(f"{folder}: this process has another data folder open", hint="Close that one first")
    listed = folder / "metadata" / DATABASE
    if listed.is_dir() and not listed.is_symlink():
        return Permanent(
            f"{folder}: the database does not open: {listed} is a folder and should be a symbolic link",
            hint="It was copied with its links followed: copy it again with cp -a",
        )
    empty = [str(path) for path in _definitions(folder) if not path.stat().st_size]
    if empty:
        return Permanent(
            f"{folder}: the database does not open: {', '.join(empty)} is empty",
            hint="A full disk or a power cut does that. Copy the folder, then get the file from a backup",
        )
    broken = [path for path in folder.glob("store/*/*/sizes.json") if _is_broken(path)]
    if broken:
        return Permanent(
            f"{folder}: the database does not open: {', '.join(map(str, broken))} is empty or broken",
            hint="A power cut does that, and only string tables are repaired. Copy the folder, "
            "then move that table's folder away",
        )
    return Permanent(
        f"{folder}: the database does not open: {error}",
        hint="No other process holds it and every sizes.json can be read: "
        "is the disk full, or was it written by a newer version?",
    )


def _is_broken(sizes: Path) -> bool:
    with contextlib.suppress(OSError, orjson.JSONDecodeError, AttributeError):
        return not orjson.loads(sizes.read_bytes()).keys()
    return True
