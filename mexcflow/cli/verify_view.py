"""The Rich tables of what `mexcflow verify` found in the string tables, and of the database's container."""

from datetime import timedelta

from rich.console import Console
from rich.table import Table

from mexcflow.cli.console import empty_table, megabytes, printable
from mexcflow.ops.containers import Container
from mexcflow.ops.verify import BUDGET_BYTES_A_DAY, Report, TableReport

_DEAD_LETTER_COLUMNS = 160


def verify_tables(console: Console, report: Report) -> list[Table]:
    """Return the tables' rows, times and sizes; coverage, outages, dead letters where there are any."""
    rows = empty_table(console, "rows")
    for heading in ("table", "symbol"):
        rows.add_column(heading)
    for heading in ("rows", "t", "d", "dp", "dl"):
        rows.add_column(heading, justify="right", no_wrap=True)
    times = empty_table(console, "times")
    for heading in ("table", "first event", "last event"):
        times.add_column(heading)
    times.add_column("staleness", justify="right")
    sizes = empty_table(console, "sizes")
    sizes.add_column("table")
    for heading in ("data.bin", "bytes a row", "growth"):
        sizes.add_column(heading, justify="right")
    letters = empty_table(console, "newest dead letters")
    for heading in ("table", "received", "text"):
        letters.add_column(heading)
    for name, table in report.tables.items():
        counts = (f"{count:,}" for count in (table.rows, *table.by_type.values()))
        rows.add_row(name, table.symbol or "-", *counts)
        times.add_row(name, table.first_ts or "-", table.last_ts or "-", _seconds(table.staleness_s))
        sizes.add_row(name, megabytes(table.data_bin_bytes), _bytes_a_row(table), _growth(table))
        for letter in table.dead_letters:
            letters.add_row(name, letter.ts, printable(letter.text, _DEAD_LETTER_COLUMNS))
    tables = (rows, times, sizes, *_coverage_tables(console, report), letters)
    return [table for table in tables if table.row_count]


def _coverage_tables(console: Console, report: Report) -> tuple[Table, Table]:
    coverage = empty_table(console, "coverage")
    for heading in ("table", "percent", "since", "outages", "gaps"):
        coverage.add_column(heading, justify="left" if heading in ("table", "since") else "right")
    outages = empty_table(console, "longest outages")
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
    table = empty_table(console, "container")
    for heading in ("container", "image", "volume", "size", "log", "restarts"):
        table.add_column(heading, justify="left" if heading in ("container", "image", "volume") else "right")
    own = (printable(container.name), printable(container.image))
    log, restarts = _megabytes_or_none(container.log_bytes), f"{container.restarts:,}"
    for name, size in (container.volumes or {"-": None}).items():
        table.add_row(*own, printable(name), _megabytes_or_none(size), log, restarts)
    return table


def _growth(table: TableReport) -> str:
    """Return a table's growth in words: "12.3 MB a day, 2.5 % of 500 MB"."""
    if table.growth_bytes_a_day is None:
        return "-"
    return of_budget(table.growth_bytes_a_day) + (" (rough)" if table.growth_is_rough else "")


def of_budget(growth_bytes_a_day: float) -> str:
    """Return a growth and which part of the daily budget it is."""
    share = growth_bytes_a_day / BUDGET_BYTES_A_DAY
    budget = f"{BUDGET_BYTES_A_DAY / 1e6:,.0f} MB"
    return f"{megabytes(growth_bytes_a_day)} a day, {share:.1%} of {budget}".replace("%", " %")


def _megabytes_or_none(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else megabytes(size_bytes)


def _bytes_a_row(table: TableReport) -> str:
    return "-" if table.bytes_a_row is None else f"{table.bytes_a_row:,.1f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.1f} s"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds >= 60 else _seconds(seconds)
