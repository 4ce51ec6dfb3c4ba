"""`mexcflow setup`: databases, tables and views of every instance."""

import dataclasses

import orjson
import typer

from mexcflow.cli.app import app
from mexcflow.cli.interrupt import interruptible
from mexcflow.cli.options import AsJson, Config, Database, LogFormat, LogLevel, start_log
from mexcflow.cli.tables import make_console, setup_table
from mexcflow.config import Instance, config_folder, database_location
from mexcflow.ops.instances import read_instances
from mexcflow.store.credentials import shown_location
from mexcflow.store.open import open_store
from mexcflow.store.schema import SetupSummary

_EPILOG = """Examples:

mexcflow setup

mexcflow setup --database /srv/market-data --config /etc/mexcflow/instances

mexcflow setup --database http://default:secret@localhost:8123 --json
"""


@app.command("setup", epilog=_EPILOG)
def setup_command(
    database: Database = None,
    config: Config = None,
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
    done = interruptible(
        lambda: {shown_location(where): _setup(where, of_it) for where, of_it in locations.items()}
    )
    if as_json:
        typer.echo(orjson.dumps({where: dataclasses.asdict(summary) for where, summary in done.items()}))
        return
    console = make_console()
    for where, summary in done.items():
        console.print(f"database {where}", markup=False)
        console.print(setup_table(console, summary))
    if not instances:
        console.print(f"no instance files in {folder}: no table was created", markup=False)


def _setup(location: str, instances: list[Instance]) -> SetupSummary:
    from mexcflow.ops.setup import setup

    with open_store(location) as store:
        return setup(store, instances)
