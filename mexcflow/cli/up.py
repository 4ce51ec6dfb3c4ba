"""`mexcflow up`: record every instance of the configuration, each in a process of its own."""

import logging
import math
import os
import signal
import sys
import threading
import time
from typing import Annotated

import typer

from mexcflow.cli.app import app
from mexcflow.cli.options import Config, Database, LogFormat, LogLevel, start_log
from mexcflow.cli.up_view import LinesView, Pace, TableView, write_log
from mexcflow.config import config_folder
from mexcflow.errors import Misuse
from mexcflow.ops.processes import LogLine, SystemLauncher
from mexcflow.ops.up import Up, UpSettings

logger = logging.getLogger(__name__)

_EPILOG = """Examples:

mexcflow up

mexcflow up --only btc,eth --database /srv/market-data

mexcflow up --config /etc/mexcflow/instances --stats-interval 60 > statistics.log

mexcflow up --log-format json --duration 3600
"""
_TICK_S = 0.2
_KILLED = 130
_STILL_S = 5.0


@app.command("up", epilog=_EPILOG)
def up(
    only: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these instances, with commas: btc,eth.", show_default=False),
    ] = None,
    no_engine: Annotated[
        bool,
        typer.Option("--no-engine", help="Start no engine: the instances share the data folder themselves."),
    ] = False,
    duration: Annotated[float, typer.Option(min=0.0, help="Stop after so many seconds; 0: never.")] = 0.0,
    stats_interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between statistics where there is no terminal.")
    ] = 15.0,
    database: Database = None,
    config: Config = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> int:
    """Record every instance of the folder of instance files until Ctrl-C, each in a process of its own.

    What ends is started again. Files that are added, removed or changed are obeyed within seconds. On a
    terminal there is a live table; else statistics go to standard output and all logs to standard error.
    """
    start_log(log_level, log_format)
    if not math.isfinite(duration):
        raise Misuse(f"--duration: {duration} is no number of seconds", hint="0 means: without end")
    if database is not None and not database.strip():
        raise Misuse("--database is empty", hint="Give a folder, or http://user:password@host:8123")
    chosen = tuple(word.strip() for word in (only or "").split(",") if word.strip())
    if only is not None and not chosen:
        raise Misuse("--only: it names no instance", hint="Leave it out for all of them")
    settings = UpSettings(
        config=config_folder(config),
        pid=os.getpid(),
        database=database,
        only=chosen,
        engines=not no_engine,
        log_level=log_level,
        log_format=log_format,
    )
    return _Upkeep(settings, stats_interval).run(duration)


class _Upkeep:
    """The loop: signals, ticks, logs, statistics."""

    def __init__(self, settings: UpSettings, stats_interval_s: float) -> None:
        self._launcher = SystemLauncher()
        self._up = Up(settings, self._launcher)
        self._as_json = settings.log_format == "json"
        on_terminal = sys.stdout is not None and sys.stdout.isatty() and not self._as_json
        self._view = TableView() if on_terminal else LinesView(stats_interval_s, as_json=self._as_json)
        self._pace = Pace(self._view.interval_s, at_once=on_terminal)
        self._still = Pace(_STILL_S, at_once=False)
        self._signals = 0
        self._obeyed = 0
        self._wake = threading.Event()

    def run(self, duration_s: float) -> int:
        """Keep everything up until told to stop; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
                signal.signal(number, self._on_signal)
        until = time.monotonic() + duration_s if duration_s else math.inf
        try:
            while not self._up.done:
                if time.monotonic() >= until and not self._signals:
                    self._signals = 1
                self._obey_signals()
                self._up.tick()
                self._show()
                self._wake.wait(_TICK_S)
                self._wake.clear()
            write_log(self._log(), as_json=self._as_json)
            self._view.show(self._up.statuses(), final=True)
        finally:
            self._view.close()
        return self._up.exit_code if self._obeyed < 2 else _KILLED

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
        self._wake.set()

    def _obey_signals(self) -> None:
        if self._signals > 1 and self._obeyed < 2:
            self._obeyed = 2
            self._up.kill()
        elif self._signals and not self._obeyed:
            self._obeyed = 1
            self._up.stop()
            self._still = Pace(_STILL_S, at_once=False)

    def _show(self) -> None:
        write_log(self._log(), as_json=self._as_json)
        if self._pace.is_due():
            self._view.show(self._up.statuses())
        if self._obeyed and self._still.is_due():
            for one in self._up.statuses():
                if one.pid:
                    frames = one.statistics["backlog_frames"] if one.statistics else 0
                    logger.info("%s is still stopping: %d frames to insert", one.title, frames)

    def _log(self) -> list[LogLine]:
        lines = self._launcher.lines
        return [lines.popleft() for _ in range(len(lines))]
