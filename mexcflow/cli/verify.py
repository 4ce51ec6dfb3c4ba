"""`mexcflow verify`: prove that what is stored can be read back."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import orjson
import typer
from rich.console import Console

from mexcflow.cli.app import app
from mexcflow.cli.console import make_console, megabytes
from mexcflow.cli.interrupt import interruptible
from mexcflow.cli.market_view import market_tables
from mexcflow.cli.options import AsJson, Config, Database, LogFormat, LogLevel, start_log
from mexcflow.cli.verify_view import container_table, of_budget, verify_tables
from mexcflow.clock import SYSTEM_CLOCK
from mexcflow.config import Instance, config_folder
from mexcflow.ops.instances import database_to_read, read_instances
from mexcflow.ops.verify import Report, missing, verify
from mexcflow.store.credentials import refuse_address
from mexcflow.store.folder import has_database
from mexcflow.store.open import open_store

_EPILOG = """Examples:

mexcflow verify

mexcflow verify --table btc --table eth --json
"""

Tables = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="NAME", help="Only this table; may be given more than once."),
]


@app.command("verify", epilog=_EPILOG)
def verify_command(
    tables: Tables = None,
    database: Database = None,
    config: Config = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Read every row back: counts, sizes, growth a day, order of the times, coverage, dead letters.

    Exits with 1 when something is wrong: rows that do not decode, times that run backwards by more than
    5 seconds, damaged files, a table that is not ours, no table at all; in the typed tables holes in trade
    ids that coverage does not explain, books that cross, candles and times that cannot be.
    """
    start_log(log_level, log_format)
    instances = read_instances(config_folder(config))
    location = database_to_read(database, config_folder(config))
    status = make_console(stderr=True).status("opening the database")

    def work() -> Report:
        return _report(location, instances, tables or [], status.update)

    with status:
        report = interruptible(work, before_exit=status.stop)
    if as_json:
        typer.echo(orjson.dumps(dataclasses.asdict(report)))
    else:
        _print(make_console(), report)
    if not report.ok:
        raise typer.Exit(1)


def _report(
    location: str, instances: list[Instance], tables: list[str], progress: Callable[[str], None]
) -> Report:
    now_ms = SYSTEM_CLOCK.time_ns() // 1_000_000
    refuse_address(location)
    if not has_database(location):
        return missing(location, f"{location} holds no database", now_ms=now_ms)
    with open_store(location, create=False) as store:
        return verify(store, instances, tables=tables, now_ms=now_ms, progress=progress)


def _print(console: Console, report: Report) -> None:
    for table in verify_tables(console, report):
        console.print(table)
    if report.market is not None:
        for table in market_tables(console, report.market):
            console.print(table)
    if report.container is not None:
        console.print(container_table(console, report.container))
    console.print(f"whole volume {report.database}: {megabytes(report.volume_bytes)}", markup=False)
    if report.growth_bytes_a_day is not None:
        console.print(f"growth: {of_budget(report.growth_bytes_a_day)}", markup=False)
    for name, found in report.tables.items():
        for note in found.notes:
            console.print(f"note: {name}: {note}", markup=False)
    for stream in report.market.streams if report.market else ():
        for note in stream.notes:
            console.print(f"note: {stream.name}: {note}", markup=False)
    for note in (*(report.market.notes if report.market else ()), *report.notes):
        console.print(f"note: {note}", markup=False)
    for problem in report.problems:
        console.print(f"problem: {problem}", style="red", markup=False)
    console.print("no problems" if report.ok else f"problems: {len(report.problems)}", markup=False)
