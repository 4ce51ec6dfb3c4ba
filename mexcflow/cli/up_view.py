"""What `mexcflow up` shows while it runs: a live table on a terminal, lines in a pipe, JSON for machines."""

import contextlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import orjson
from rich.console import Console
from rich.live import Live

from mexcflow.cli.console import printable
from mexcflow.cli.output import print_or_go_on
from mexcflow.cli.stream_tables import stream_line, streams_table, total_line, totals
from mexcflow.ops.processes import LogLine
from mexcflow.ops.status import StreamStatus

_REPAINT_S = 1.0


class View(Protocol):
    """What shows the instances."""

    def show(self, statuses: Sequence[StreamStatus], *, final: bool = False) -> None:
        """Show how they are doing."""

    def close(self) -> None:
        """Put the terminal in order."""


class LinesView:
    """A line an instance and one for all, as text or as one JSON object."""

    interval_s: float

    def __init__(self, interval_s: float, *, as_json: bool) -> None:
        self.interval_s = interval_s
        self._as_json = as_json

    def show(self, statuses: Sequence[StreamStatus], *, final: bool = False) -> None:
        """See `View`."""
        if self._as_json:
            line = {
                "time": datetime.now(UTC),
                "final": final,
                "instances": [one.as_json() for one in statuses],
                "total": totals(statuses),
            }
            print_or_go_on(orjson.dumps(line, option=orjson.OPT_UTC_Z).decode())
        else:
            print_or_go_on("\n".join([*map(stream_line, statuses), total_line(statuses)]))

    def close(self) -> None:
        """See `View`."""


class TableView:
    """The table stays in place while the log scrolls above it."""

    interval_s = _REPAINT_S

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        to_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._live: Live | None = Live(console=self._console, auto_refresh=False, redirect_stderr=to_terminal)
        self._live.start()

    def show(self, statuses: Sequence[StreamStatus], *, final: bool = False) -> None:
        """See `View`; a terminal that was closed ends the table and nothing else."""
        if self._live is None:
            return
        try:
            self._live.update(streams_table(self._console, statuses, live=not final), refresh=True)
        except OSError:
            self.close()

    def close(self) -> None:
        """See `View`."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()


def write_log(lines: Sequence[LogLine], *, as_json: bool) -> None:
    """Pass on what the instances logged, each line with the instance's name."""
    text = "".join(f"{_named(line) if as_json else _prefixed(line)}\n" for line in lines)
    if text and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it: the log is all that suffers
            sys.stderr.write(text)
            sys.stderr.flush()


def _prefixed(line: LogLine) -> str:
    return f"{line.name}: {printable(line.text)}"


def _named(line: LogLine) -> str:
    try:
        said = orjson.loads(line.text)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        said = {"time": datetime.now(UTC), "level": "warning", "logger": "stderr", "message": line.text}
    return orjson.dumps({**said, "instance": line.name}, option=orjson.OPT_UTC_Z).decode()


class Pace:
    """Says when it is time again."""

    def __init__(self, interval_s: float, *, at_once: bool = True) -> None:
        self._interval_s = interval_s
        self._due = time.monotonic() + (0.0 if at_once else interval_s)

    def is_due(self) -> bool:
        """Say whether the interval has passed since it was last due."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due += self._interval_s
        if self._due <= now:  # it was not asked for long
            self._due = now + self._interval_s
        return True
