"""`mexcflow status`: how every stream is doing, from the outside; also a health check."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from mexcflow.cli.app import app
from mexcflow.cli.console import make_console, printable
from mexcflow.cli.options import AsJson, Config, Database, LogFormat, LogLevel, start_log
from mexcflow.cli.stream_tables import streams_table, totals
from mexcflow.config import CONFIG_VARIABLE, config_folder, shipped
from mexcflow.ops.owner import ENDPOINT, read_owner
from mexcflow.ops.status import RECORDS, Found, StreamStatus, look_around, trouble_of

_EPILOG = """Examples:

mexcflow status

mexcflow status --watch

mexcflow status --symbol BTC_USDT --max-staleness 60

mexcflow status --database /srv/market-data --json
"""
_REPAINT_S = 2.0


@app.command("status", epilog=_EPILOG)
def status_command(
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="Only this symbol; may be given more than once.", show_default=False),
    ] = None,
    max_staleness: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds without market data, or since the start, that are no trouble."),
    ] = 60.0,
    watch: Annotated[bool, typer.Option("--watch", help="Repaint every 2 seconds until Ctrl-C.")] = False,
    journal: Annotated[
        Path | None,
        typer.Option(help="Folder of the journals, if `run` was given one.", show_default=False),
    ] = None,
    database: Database = None,
    config: Config = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> int:
    """Show how every instance is doing, whoever started it. Opens no database.

    Exit code 0 when each of them records and has fresh market data, 1 when not, and which and why.
    """
    start_log(log_level, log_format)
    folder = config_folder(config)
    of_ours = config is None and not os.environ.get(CONFIG_VARIABLE) and folder == shipped("instances")

    def look() -> tuple[Found, list[str]]:
        found = look_around(folder, database, journal, shipped=of_ours)
        chosen = [one for one in found.streams if not symbol or one.symbol in symbol]
        return Found(chosen, found.folders), _troubles(chosen, symbol or [], max_staleness)

    if watch and not as_json:
        return _watch(look)
    found, troubles = look()
    if as_json:
        typer.echo(orjson.dumps(_as_json(found, troubles)))
    else:
        make_console().print(_page(found, troubles))
    return 1 if troubles else 0


def _troubles(statuses: list[StreamStatus], symbols: list[str], max_staleness_s: float) -> list[str]:
    # a stream without an instance file that nobody records is over, unless it is asked for
    counted = [one for one in statuses if one.name or symbols or one.state in (*RECORDS, "stuck")]
    missing = [name for name in symbols if all(one.symbol != name for one in statuses)]
    troubles = [f"{name}: there is no instance file and no journal of it" for name in missing]
    troubles += [trouble for one in counted if (trouble := trouble_of(one, max_staleness_s))]
    if statuses and not counted:
        return ["nothing is recorded here: all of them have ended, and no instance file names them"]
    return troubles if counted or missing else ["nothing is recorded here: no instance file, no journal"]


def _page(found: Found, troubles: list[str], *, live: bool = False) -> Group:
    console = make_console()
    parts = [streams_table(console, found.streams, live=live)] if found.streams else []
    lines = [Text(line, style="dim") for line in _owners(found)]
    lines += [Text.assemble(("trouble: ", "red"), printable(trouble)) for trouble in troubles]
    return Group(*parts, *(lines or [Text("all of them record", style="green")]))


def _owners(found: Found) -> list[str]:
    lines = []
    for folder in found.folders:
        owner = read_owner(folder)
        if owner is not None and owner.url:
            what = "answers at" if owner.answers else "does not answer at"
            lines.append(
                f"{folder}: its owner (PID {owner.pid}) {what} {owner.url}; "
                f"the token is in {folder / ENDPOINT}"
            )
    return lines


def _as_json(found: Found, troubles: list[str]) -> dict[str, object]:
    owners = {str(folder): read_owner(folder) for folder in found.folders}
    return {
        "streams": [one.as_json() for one in found.streams],
        "total": totals(found.streams),
        "folders": {
            folder: {"url": one.url, "pid": one.pid, "owner": one.owner, "answers": one.answers}
            for folder, one in owners.items()
            if one is not None
        },
        "troubles": troubles,
    }


def _watch(look: Callable[[], tuple[Found, list[str]]]) -> int:
    """Repaint until Ctrl-C; returns what the last look found."""
    console = make_console()
    found, troubles = look()
    try:
        with Live(_page(found, troubles, live=True), console=console, auto_refresh=False) as view:
            while True:
                view.refresh()
                if not console.is_terminal:
                    console.print(_page(found, troubles))
                time.sleep(_REPAINT_S)
                found, troubles = look()
                view.update(_page(found, troubles, live=True))
    except KeyboardInterrupt:
        return 1 if troubles else 0
