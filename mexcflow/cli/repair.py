"""`mexcflow repair`: cut torn tables back to what is whole, by hand."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mexcflow.cli.app import app
from mexcflow.cli.console import empty_table, make_console, printable
from mexcflow.cli.interrupt import interruptible
from mexcflow.cli.options import AsJson, Config, Database, LogFormat, LogLevel, start_log
from mexcflow.config import config_folder
from mexcflow.errors import Misuse
from mexcflow.ops.instances import database_to_read
from mexcflow.store.credentials import refuse_address
from mexcflow.store.folder import repair_folder
from mexcflow.store.repair import Finding

_EPILOG = """Examples:

mexcflow repair --dry-run

mexcflow repair --database /srv/market-data --json
"""

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only look: change nothing, exit with 1 when a table is torn.")
]


@app.command("repair", epilog=_EPILOG)
def repair_command(
    dry_run: DryRun = False,
    database: Database = None,
    config: Config = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Cut tables that a power cut or a full disk has torn back to their last whole INSERT.

    What is cut is kept, in torn/ of the data folder. Every command that opens the folder does the same for
    what it finds at the end of a table; this one goes through all of it. Never while the folder is in use.
    """
    start_log(log_level, log_format)
    location = database_to_read(database, config_folder(config))
    if "://" in location:
        raise Misuse(
            "--database is a server's URL", hint="A server looks after its own files: give a data folder"
        )
    refuse_address(location)
    found = interruptible(lambda: repair_folder(Path(location), dry_run=dry_run))
    torn = sum(1 for finding in found if finding.problem)
    if as_json:
        typer.echo(orjson.dumps(_as_json(location, found, torn=torn, dry_run=dry_run)))
    else:
        _print(make_console(), location, found, dry_run=dry_run)
    if dry_run and torn:
        raise typer.Exit(1)


def _as_json(location: str, found: list[Finding], *, torn: int, dry_run: bool) -> dict[str, object]:
    tables = [dataclasses.asdict(finding) for finding in found]
    return {"database": location, "dry_run": dry_run, "torn": torn, "tables": tables}


def _print(console: Console, location: str, found: list[Finding], *, dry_run: bool) -> None:
    console.print(f"database {location}", markup=False)
    console.print(_repair_table(console, found))
    torn = [finding for finding in found if finding.problem]
    for finding in torn:
        console.print(f"torn: {finding.table}: {finding.problem}", style="red", markup=False)
        if finding.set_aside:
            console.print(f"cut back; the rest is in {finding.set_aside}", markup=False, soft_wrap=True)
    if not torn:
        console.print("every table is whole", markup=False)
    elif dry_run:
        console.print("nothing was changed: this was a dry run", markup=False)


def _repair_table(console: Console, found: Sequence[Finding]) -> Table:
    """Return what is whole of each string table, and what is not."""
    table = empty_table(console, "string tables")
    table.add_column("table")
    table.add_column("state")
    for name in ("whole inserts", "rows in them", "bytes cut"):
        table.add_column(name, justify="right")
    for one in found:
        state, style = ("whole", "green") if not one.problem else ("torn", "red")
        if one.set_aside:
            state, style = "repaired", "yellow"
        table.add_row(
            printable(one.table),
            Text(state, style=style),
            f"{one.inserts:,}",
            f"{one.rows:,}",
            f"{one.cut_bytes:,}",
        )
    return table
