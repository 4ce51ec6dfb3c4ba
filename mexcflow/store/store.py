"""One way to ClickHouse: the embedded engine and a server behind the same few methods.

A data folder has its engine in this process or in another one, which answers over HTTP (`attach.py`). When
that one is gone, a call fails with `StoreUnavailable` like one to a server, and the next call begins with
getting at the folder again. What became of the statement is then for the caller to find out: `fence.py`.

Times go in and come out as Unix ms; the session's time zone is UTC, whatever the machine's or the
server's is. Any thread may call a `Store`; calls on the embedded engine wait for one another.
Every error is one of `mexcflow.errors`: see `translate.py`.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mexcflow.errors import DiskFailed, StatementRefused, StoreUnavailable
from mexcflow.model import Row
from mexcflow.store.patience import hurried
from mexcflow.store.translate import code_of, one_line, translated
from mexcflow.store.tsv import encode_rows

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from mexcflow.store.owner import Address

DATABASE = "mexc_data"
"""Where the string tables and their views are."""

SYNCED_FILES = ("data.bin", "index.mrk", "sizes.json")
"""The three files of a StripeLog table, in the order they go to the disk: sizes.json commits the others."""

_CHUNK_BYTES = 1 << 20
_FAILURE_BYTES = 1 << 15
"""A server's error in the middle of a result stands at its end; it is at most 16 kB."""
_PART_BYTES = 1 << 18
"""The time that sending may take counts for each part of a body: 26 kB a second is enough."""
_ONE_BLOCK = {
    "max_insert_block_size": 1 << 30,
    "min_insert_block_size_rows": 1 << 30,
    "min_insert_block_size_bytes": 1 << 32,
    "input_format_parallel_parsing": 0,  # would read every 10 MB apart, and rely on their being put together
}
"""An INSERT is one block whatever the profile says; by default it is up to a million rows or 256 MB."""


def quoted(name: str) -> str:
    """Return a name as an identifier for SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


class Attached(NamedTuple):
    """A client, and how to let go of it. `embedded`: its engine runs here; `address`: its door for others."""

    client: "Client"
    embedded: bool
    release: Callable[[], None]
    address: "Address | None" = None


class Store:
    """An open database. `location` never holds a password; `folder` is None for a server.

    Made by `open_store`. `again` gets at the folder anew when its owner is gone.
    """

    def __init__(
        self,
        attached: Attached,
        location: str,
        folder: Path | None,
        again: Callable[[], Attached] | None = None,
    ) -> None:
        self.location = location
        self.folder = folder
        self._attached = attached
        self._again = again
        self._owner_is_gone = False
        self._attaching = threading.Lock()
        self._database = ""
        self._closed = False
        self._table_folders: dict[str, Path] = {}

    @property
    def embedded(self) -> bool:
        """Whether the engine runs in this process."""
        return self._attached.embedded

    @property
    def address(self) -> "Address | None":
        """Where this process lets others in, if it owns a folder."""
        return self._attached.address

    @property
    def may_lose_rows_unseen(self) -> bool:
        """Whether the database can restart, after a power cut of its machine, without our noticing."""
        return self.folder is None

    @property
    def _client(self) -> "Client":
        with self._attaching:
            if self._owner_is_gone and self._again is not None and not self._closed:
                attached = self._again()
                with self._translated():
                    self._attached.release()
                self._attached = attached
                self._owner_is_gone = False
                if self._database:
                    attached.client.database = self._database
            return self._attached.client

    def query(
        self, sql: str, parameters: dict[str, Any] | None = None, settings: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT; `parameters` fill `{name:Type}` in its text."""
        with self._translated():
            return list(self._client.query(sql, parameters=parameters, settings=settings).result_rows)

    def command(self, sql: str) -> None:
        """Run a statement whose result, if any, nobody wants."""
        with self._translated():
            self._client.command(sql)

    def export(
        self, sql: str, fmt: str, settings: dict[str, Any] | None = None, *, stream: bool = True
    ) -> Iterator[bytes]:
        """Yield a statement's result in chunks, in a ClickHouse format ('' where `sql` has its own FORMAT).

        A server streams it. The embedded engine streams Native, TabSeparated, CSV, RowBinary and
        JSONEachRow when there are no `settings`, and holds any other result in memory as a whole. It
        refuses to stream anything but a SELECT: say `stream=False` for SHOW, DESCRIBE, EXPLAIN and so on.
        """
        from urllib3.exceptions import ProtocolError

        with self._translated():
            if not stream:
                yield self._client.raw_query(sql, fmt=fmt or None, settings=settings)
                return
            source = self._client.raw_stream(sql, fmt=fmt or None, settings=settings)
            tail = b""
            try:
                while chunk := source.read(_CHUNK_BYTES):
                    yield chunk
                    tail = (tail + chunk[-_FAILURE_BYTES:])[-_FAILURE_BYTES:]
            except ProtocolError as error:
                # a server that failed says so, and then cuts the connection: it may be in what came last
                _refuse_failed_stream(source, tail + getattr(error.__cause__, "partial", b""))
                raise
            finally:
                source.close()
            _refuse_failed_stream(source, tail)

    def insert_rows(self, table: str, rows: Sequence[Row], *, query_id: str = "") -> None:
        """Insert `rows` into a string table of `mexc_data` in one INSERT of one block: all or none.

        It is sent once. When no answer comes, `StoreUnavailable` leaves open whether the rows are in: see
        `fence.py`, which asks for the INSERT by its `query_id`. The embedded engine takes no id.
        """
        if rows:
            settings = {"query_id": query_id} if query_id and not self.embedded else {}
            self._insert(table, f"{DATABASE}.{quoted(table)}", None, encode_rows(rows), settings)

    def insert_block(
        self, table: str, columns: Sequence[str], block: bytes, settings: dict[str, Any]
    ) -> None:
        """Insert TabSeparated rows into a table of any database, in one INSERT: see `typed.insert_typed`."""
        self._insert(table, table, columns, block, settings)

    def _insert(
        self, table: str, full: str, columns: Sequence[str] | None, block: bytes, settings: dict[str, Any]
    ) -> None:
        # servers of 26.3 and later collect inserts unless told not to, and answer before they are stored
        own = {"async_insert": 0} if self.folder is None else {}
        with self._translated(f"insert into {table}"), hurried():
            self._client.raw_insert(
                full,
                column_names=columns,
                # clickhouse-connect sends bytes a second time when the connection drops after the body
                # went out, and the rows would be there twice; a generator it cannot send again
                insert_block=_parts(block),
                fmt="TabSeparated",
                settings={**_ONE_BLOCK, **own, **settings},
            )

    def sync(self, table: str) -> None:
        """Force the table's files to the disk, whichever process wrote them; a server looks after its own.

        Without it a power cut can leave sizes.json ahead of the data, and the table unreadable.
        """
        if self.folder is None:
            return
        try:
            _fsync_files(self.table_folder(table))
        except FileNotFoundError:
            # dropped and created again since: its folder has another name now
            self._table_folders.pop(table, None)
            _fsync_files(self.table_folder(table))
        except OSError as error:
            raise DiskFailed(f"{self.location}: fsync of table {table}: {error.strerror}") from error

    def table_folder(self, table: str) -> Path:
        """Return the folder of a string table's files; not for a server."""
        if table not in self._table_folders:
            found = self.query(
                "SELECT data_paths FROM system.tables "
                "WHERE database = {database:String} AND name = {name:String}",
                {"database": DATABASE, "name": table},
            )
            if not found or not found[0][0]:
                raise StatementRefused(f"there is no table {DATABASE}.{table}", hint="Run `mexcflow setup`")
            self._table_folders[table] = Path(found[0][0][0])
        return self._table_folders[table]

    def free_bytes(self) -> int | None:
        """Return how much the disk of the data folder still takes; None for a server."""
        if self.folder is None:
            return None
        try:
            disk = os.statvfs(self.folder)
        except OSError as error:
            raise DiskFailed(f"{self.folder}: {error.strerror}") from error
        return disk.f_bavail * disk.f_frsize

    def prefer_database(self, name: str) -> None:
        """Make `name` the database of unqualified table names, if there is one of that name."""
        if self.query("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": name}):
            self._client.database = self._database = name

    def close(self) -> None:
        """Close the connection; the folder is free for another process then. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._translated("close"):
            self._attached.release()

    @contextlib.contextmanager
    def _translated(self, doing: str = "") -> Iterator[None]:
        try:
            with translated(doing, server=self.folder is None, remote=not self.embedded):
                yield
        except StoreUnavailable as error:
            if code_of(error) is None and not self.embedded:  # it was not the engine that said so
                self._owner_is_gone = True
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _parts(block: bytes) -> Iterator[bytes]:
    for begin in range(0, len(block), _PART_BYTES):
        yield block[begin : begin + _PART_BYTES]


def _refuse_failed_stream(stream: object, tail: bytes) -> None:
    """Raise when a server failed after it had begun to answer: the answer then ends in a marked error."""
    tag = getattr(stream, "headers", {}).get("X-ClickHouse-Exception-Tag")
    if tag:
        # __exception__ <tag> the error's text, newline, its length <tag> __exception__
        _, found, rest = tail.rpartition(b"__exception__\r\n" + tag.encode())
        if found:
            error = rest.rpartition(tag.encode())[0].rpartition(b"\n")[0].decode(errors="replace")
            raise StatementRefused(f"the result is not whole: {one_line(error)}")


def _fsync_files(folder: Path) -> None:
    for path in (*(folder / name for name in SYNCED_FILES), folder):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if path == folder:
                raise
            continue  # a table without rows has no files yet
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
