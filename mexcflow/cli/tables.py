"""Every Rich table of the commands.

On a terminal they have lines and colours; in a pipe they are plain columns, one row a line, never cut.
Whatever comes out of the database is shown as text, never as markup or as commands to the terminal.
"""

import re
from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mexcflow.cli.console import PIPE_COLUMNS
from mexcflow.cli.console import empty_table as _table
from mexcflow.cli.console import make_console as make_console
from mexcflow.cli.console import printable as printable
from mexcflow.cli.statistics import statistics_fields, statistics_title
from mexcflow.metrics import Snapshot
from mexcflow.ops.containers import Container
from mexcflow.ops.coverage import iso
from mexcflow.ops.proxycheck import STEPS, Checked, Step
from mexcflow.ops.rebuild import Rebuilt
from mexcflow.ops.rowdiff import Difference
from mexcflow.ops.setup import SetupSummary
from mexcflow.ops.verify import BUDGET_BYTES_A_DAY, Report, TableReport
from mexcflow.store.repair import Finding
from mexcflow.store.scan import TYPES

_DEAD_LETTER_COLUMNS = 160
_FOLDED_COLUMNS = 40
"""A wider text in a result goes on in the next line of its cell."""
_NUMERIC = re.compile(r"(?:Nullable\(|LowCardinality\()*(?:U?Int|B?Float|Decimal)")
_TSV_ESCAPE = re.compile(r"\\([\\'])")


def statistics_panel(snapshot: Snapshot) -> Panel:
    """Return the statistics block of a recording for the live view."""
    grid = Table.grid(padding=(0, 2))
    for label, value in statistics_fields(snapshot):
        grid.add_row(Text(label, style="dim"), Text(value))
    return Panel(grid, title=Text(statistics_title(snapshot)), title_align="left", expand=False)


def setup_table(console: Console, summary: SetupSummary) -> Table:
    """Return what setup did, a line a thing."""
    table = _table(console, "setup")
    table.add_column("what was done")
    table.add_column("to")
    styles = {"created": "green", "replaced": "yellow", "dropped": "yellow", "refused": "red", "found": "dim"}
    words = {"found": "already there", "refused": "not dropped"}
    for done, style in styles.items():
        for thing in getattr(summary, done):
            table.add_row(Text(words.get(done, done), style=style), printable(thing))
    return table


def proxies_table(console: Console, found: Sequence[Checked]) -> Table:
    """Return how long each step through each proxy took, and what went wrong."""
    table = _table(console, "proxies")
    for name in ("proxy", "of", "success"):
        table.add_column(name)
    for step in STEPS:
        table.add_column(f"{step} ms", justify="right", no_wrap=True)
    table.add_column("reason")
    for one in found:
        style = "green" if one.ok else "red"
        table.add_row(
            printable(one.proxy),
            printable(", ".join(one.used_by) or one.symbol),
            Text(f"{one.succeeded}/{one.attempts}", style=style),
            *(_step(one.steps[step], one.attempts) for step in STEPS),
            printable("; ".join(one.reasons)),
        )
    return table


def _step(step: Step, attempts: int) -> str:
    if step.median_ms is None:
        return "-"
    shown = [ms for ms in (step.min_ms, step.median_ms, step.max_ms) if ms is not None]
    times = "/".join(f"{ms:.{int(ms < 10)}f}" for ms in shown)
    return times if step.succeeded == attempts else f"{times} ({step.succeeded} of {attempts})"


def repair_table(console: Console, found: Sequence[Finding]) -> Table:
    """Return what is whole of each string table, and what is not."""
    table = _table(console, "string tables")
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


def rebuilt_table(console: Console, report: Rebuilt) -> Table:
    """Return how many rows of each kind the two tables have."""
    table = _table(console, "rows")
    table.add_column("table")
    for heading in ("rows", *TYPES.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, counts in (("old", report.old), ("new", report.new)):
        cells = (counts.get(mt, 0) for mt in TYPES.values())
        table.add_row(name, f"{sum(counts.values()):,}", *(f"{count:,}" for count in cells))
    return table


def difference_table(console: Console, differences: Sequence[Difference]) -> Table:
    """Return the first rows that differ, the old one above the new one."""
    table = _table(console, "first differences")
    table.add_column("row", justify="right")
    for heading in ("", "ts", "mt", "m"):
        table.add_column(heading, no_wrap=heading in ("ts", "mt"))
    for one in differences:
        for name, row, style in (("old", one.old, "red"), ("new", one.new, "green")):
            ts, mt, m = (iso(row[0]), row[1], row[2]) if row else ("-", "", "")
            table.add_row(f"{one.row:,}", Text(name, style=style), ts, mt, printable(m, _DEAD_LETTER_COLUMNS))
    return table


def verify_tables(console: Console, report: Report) -> list[Table]:
    """Return the tables' rows, times and sizes; coverage, outages, dead letters where there are any."""
    rows = _table(console, "rows")
    for heading in ("table", "symbol"):
        rows.add_column(heading)
    for heading in ("rows", "t", "d", "dp", "dl"):
        rows.add_column(heading, justify="right", no_wrap=True)
    times = _table(console, "times")
    for heading in ("table", "first event", "last event"):
        times.add_column(heading)
    times.add_column("staleness", justify="right")
    sizes = _table(console, "sizes")
    sizes.add_column("table")
    for heading in ("data.bin", "bytes a row", "growth"):
        sizes.add_column(heading, justify="right")
    letters = _table(console, "newest dead letters")
    for heading in ("table", "received", "text"):
        letters.add_column(heading)
    for name, table in report.tables.items():
        counts = (f"{count:,}" for count in (table.rows, *table.by_type.values()))
        rows.add_row(name, table.symbol or "-", *counts)
        times.add_row(name, table.first_ts or "-", table.last_ts or "-", _seconds(table.staleness_s))
        sizes.add_row(name, megabytes(table.data_bin_bytes), _bytes_a_row(table), growth(table))
        for letter in table.dead_letters:
            letters.add_row(name, letter.ts, printable(letter.text, _DEAD_LETTER_COLUMNS))
    tables = (rows, times, sizes, *_coverage_tables(console, report), letters)
    return [table for table in tables if table.row_count]


def _coverage_tables(console: Console, report: Report) -> tuple[Table, Table]:
    coverage = _table(console, "coverage")
    for heading in ("table", "percent", "since", "outages", "gaps"):
        coverage.add_column(heading, justify="left" if heading in ("table", "since") else "right")
    outages = _table(console, "longest outages")
    for heading in ("table", "from", "to", "duration", "reason"):
        outages.add_column(heading, justify="right" if heading == "duration" else "left")
    for name, table in report.tables.items():
        if found := table.coverage:
            counts = (f"{found.outage_count:,}", f"{found.gaps:,}")
            coverage.add_row(name, f"{found.percent:.2f} %", found.since, *counts)
            for outage in found.outages:
                to = "(now)" if outage.ongoing else outage.to_ts
                outages.add_row(
                    name, outage.from_ts, to, _duration(outage.duration_s), printable(outage.reason)
                )
    return coverage, outages


def container_table(console: Console, container: Container) -> Table:
    """Return what docker says of the database's container, a row a volume."""
    table = _table(console, "container")
    for heading in ("container", "image", "volume", "size", "log", "restarts"):
        table.add_column(heading, justify="left" if heading in ("container", "image", "volume") else "right")
    own = (printable(container.name), printable(container.image))
    log, restarts = _megabytes_or_none(container.log_bytes), f"{container.restarts:,}"
    for name, size in (container.volumes or {"-": None}).items():
        table.add_row(*own, printable(name), _megabytes_or_none(size), log, restarts)
    return table


def growth(table: TableReport) -> str:
    """Return a table's growth in words: "12.3 MB a day, 2.5 % of 500 MB"."""
    if table.growth_bytes_a_day is None:
        return "-"
    return of_budget(table.growth_bytes_a_day) + (" (rough)" if table.growth_is_rough else "")


def of_budget(growth_bytes_a_day: float) -> str:
    """Return a growth and which part of the daily budget it is."""
    share = growth_bytes_a_day / BUDGET_BYTES_A_DAY
    budget = f"{BUDGET_BYTES_A_DAY / 1e6:,.0f} MB"
    return f"{megabytes(growth_bytes_a_day)} a day, {share:.1%} of {budget}".replace("%", " %")


def megabytes(size_bytes: float) -> str:
    """Return a size in the unit that suits it, decimal as disks are sold."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"


def _megabytes_or_none(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else megabytes(size_bytes)


def print_result(console: Console, lines: Sequence[str]) -> None:
    """Print a statement's result: `lines` are TabSeparatedWithNamesAndTypes. No number is ever cut."""
    table = _result_table(console, lines)
    needed = Console(width=PIPE_COLUMNS).measure(table).maximum
    if needed > console.width:  # the terminal wraps its lines then, as it does those of clickhouse-client
        console = Console(width=needed, highlight=False)
    console.print(table)


def _result_table(console: Console, lines: Sequence[str]) -> Table:
    names, types, *rows = (line.split("\t") for line in lines)
    table = _table(console, "")
    for name, kind in zip(names, types, strict=True):
        # without its Nullable(...), which is the widest part of many a column
        shown = re.sub(r"^Nullable\((.*)\)$", r"\1", _cell(kind).plain)
        numeric = bool(_NUMERIC.match(kind))
        table.add_column(
            Text.assemble(_cell(name), "\n", (shown, "dim")),
            justify="right" if numeric else "left",
            no_wrap=numeric or shown.startswith("Date"),
            max_width=None if numeric else _FOLDED_COLUMNS,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(field: str) -> Text:
    if field == "\\N":
        return Text("NULL", style="dim")
    return printable(_TSV_ESCAPE.sub(r"\1", field))


def _bytes_a_row(table: TableReport) -> str:
    return "-" if table.bytes_a_row is None else f"{table.bytes_a_row:,.1f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.1f} s"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds >= 60 else _seconds(seconds)
