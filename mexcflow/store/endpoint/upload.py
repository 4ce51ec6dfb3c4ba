"""A request's body on its way in: the statement at its beginning, an INSERT's data into a nameless file.

Nothing is executed before the body is there as a whole. The file lies in the data folder, so its disk is
the one that is checked, and as it has no name a process that is killed leaves nothing of it. Up to 256 kB
are a file in memory.
"""

import errno
import os
from pathlib import Path

from mexcflow.store.endpoint.coding import Decoder
from mexcflow.store.endpoint.refusal import Refusal
from mexcflow.store.endpoint.statement import Statement, parse
from mexcflow.store.words import spelled, tokens

RESERVE_BYTES = 50_000_000
"""Free disk that every statement which writes leaves: the engine reports success on a full disk."""

_HEAD_BYTES = 1 << 18
"""In so much of the body an INSERT must have come to its data; a server takes as much of a statement."""

_STATEMENT_BYTES = 1 << 22
"""No statement is longer, whatever `max_query_size` asks for."""


def free_bytes(folder: Path) -> int:
    """Return how much the disk of a folder still takes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class Upload:
    """Takes the body in pieces, by one thread at a time; `close` it whatever happens.

    After `finish`, `statement` is what is asked for, and `path` is the file with an INSERT's data.
    """

    def __init__(
        self, folder: Path, query: str, *, encoding: str = "", max_statement: int = _HEAD_BYTES
    ) -> None:
        self._folder = folder
        self._head = bytearray(f"{query}\n".encode("utf-8", "surrogateescape") if query else b"")
        self._decoder = Decoder(encoding) if encoding not in ("", "identity") else None
        self._longest = min(max(max_statement, _HEAD_BYTES), _STATEMENT_BYTES)
        self._file = -1
        self._statement: Statement | None = None
        self.data_bytes = 0

    @property
    def statement(self) -> Statement:
        """What is asked for; only after `finish`."""
        assert self._statement is not None, "finish comes first"  # noqa: S101
        return self._statement

    @property
    def reads(self) -> bool:
        """Whether it is known by now that the statement only reads."""
        return self._statement is not None and self._statement.reads

    @property
    def path(self) -> str:
        """The file with an INSERT's data; opened anew it is read from its beginning."""
        return f"/proc/self/fd/{self._file}"

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body; raises `Refusal` when it cannot be kept."""
        if self._decoder is None:
            self._take(data)
            return
        for piece in self._decoder.feed(data):
            self._take(piece)

    def finish(self) -> None:
        """Take note that the body is whole; raises `Refusal` when it is no statement."""
        if self._decoder is not None:
            self._decoder.finish()
        if self._statement is None:
            self._begin(whole=True)

    def close(self) -> None:
        """Forget the data."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, data: bytes) -> None:
        if self._statement is not None:
            self._write(data)
            return
        self._head += data
        if len(self._head) > (_HEAD_BYTES if self._is_insert() else self._longest):
            self._begin(whole=False)

    def _is_insert(self) -> bool:
        return next(map(spelled, tokens(self._head[:_HEAD_BYTES].decode("latin-1"))), "") == "INSERT"

    def _begin(self, *, whole: bool) -> None:
        text = self._head.decode("latin-1")
        if not whole:
            text = text[: self._longest]
        self._statement = parse(text, whole=whole)
        if self._statement.data_at >= 0:
            # little data, all of it here: in memory, which saves 0.1 ms
            self._file = os.memfd_create("rows", os.MFD_CLOEXEC) if whole else self._opened()
            self._write(bytes(self._head[self._statement.data_at :]))
        self._head.clear()

    def _opened(self) -> int:
        try:
            return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise no_space("the rows of this INSERT", error) from error

    def _write(self, data: bytes) -> None:
        self.data_bytes += len(data)
        if self.data_bytes > 1 << 20:  # less is checked before the INSERT
            check_disk(self._folder, len(data))
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise no_space("the rows of this INSERT", error) from error


def check_disk(folder: Path, size: int) -> None:
    """Raise `Refusal` when the disk would not keep `size` bytes and the reserve."""
    free = free_bytes(folder)
    if free < RESERVE_BYTES + size:
        raise Refusal(
            243, f"Cannot reserve {size} bytes, not enough space: {free} bytes are free in {folder}"
        )


def no_space(what: str, error: OSError) -> Refusal:
    """Return the answer to a request for which a file cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Refusal(243, f"Cannot keep {what}, not enough space: {error.strerror}")
    return Refusal(1002, f"Cannot keep {what}: {error.strerror}")
