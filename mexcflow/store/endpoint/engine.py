"""Executes one statement in a worker thread: on which handle, with which file or pipe, and how it ended."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mexcflow.store.endpoint.handles import Handle, Pool, Result, Sessions, Wishes
from mexcflow.store.endpoint.refusal import Refusal
from mexcflow.store.endpoint.request import Request
from mexcflow.store.endpoint.running import Running, Statements
from mexcflow.store.endpoint.statement import Statement, with_infile, with_outfile, with_real_ids
from mexcflow.store.endpoint.upload import Upload, check_disk
from mexcflow.store.words import ends_engine

_READ_ONLY = "Cannot execute query in readonly mode"
_LONGEST_SESSION_S = 3600.0
_PARQUET_ROWS = "100000"
"""Rows that are held until they are written: with a million, a result of 1 GB took 1.2 GB of memory."""


class Outcome(NamedTuple):
    """How a statement ended. `format` is that of its result, '' when it has none."""

    format: str = ""
    body: bytes = b""
    """A result that did not go through the pipe."""
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_s: float = 0.0


class Engine:
    """Every handle on the engine that the endpoint has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = Pool(str(folder))
        self.sessions = Sessions(str(folder))
        self.statements = Statements(self._pool)
        self._numbers = itertools.count(1)

    def upload(self, request: Request) -> Upload:
        """Return what takes the request's body."""
        size = request.parameters.get("max_query_size", "")
        return Upload(
            self._folder,
            request.parameters.get("query", ""),
            encoding=request.headers.get("content-encoding", "").lower(),
            max_statement=int(size) if size.isdigit() else 0,
        )

    def run(self, request: Request, upload: Upload, running: Running, out: int) -> Outcome:
        """Execute a statement that is there as a whole; its result is written to the pipe `out`.

        Raises `Refusal` with what the engine says.
        """
        statement = upload.statement
        if statement.first == "INSERT" and "INPUT" in statement.words:
            raise Refusal(48, "input() is not taken: insert into a table, and SELECT from that")
        if ends_engine(statement.words):
            raise Refusal(48, "SYSTEM SHUTDOWN and SYSTEM KILL would end other programs, too: stop the owner")
        if request.reads_only and statement.first == "KILL":  # which `readonly` allows
            raise Refusal(164, _READ_ONLY)
        if statement.writes:
            check_disk(self._folder, upload.data_bytes)
        settings = request.settings
        if "PARQUET" in (statement.format.upper(), request.default_format.upper()):
            settings.setdefault("output_format_parquet_row_group_size", _PARQUET_ROWS)
        wishes = Wishes(settings, request.database, request.reads_only)
        with self._handle(request, statement, wishes) as handle:
            return self._run_on(handle, request, upload, running, out)

    def _run_on(
        self, handle: Handle, request: Request, upload: Upload, running: Running, out: int
    ) -> Outcome:
        statement = upload.statement
        fmt = statement.format or request.default_format
        if statement.data_at >= 0:
            running.mark = f"'{upload.path}'"
            result = handle.run(with_infile(statement, upload.path), bound=request.bound)
            return _outcome(result, "", written=int(result.rows_read()))
        if statement.reads:
            running.mark = f"'/proc/self/fd/{out}'"
            sql = with_outfile(statement, f"/proc/self/fd/{out}", request.default_format)
            return _outcome(handle.run(sql, bound=request.bound), fmt)
        if statement.first == "KILL":
            sql = with_real_ids(statement, self.statements.engine_id)
        else:
            running.mark = f"-- statement {next(self._numbers)} of the endpoint"
            sql = f"{statement.text}\n{running.mark}".encode("latin-1")
        result = handle.run(sql, fmt, request.bound)
        written = int(result.rows_written())
        return _outcome(result, fmt if statement.answers else "", written=written)

    @contextmanager
    def _handle(self, request: Request, statement: Statement, wishes: Wishes) -> Iterator[Handle]:
        name = request.parameters.get("session_id", "")
        if name:
            with self._session(name, request, statement, wishes) as handle:
                yield handle
            return
        handle = self._pool.take(wishes)
        if not statement.leaves_nothing:
            try:
                yield handle
            finally:
                handle.close()
            return
        try:
            yield handle
        finally:
            self._pool.give(handle, wishes)

    @contextmanager
    def _session(self, name: str, request: Request, statement: Statement, wishes: Wishes) -> Iterator[Handle]:
        # `readonly` cannot be taken back from a handle, so in a session the statement itself is looked at
        settings = {key: value for key, value in wishes.settings.items() if key != "readonly"}
        reads_only = wishes.reads_only or wishes.settings.get("readonly", "0") != "0"
        if reads_only and not statement.reads and statement.first not in ("SET", "USE"):
            raise Refusal(164, _READ_ONLY)
        session = self.sessions.take(
            name, must_exist=request.flag("session_check"), timeout_s=_timeout_s(request)
        )
        try:
            if statement.first in ("SET", "USE"):
                session.bare()
            else:
                session.prepare(Wishes(settings, wishes.database))
            yield session.handle
            if statement.first == "USE":
                session.noted()
        finally:
            self.sessions.give(name, session, close=request.flag("close_session"))

    def close(self) -> None:
        """Close every handle that is not in use."""
        self.sessions.drop_idle(every=True)
        self._pool.close()


def _timeout_s(request: Request) -> float:
    given = request.parameters.get("session_timeout", "60")
    try:
        seconds = float(given)
    except ValueError:
        raise Refusal(374, f"Invalid session timeout: '{given[:40]}'") from None
    if not 0 <= seconds <= _LONGEST_SESSION_S:
        raise Refusal(374, f"Session timeout '{given[:40]}' is larger than the longest one, 3600 s")
    return seconds


def _outcome(result: Result, fmt: str, *, written: int = 0) -> Outcome:
    return Outcome(
        format=fmt,
        body=bytes(result.bytes()) if fmt else b"",
        read_rows=int(result.rows_read()),
        read_bytes=int(result.bytes_read()),
        written_rows=written,
        written_bytes=int(result.bytes_written()) or (int(result.bytes_read()) if written else 0),
        elapsed_s=float(result.elapsed()),
    )
