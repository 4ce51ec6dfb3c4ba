"""`mexcflow rebuild`: make a table again from the frames as they were received."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mexcflow.cli.app import app
from mexcflow.cli.console import empty_table, make_console, printable
from mexcflow.cli.instance import instance_of
from mexcflow.cli.interrupt import interruptible
from mexcflow.cli.options import AsJson, Config, Database, LogFormat, LogLevel, start_log
from mexcflow.config import DEFAULT_EXCHANGE, database_location
from mexcflow.errors import Misuse
from mexcflow.exchanges import REGISTRY
from mexcflow.ops.coverage import iso
from mexcflow.ops.rebuild import SUFFIX, RebuildSettings, Rebuilt, rebuild
from mexcflow.ops.rowdiff import Difference
from mexcflow.store.scan import TYPES

_MESSAGE_COLUMNS = 160
_EPILOG = """Examples:

mexcflow rebuild --symbol BTC_USDT

mexcflow rebuild --symbol BTC_USDT --swap

mexcflow rebuild --symbol BTC_USDT --database /srv/market-data --json
"""


@app.command("rebuild", epilog=_EPILOG)
def rebuild_command(
    symbol: Annotated[str, typer.Option(help="The symbol as the exchange writes it: BTC_USDT.")],
    exchange: Annotated[str, typer.Option(help="The exchange's name.")] = DEFAULT_EXCHANGE,
    table: Annotated[
        str | None, typer.Option(help="Table in mexc_data. Default: btc for BTC_USDT.", show_default=False)
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the journal. Default: in the data folder; with a server, ./journal.",
            show_default=False,
        ),
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap", help="Put the new table in the old one's place, which keeps its rows.")
    ] = False,
    min_free: Annotated[
        int, typer.Option(min=0, help="MB to leave free on the disk of an embedded database.")
    ] = 500,
    database: Database = None,
    config: Config = None,
    as_json: AsJson = False,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Make a table again from the journal and its raw archive (--keep-raw), and compare the two.

    The new one is made beside the old one, as btc_rebuilt. What is not kept as frames is copied from the old
    table. Without --swap the old table is only read: exit code 0 when it is what the frames decode to, 1
    when it differs; the new one then stays to be looked at. With --swap the two change places, in one step,
    and the old one stays as btc_rebuilt until you drop it. Never while the symbol is recorded.
    """
    start_log(log_level, log_format)
    given = {"table": table, "journal": None if journal is None else str(journal)}
    instance = instance_of(exchange, (symbol,), config, given)
    if instance.is_typed:
        raise Misuse(
            f"the typed tables cannot be rebuilt, and {exchange} goes into them",
            hint="`mexcflow simulate --archive` plays what is kept as frames",
        )
    settings = RebuildSettings(
        instance=instance,
        database=database_location(database, instance),
        swap=swap,
        min_free_bytes=min_free * 1_000_000,
    )
    decoder = REGISTRY[instance.exchange](instance.symbol, instance.channels)
    status = make_console(stderr=True).status("opening the database")
    with status:
        report = interruptible(
            lambda: rebuild(settings, decoder, progress=status.update), before_exit=status.stop
        )
    if as_json:
        typer.echo(orjson.dumps(_as_json(report)))
    else:
        _print(make_console(), report)
    if not (report.same or report.swapped):
        raise typer.Exit(1)


def _as_json(report: Rebuilt) -> dict[str, Any]:
    return {**dataclasses.asdict(report), "same": report.same}


def _print(console: Console, report: Rebuilt) -> None:
    remade = report.remade
    console.print(f"{report.database}: table mexc_data.{report.table} from {report.journal}", markup=False)
    if report.dropped:
        console.print(
            f"dropped what an earlier rebuild had left, mexc_data.{report.table}{SUFFIX}", markup=False
        )
    console.print(_rebuilt_table(console, report))
    if report.differences:
        console.print(_difference_table(console, report.differences))
    compared = report.batches_equal + report.batches_different
    console.print(
        f"decoded {remade.frames:,} frames in {compared:,} batches: {report.batches_equal:,} as before, "
        f"{report.batches_different:,} different",
        markup=False,
    )
    for kept in remade.kept:
        console.print(f"copied {kept.rows:,} rows from row {kept.row:,} on: {kept.reason}", markup=False)
    if remade.missing_rows:
        console.print(
            f"{remade.missing_rows:,} rows are neither in the old table nor in the journal", style="red"
        )
    if report.waiting_frames:
        rows = f" ({report.waiting_rows:,} rows of them in the old table already)"
        console.print(
            f"{report.waiting_frames:,} frames are left to the next run{rows if report.waiting_rows else ''}",
            markup=False,
        )
    console.print(_conclusion(report), markup=False, soft_wrap=True)


def _conclusion(report: Rebuilt) -> str:
    left = report.left
    if report.swapped:
        done = f"mexc_data.{report.table} is the new one now"
        return f'{done}; the old one is {left}: mexcflow sql "DROP TABLE {left}"' if left else done
    if report.same:
        return "the table is exactly what its frames decode to; the new one was dropped again"
    return f"the new one is {left}; --swap makes it once more and puts it in the old one's place"


def _rebuilt_table(console: Console, report: Rebuilt) -> Table:
    """Return how many rows of each kind the two tables have."""
    table = empty_table(console, "rows")
    table.add_column("table")
    for heading in ("rows", *TYPES.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, counts in (("old", report.old), ("new", report.new)):
        cells = (counts.get(mt, 0) for mt in TYPES.values())
        table.add_row(name, f"{sum(counts.values()):,}", *(f"{count:,}" for count in cells))
    return table


def _difference_table(console: Console, differences: Sequence[Difference]) -> Table:
    """Return the first rows that differ, the old one above the new one."""
    table = empty_table(console, "first differences")
    table.add_column("row", justify="right")
    for heading in ("", "ts", "mt", "m"):
        table.add_column(heading, no_wrap=heading in ("ts", "mt"))
    for one in differences:
        for name, row, style in (("old", one.old, "red"), ("new", one.new, "green")):
            ts, mt, m = (iso(row[0]), row[1], row[2]) if row else ("-", "", "")
            table.add_row(f"{one.row:,}", Text(name, style=style), ts, mt, printable(m, _MESSAGE_COLUMNS))
    return table
