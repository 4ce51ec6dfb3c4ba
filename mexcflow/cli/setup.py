"""`mexcflow setup`: databases, tables and views of every instance."""

import dataclasses
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
from mexcflow.config import Instance, config_folder, database_location
from mexcflow.errors import Misuse
from mexcflow.ops.instances import read_instances
from mexcflow.store.credentials import shown_location
from mexcflow.store.forms import Kept
from mexcflow.store.open import open_store
from mexcflow.store.schema import SetupSummary

_EPILOG = """Examples:

mexcflow setup

mexcflow setup --database /srv/market-data --config /etc/mexcflow/instances

mexcflow setup --database http://default@localhost:8123 --json

mexcflow setup --database http://default@ch1:8123 --cluster market
"""

_ENGINES = {"stripelog": Kept.STRIPELOG, "mergetree": Kept.MERGETREE}

Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Make replicated tables on every node of this cluster of the server's (docs/scaling.md).",
        show_default=False,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="How string tables keep their rows: stripelog, in the order they came, smallest to write; "
        "mergetree, sorted, fast to query by time. Default: what is there already, else stripelog.",
        show_default=False,
    ),
]


@app.command("setup", epilog=_EPILOG)
def setup_command(
    database: Database = None,
    config: Config = None,
    cluster: Cluster = None,
    engine: Engine = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Create the databases, tables and views of all instances, and drop the server's own log tables.

    A second time it finds everything there and changes nothing. A table of the same name and another form
    is never touched: that is an error, before anything is created.
    """
    start_log(log_level, log_format)
    folder = config_folder(config)
    instances = read_instances(folder)
    locations: dict[str, list[Instance]] = {} if instances else {database_location(database): []}
    for instance in instances:
        locations.setdefault(database_location(database, instance), []).append(instance)
    kept = _kept(cluster, engine, list(locations))

    def work() -> dict[str, SetupSummary]:
        return {
            shown_location(where): _setup(where, of_it, kept, cluster or "")
            for where, of_it in locations.items()
        }

    done = interruptible(work)
    if as_json:
        typer.echo(orjson.dumps({where: dataclasses.asdict(summary) for where, summary in done.items()}))
        return
    console = make_console()
    for where, summary in done.items():
        console.print(f"database {where}", markup=False)
        console.print(_setup_table(console, summary))
    if not instances:
        console.print(f"no instance files in {folder}: no table was created", markup=False)


def _kept(cluster: str | None, engine: str | None, locations: list[str]) -> Kept | None:
    """Return how string tables are to keep their rows; raises `Misuse` for options that do not fit."""
    if engine is not None and engine not in _ENGINES:
        raise Misuse(f"--engine: {engine!r} is not known", hint=f"Give one of {', '.join(_ENGINES)}")
    if cluster is None:
        return _ENGINES[engine] if engine else None
    if not cluster.strip():
        raise Misuse("--cluster is empty", hint="Give its name: mexcflow sql 'SHOW CLUSTERS' lists them")
    if engine is not None:
        raise Misuse("--engine and --cluster exclude each other", hint="A cluster's tables are MergeTree")
    for location in locations:
        if "://" not in location:
            raise Misuse(
                f"--cluster: {location} is a folder, which has no cluster",
                hint="Give one of its nodes: --database http://user:password@host:8123",
            )
    return Kept.DISTRIBUTED


def _setup(location: str, instances: list[Instance], kept: Kept | None, cluster: str) -> SetupSummary:
    from mexcflow.ops.setup import setup

    with open_store(location) as store:
        return setup(store, instances, kept=kept, cluster=cluster)


def _setup_table(console: Console, summary: SetupSummary) -> Table:
    """Return what setup did, a line a thing."""
    table = empty_table(console, "setup")
    table.add_column("what was done")
    table.add_column("to")
    styles = {"created": "green", "replaced": "yellow", "dropped": "yellow", "refused": "red", "found": "dim"}
    words = {"found": "already there", "refused": "not dropped"}
    for done, style in styles.items():
        for thing in getattr(summary, done):
            table.add_row(Text(words.get(done, done), style=style), printable(thing))
    return table
