"""The rows of a string table in the order they were stored: told apart, copied, read in the middle.

One thread reads a StripeLog table in the order of its inserts, and so does everything here. The table has no
index: an offset costs reading what is before it.
"""

import hashlib
from collections.abc import Iterable, Iterator

from mexcflow.errors import StatementRefused
from mexcflow.model import Row
from mexcflow.store.scan import TYPES
from mexcflow.store.store import DATABASE, Store, quoted

_IN_ORDER = "SETTINGS max_threads = 1"
_ROWS_A_COPY = 5_000_000
"""A server answers within its time, and a copy of 5 million rows takes a second or so."""


def digests(store: Store, table: str, sizes: Iterable[int]) -> Iterator[bytes]:
    """Yield a digest of the first so many rows, of the next so many, and so on. Equal rows, equal digest."""
    # mt as a number: a value that the Enum does not know would end the query
    chunks = store.export(
        f"SELECT toUnixTimestamp64Milli(ts), CAST(mt, 'Int8'), m FROM {_full(table)} {_IN_ORDER}",  # noqa: S608
        "TabSeparated",
    )
    lines = _Lines(chunks)
    for size in sizes:
        digest = hashlib.blake2b(digest_size=16)
        left = size
        while left:
            part = lines.take(left)
            if not part:
                raise StatementRefused(f"table {_full(table)} ended {left:,} rows too early")
            digest.update(b"\n".join(part) + b"\n")
            left -= len(part)
        yield digest.digest()
    for _ in chunks:  # the embedded engine does nothing else until a result is read to its end
        pass


class _Lines:
    """The lines of a text that comes in chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._lines: list[bytes] = []
        self._at = 0
        self._begun = b""

    def take(self, at_most: int) -> list[bytes]:
        """Return the next lines, one or more; none at the end."""
        while self._at == len(self._lines):
            chunk = next(self._chunks, None)
            if chunk is None:
                return []
            *self._lines, self._begun = (self._begun + chunk).split(b"\n")
            self._at = 0
        part = self._lines[self._at : self._at + at_most]
        self._at += len(part)
        return part


def copy_rows(store: Store, source: str, target: str, *, offset: int, rows: int) -> None:
    """Append so many rows of one string table to another, within the database."""
    for at in range(offset, offset + rows, _ROWS_A_COPY):
        count = min(_ROWS_A_COPY, offset + rows - at)
        store.command(
            f"INSERT INTO {_full(target)} SELECT ts, mt, m FROM {_full(source)} "  # noqa: S608
            f"LIMIT {count} OFFSET {at} {_IN_ORDER}, max_insert_threads = 1"
        )


def read_rows(store: Store, table: str, *, offset: int, rows: int) -> list[Row]:
    """Return so many rows from the middle of a table."""
    found = store.query(
        f"SELECT toUnixTimestamp64Milli(ts), CAST(mt, 'Int8'), m FROM {_full(table)} "  # noqa: S608
        f"LIMIT {rows} OFFSET {offset} {_IN_ORDER}"
    )
    return [(ms, TYPES.get(code, str(code)), m) for ms, code, m in found]


def count_types(store: Store, table: str) -> dict[str, int]:
    """Return how many rows of each `mt` a table has."""
    found = dict(store.query(f"SELECT CAST(mt, 'Int8') AS code, count() FROM {_full(table)} GROUP BY code"))  # noqa: S608
    counts = {name: int(found.pop(code, 0)) for code, name in TYPES.items()}
    return counts | {str(code): int(count) for code, count in found.items()}


def _full(table: str) -> str:
    return f"{DATABASE}.{quoted(table)}"
