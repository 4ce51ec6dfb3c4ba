"""Handles of the engine: `SET` and `USE` belong to a handle, so who shares one shares its settings.

A request has its own settings. A new handle with them costs 0.3 ms, and clients send the same ones each
time: so handles are kept by their settings. A session has one handle for itself, and temporary tables in it.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from mexcflow.store.endpoint.refusal import Refusal

_NAME = re.compile(r"[A-Za-z_]\w*")
_VOLATILE = frozenset({"insert_deduplication_token", "log_comment"})
"""Settings that differ from request to request: set anew each time on the same handle."""

_IDLE = 24
"""Handles that are kept; one costs 0.1 MB."""


class Result(Protocol):
    """What of the engine's result is used here."""

    def bytes(self) -> bytes:
        """Return the result itself."""

    def rows_read(self) -> int:
        """Return how many rows were read; of an INSERT from a file, written."""

    def bytes_read(self) -> int:
        """Return how many bytes that was."""

    def rows_written(self) -> int:
        """Return how many rows were written."""

    def bytes_written(self) -> int:
        """Return how many bytes that was."""

    def elapsed(self) -> float:
        """Return how many seconds it took."""


class Wishes(NamedTuple):
    """How a statement is to be run."""

    settings: Mapping[str, str]
    database: str = ""
    reads_only: bool = False


class Handle:
    """One connection to the engine, for one statement at a time."""

    def __init__(self, folder: str) -> None:
        import chdb

        self._connection: Any = chdb.connect(folder)
        self.settings: dict[str, str] = {}
        """What was set on behalf of requests, and not by statements."""

    def run(
        self, sql: bytes | str, fmt: str = "TabSeparated", bound: Mapping[str, str] | None = None
    ) -> Result:
        """Execute a statement and return the engine's result; raises `Refusal`."""
        try:
            result: Result = self._connection.query(sql, fmt, params=dict(bound or {}))
        except (RuntimeError, UnicodeError) as error:
            raise Refusal.of_engine(error) from None
        return result

    def set(self, settings: Mapping[str, str]) -> None:
        """Set what is not set like this already; raises `Refusal` for a setting that there is not."""
        changed = {name: value for name, value in settings.items() if self.settings.get(name) != value}
        if changed:
            self.run(
                "SET " + ", ".join(f"{_named(name)} = {_text(value)}" for name, value in changed.items())
            )
            self.settings.update(changed)

    def use(self, database: str) -> None:
        """Make this the database of unqualified table names."""
        self.run("USE " + _quoted(database))

    def close(self) -> None:
        """Give the handle back to the engine."""
        self._connection.close()


class Pool:
    """Handles that wait for the next request with the same settings."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[object, ...], list[Handle]] = OrderedDict()
        self._closed = False

    def take(self, wishes: Wishes) -> Handle:
        """Return a handle as it is wished; `give` or `close` it."""
        key = _key(wishes)
        with self._lock:
            waiting = self._idle.get(key)
            handle = waiting.pop() if waiting else None
            if waiting == []:
                del self._idle[key]
        volatile = {name: wishes.settings.get(name, "") for name in _VOLATILE}
        if handle is None:
            handle = Handle(self._folder)
            handle.settings.update(dict.fromkeys(_VOLATILE, ""))
            try:
                _prepare(handle, wishes)
            except Refusal:
                handle.close()
                raise
        elif any(handle.settings[name] != value for name, value in volatile.items()):
            handle.set(volatile)
        return handle

    def give(self, handle: Handle, wishes: Wishes) -> None:
        """Keep a handle on which nothing was left."""
        key, out = _key(wishes), []
        with self._lock:
            if self._closed:
                out.append(handle)
            else:
                self._idle.setdefault(key, []).append(handle)
                self._idle.move_to_end(key)
                while sum(map(len, self._idle.values())) > _IDLE:
                    oldest = next(iter(self._idle))
                    out.append(self._idle[oldest].pop())
                    if not self._idle[oldest]:
                        del self._idle[oldest]
        for one in out:
            one.close()

    def close(self) -> None:
        """Close every handle that waits; those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            handles = [handle for waiting in self._idle.values() for handle in waiting]
            self._idle.clear()
        for handle in handles:
            handle.close()


class Session:
    """What a `session_id` stands for: one handle, with its temporary tables and what was SET in it."""

    def __init__(self, folder: str) -> None:
        self.handle = Handle(folder)
        self.busy = True
        self.timeout_s = 60.0
        self.used = 0.0
        self._own: dict[str, tuple[str, bool]] = {}
        """The session's own value of each setting that a request has put another over; whether it was set."""
        self._database = "default"
        self._used_database = "default"

    def prepare(self, wishes: Wishes) -> None:
        """Put a request's settings over the session's own, and take those of the last one away."""
        handle = self.handle
        self._restore([name for name in handle.settings if name not in wishes.settings])
        fresh = [name for name in wishes.settings if name not in handle.settings]
        if fresh:
            names = ", ".join(_text(_named(name)) for name in fresh)
            found = handle.run(
                f"SELECT name, value, changed FROM system.settings WHERE name IN ({names})",  # noqa: S608
                "JSONCompactEachRow",
            )
            rows = [orjson.loads(line) for line in found.bytes().splitlines()]
            self._own |= {name: (value, bool(int(changed))) for name, value, changed in rows}
        handle.set(wishes.settings)
        database = wishes.database or self._database
        if database != self._used_database:
            handle.use(database)
            self._used_database = database

    def bare(self) -> None:
        """Take away what requests have set: a SET or a USE is meant for the session itself."""
        self._restore(list(self.handle.settings))

    def noted(self) -> None:
        """Note the database after a USE."""
        self._database = self.handle.run("SELECT currentDatabase()", "TSVRaw").bytes().decode().rstrip("\n")
        self._used_database = self._database

    def _restore(self, names: list[str]) -> None:
        for name in names:
            value, changed = self._own.pop(name, ("", False))
            self.handle.run(f"SET {name} = {_text(value) if changed else 'DEFAULT'}")
            del self.handle.settings[name]


class Sessions:
    """Every session there is; one that nobody used for its timeout is dropped."""

    def __init__(self, folder: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def take(self, name: str, *, must_exist: bool, timeout_s: float) -> Session:
        """Return the session, made when there is none; raises `Refusal` when it is busy or must exist."""
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                if must_exist:
                    raise Refusal(372, f"Session {name} not found")
                session = self._sessions[name] = Session(self._folder)
            elif session.busy:
                raise Refusal(373, f"Session {name} is locked by a concurrent client")
            session.busy, session.timeout_s = True, timeout_s
        return session

    def give(self, name: str, session: Session, *, close: bool = False) -> None:
        """Take the session back after its statement."""
        with self._lock:
            session.busy, session.used = False, self._clock()
            if close:
                self._sessions.pop(name, None)
        if close:
            session.handle.close()

    def drop_idle(self, *, every: bool = False) -> None:
        """Close the sessions whose time is over, or every one that is not busy."""
        now = self._clock()
        with self._lock:
            over = [
                name
                for name, session in self._sessions.items()
                if not session.busy and (every or now - session.used > session.timeout_s)
            ]
            dropped = [self._sessions.pop(name) for name in over]
        for session in dropped:
            session.handle.close()


def _prepare(handle: Handle, wishes: Wishes) -> None:
    settings = dict(wishes.settings)
    readonly = settings.pop("readonly", "2" if wishes.reads_only else "")
    if wishes.reads_only and readonly in ("", "0"):
        readonly = "2"  # as a server: settings may be changed, data may not
    handle.set(settings)
    if wishes.database:
        handle.use(wishes.database)
    if readonly:
        handle.set({"readonly": readonly})


def _key(wishes: Wishes) -> tuple[object, ...]:
    kept = frozenset(item for item in wishes.settings.items() if item[0] not in _VOLATILE)
    return kept, wishes.database, wishes.reads_only


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refusal(115, f"Unknown setting '{name[:80]}'")
    return name


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
