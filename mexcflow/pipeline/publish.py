"""Publish: how a run is doing, in a small file in its journal's folder, for whoever asks from the outside.

`status.json` is put in place as a whole, every 2 s and once more at the end. It is not forced down to the
disk: after a power cut there is no run that it could tell of. That it cannot be written ends no recording.
Who reads it looks at the journal's lock as well: what a run says of itself counts as long as it holds that.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mexcflow.clock import SYSTEM_CLOCK, Clock
from mexcflow.config import UP_VARIABLE, Instance
from mexcflow.errors import MexcflowError
from mexcflow.journal import STATUS, Stream
from mexcflow.metrics import Metrics, Snapshot

logger = logging.getLogger(__name__)

INTERVAL_S = 2.0


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of itself; times are UTC.

    `up` is the PID of the `mexcflow up` that started it, 0 when it was started otherwise. `newest_data` is
    when the last market data came in. `statistics` is the block of `mexcflow run --log-format json`.
    `exit_code` is set once it has ended, and `error` when something made it end.
    """

    pid: int
    host: str
    run: str
    up: int
    started: datetime
    updated: datetime
    exchange: str
    symbol: str
    table: str
    source: str
    database: str
    proxy: str
    stopping: bool
    connected: bool
    newest_data: datetime | None
    statistics: dict[str, Any]
    exit_code: int | None = None
    error: str = ""


def read_published(folder: Path) -> Published | None:
    """Return what the newest run of a stream said last; None when there is nothing that can be read."""
    try:
        return msgspec.json.decode((folder / STATUS).read_bytes(), type=Published)
    except (OSError, msgspec.DecodeError):  # what it looks like after a power cut, too
        return None


class Publisher:
    """Writes the file of one run; `shown_proxy` and `shown_database` hold no password."""

    def __init__(  # noqa: PLR0913 - all that a run says of itself
        self,
        instance: Instance,
        stream: Stream,
        folder: Path,
        metrics: Metrics,
        *,
        shown_database: str,
        shown_proxy: Callable[[], str],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._instance = instance
        self._stream = stream
        self._folder = folder
        self._metrics = metrics
        self._shown_database = shown_database
        self._shown_proxy = shown_proxy
        self._clock = clock
        self._up = _started_by()
        self._started = _utc(clock.time_ns())
        self._due = clock.monotonic()
        self._failed = False

    def tick(self, peek: Callable[[], Snapshot], *, stopping: bool = False) -> None:
        """Write the file when it is time to."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + INTERVAL_S
            self._write(peek(), stopping=stopping)

    def end(self, snapshot: Snapshot, failure: MexcflowError | None) -> None:
        """Say that the run has ended, and with what."""
        exit_code = failure.exit_code if failure else 0
        self._write(snapshot, stopping=True, exit_code=exit_code, error=str(failure) if failure else "")

    def _write(
        self, snapshot: Snapshot, *, stopping: bool, exit_code: int | None = None, error: str = ""
    ) -> None:
        instance, stream = self._instance, self._stream
        newest_ns = self._metrics.newest_data_ns
        published = Published(
            pid=os.getpid(),
            host=stream.host,
            run=stream.run,
            up=self._up,
            started=self._started,
            updated=_utc(self._clock.time_ns()),
            exchange=instance.exchange,
            symbol=instance.symbol,
            table=instance.table,
            source=str(Path(instance.source).absolute()) if instance.source else "",
            database=self._shown_database,
            proxy=self._shown_proxy(),
            stopping=stopping,
            connected=self._metrics.connected,
            newest_data=_utc(newest_ns) if newest_ns else None,
            statistics=snapshot.as_json(),
            exit_code=exit_code,
            error=error,
        )
        self._put(msgspec.json.encode(published))

    def _put(self, data: bytes) -> None:
        path = self._folder / STATUS
        new = path.with_name(f"{STATUS}.new")
        try:
            new.write_bytes(data)
            new.replace(path)
        except OSError as error:
            if not self._failed:
                logger.warning("%s: %s; recording goes on", path, error.strerror or error)
            self._failed = True
        else:
            self._failed = False


def _started_by() -> int:
    """Return the PID of the `mexcflow up` that is this process's parent, else 0."""
    up = os.environ.get(UP_VARIABLE, "")
    return int(up) if up.isdecimal() and int(up) == os.getppid() else 0


def _utc(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / 1e9, UTC)
