"""The Rich tables of what `mexcflow verify` found in the typed tables."""

from rich.console import Console
from rich.table import Table

from mexcflow.cli.console import empty_table, megabytes, printable
from mexcflow.ops.market_report import MarketReport

_REASON_COLUMNS = 160


def market_tables(console: Console, report: MarketReport) -> list[Table]:
    """Return sizes, streams, coverage and dead letters; each only where it has a row."""
    sizes = _table(console, "typed tables", ("table",), ("rows", "size", "bytes a row"))
    if report.streams:
        for name, size in report.tables.items():
            a_row = "-" if size.bytes_a_row is None else f"{size.bytes_a_row:,.1f}"
            sizes.add_row(name, f"{size.rows:,}", megabytes(size.bytes), a_row)
    letters = _table(console, "dead letters", ("exchange", "channel", "newest", "reason"), ("count",))
    for letter in report.dead_letters:
        reason = printable(letter.reason, _REASON_COLUMNS)
        letters.add_row(letter.exchange, letter.channel or "-", letter.newest_ts, reason, f"{letter.count:,}")
    tables = (sizes, _streams(console, report), _coverage(console, report), letters)
    return [table for table in tables if table.row_count]


def _streams(console: Console, report: MarketReport) -> Table:
    names = ("exchange", "symbol", "table", "first event", "last event")
    table = _table(console, "streams", names, ("staleness", "rows"))
    for stream in report.streams:
        for name, found in stream.tables.items():
            own = (printable(stream.exchange), printable(stream.symbol), name)
            table.add_row(
                *own, found.first_ts, found.last_ts, f"{found.staleness_s:,.1f} s", f"{found.rows:,}"
            )
    return table


def _coverage(console: Console, report: MarketReport) -> Table:
    names = ("exchange", "symbol", "channel", "since")
    table = _table(console, "coverage of the streams", names, ("percent", "outages", "gaps"))
    for stream in report.streams:
        for channel, found in stream.coverage.items():
            own = (printable(stream.exchange), printable(stream.symbol), channel, found.since)
            table.add_row(*own, f"{found.percent:.2f} %", f"{found.outage_count:,}", f"{found.gaps:,}")
    return table


def _table(console: Console, title: str, names: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = empty_table(console, title)
    for name in names:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
