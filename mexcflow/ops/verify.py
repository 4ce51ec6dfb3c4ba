"""Verify: prove that what is stored can be read back, is in order, and how much room it takes.

Every row of every string table is read twice: once for its shape, once for the order of the event times.
The typed tables have their own part, `verify_market.py`.
What is wrong becomes a problem (the command then exits with 1); what is only worth knowing, a note: also
the outages that coverage knows of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from mexcflow.config import Instance, journal_folder
from mexcflow.errors import Permanent
from mexcflow.journal import holder, waiting_frames
from mexcflow.ops.containers import Container, look_up
from mexcflow.ops.coverage import CoverageReport, coverage_notes, iso, report_coverage
from mexcflow.ops.market_report import MarketReport
from mexcflow.ops.verify_market import verify_market
from mexcflow.store import DATABASE, Store
from mexcflow.store.coverage import read_intervals
from mexcflow.store.forms import LOCAL, Existing, Kept, existing_tables, string_flaw
from mexcflow.store.scan import TYPES, Backwards, TypeScan, scan_order, scan_table
from mexcflow.store.sizes import folder_bytes, string_table_files, torn_files

BUDGET_BYTES_A_DAY = 500_000_000
"""What a day of all tables may take before it is worth a note."""
BACKWARDS_LIMIT_MS = 5000
_STALE_S = 60
_ROUGH_SPAN_S = 3600
_DAY_S = 86_400
_NO_TABLE = "there is no table at all: run `mexcflow setup`"


@dataclass(frozen=True)
class Sample:
    """A row worth showing: its time (ISO 8601, UTC) and its text."""

    ts: str
    text: str


@dataclass(kw_only=True)
class TableReport:
    """What was found in one table. Times are ISO 8601 in UTC; None where there is nothing to say."""

    symbol: str | None = None
    rows: int = 0
    by_type: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TYPES.values(), 0))
    data_bin_bytes: int = 0
    index_mrk_bytes: int | None = None
    bytes_a_row: float | None = None
    growth_bytes_a_day: float | None = None
    growth_is_rough: bool = False
    first_ts: str | None = None
    last_ts: str | None = None
    staleness_s: float | None = None
    undecodable_rows: int = 0
    undecodable: list[Sample] = field(default_factory=list)
    backwards: int = 0
    backwards_worst_s: float | None = None
    backwards_worst_ts: str | None = None
    coverage: CoverageReport | None = None
    waiting_frames: int = 0
    dead_letters: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Report:
    """What was found in a database; `ok` when there is no problem anywhere.

    `market` is None where there are no typed tables, and when only some string tables were asked for.
    """

    ok: bool = True
    database: str = ""
    checked_at: str = ""
    volume_bytes: int = 0
    container: Container | None = None
    growth_bytes_a_day: float | None = None
    growth_budget_bytes_a_day: int = BUDGET_BYTES_A_DAY
    tables: dict[str, TableReport] = field(default_factory=dict)
    market: MarketReport | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(
    store: Store,
    instances: Sequence[Instance],
    *,
    tables: Sequence[str] = (),
    now_ms: int,
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Read the string tables (those named, else all and the typed tables) and return what was found.

    `progress` is told in words what is being done. Raises only what says nothing about the data, e.g.
    `StoreUnavailable`.
    """
    existing = existing_tables(store)
    streams = {instance.table: instance for instance in instances}
    report = Report(database=store.location, checked_at=iso(now_ms))
    for table in _chosen(tables, existing, streams):
        stream = streams.get(table)
        found = TableReport(symbol=stream.symbol if stream else None)
        report.tables[table] = found
        scans = _verify_table(store, table, existing, found, now_ms=now_ms, progress=progress)
        events = _events(scans)
        if stream and events:
            progress(f"reading the coverage of {table}")
            _take_coverage(store, stream, found, min(scan.first_ms for scan in events), now_ms)
        if stream:
            _take_journal(store, stream, found)
    if not tables:
        report.market = verify_market(store, now_ms=now_ms, progress=progress)
    progress("adding up the data folder")
    report.volume_bytes = folder_bytes(store)
    if store.folder is None:
        progress("asking docker about the database's container")
        _take_container(report, store.location)
    if any(existing[table].cluster for table in report.tables if table in existing):
        report.notes.append("the whole volume is that of one node, the tables are those of all shards")
    return _concluded(report)


def missing(location: str, reason: str, *, now_ms: int) -> Report:
    """Return the report on a data folder that does not exist or holds no database."""
    report = Report(database=location, checked_at=iso(now_ms), notes=[reason])
    return _concluded(report)


def _chosen(tables: Sequence[str], existing: dict[str, Existing], streams: dict[str, Instance]) -> list[str]:
    if tables:
        return list(dict.fromkeys(tables))
    held = {f"{name}{LOCAL}" for name, there in existing.items() if there.cluster}
    return [
        name for name in existing if name in streams or (name not in held and not string_flaw(name, existing))
    ]


def _take_container(report: Report, location: str) -> None:
    """Say what docker knows of a database that a compose file runs; its sizes are the real ones."""
    seen = look_up(location)
    report.container = seen.container
    report.notes.extend(seen.notes)
    if seen.container and seen.container.volume_bytes is not None:
        report.volume_bytes = seen.container.volume_bytes


def _concluded(report: Report) -> Report:
    """Add up what concerns all tables."""
    growths = [table.growth_bytes_a_day for table in report.tables.values() if table.growth_bytes_a_day]
    if growths:
        report.growth_bytes_a_day = round(sum(growths))
        if report.growth_bytes_a_day > BUDGET_BYTES_A_DAY:
            report.notes.append(
                f"all tables together grow by {report.growth_bytes_a_day / 1e6:,.1f} MB a day, "
                f"more than {BUDGET_BYTES_A_DAY / 1e6:,.0f} MB"
            )
    if not report.tables and not (report.market and report.market.streams):
        report.problems.append(_NO_TABLE)
    for name, table in report.tables.items():
        report.problems.extend(f"{name}: {problem}" for problem in table.problems)
    if report.market:
        report.problems.extend(f"market_data: {problem}" for problem in report.market.problems)
        for stream in report.market.streams:
            report.problems.extend(f"{stream.name}: {problem}" for problem in stream.problems)
    report.ok = not report.problems
    return report


def _verify_table(
    store: Store,
    table: str,
    existing: dict[str, Existing],
    found: TableReport,
    *,
    now_ms: int,
    progress: Callable[[str], None],
) -> list[TypeScan]:
    """Fill in `found`; returns what was counted, nothing of a table that cannot be read."""
    scans: list[TypeScan] = []
    there = existing.get(table)
    if there is None:
        found.problems.append(f"there is no table {DATABASE}.{table}: run `mexcflow setup`")
        return scans
    flaw = string_flaw(table, existing)
    if flaw is not None:
        found.problems.append(f"not one of ours: it is {flaw.what}")
        return scans
    in_order = there.kept is Kept.STRIPELOG
    try:
        found.data_bin_bytes, found.index_mrk_bytes = string_table_files(store, table, there)
        if in_order:
            found.problems.extend(torn_files(store, table))
        progress(f"reading every row of {table}")
        scans = scan_table(store, table, now_ms)
        _take_rows(found, scans, now_ms)
        if in_order:
            progress(f"comparing the times of {table}")
            _take_order(found, scan_order(store, table, BACKWARDS_LIMIT_MS))
        elif found.rows:
            found.notes.append("its engine sorts the rows: whether times ran backwards cannot be seen")
    except Permanent as error:
        # a damaged file, or a table somebody else wrote into: a finding, not a failure of ours
        found.problems.append(f"cannot be read: {error}")
    return scans


def _events(scans: Sequence[TypeScan]) -> list[TypeScan]:
    """Return those that have event times: a dead letter's time is when it was received."""
    return [scan for scan in scans if TYPES.get(scan.code) != "dl"]


def _take_journal(store: Store, stream: Instance, found: TableReport) -> None:
    """Say what was received and is not in the table yet."""
    database = str(store.folder or store.location)
    folder = journal_folder(stream.journal, database, stream.exchange, stream.symbol)
    found.waiting_frames = waiting_frames(folder)
    if found.waiting_frames and holder(folder) is None:  # else they are on their way
        found.notes.append(
            f"{found.waiting_frames:,} frames wait in the journal: the next `mexcflow run --symbol "
            f"{stream.symbol}` inserts them"
        )


def _take_coverage(store: Store, stream: Instance, found: TableReport, since_ms: int, now_ms: int) -> None:
    try:
        intervals = read_intervals(store, stream.exchange, stream.symbol)
    except Permanent as error:
        found.problems.append(f"its coverage cannot be read: {error}")
        return
    found.coverage = report_coverage(intervals, since_ms=since_ms, now_ms=now_ms)
    if found.coverage:
        found.notes.extend(coverage_notes(found.coverage))


def _take_order(found: TableReport, backwards: Backwards) -> None:
    if backwards.rows:
        found.backwards = backwards.rows
        found.backwards_worst_s = -backwards.worst_ms / 1000
        found.backwards_worst_ts = iso(backwards.worst_at_ms)
        found.problems.append(
            f"{backwards.rows:,} times run backwards by more than {BACKWARDS_LIMIT_MS // 1000} s, "
            f"the worst by {found.backwards_worst_s:,.3f} s to {found.backwards_worst_ts}"
        )


def _take_rows(found: TableReport, scans: Sequence[TypeScan], now_ms: int) -> None:
    found.rows = sum(scan.rows for scan in scans)
    if not found.rows:
        found.notes.append("no rows yet")
        return
    for scan in scans:
        if scan.code in TYPES:
            found.by_type[TYPES[scan.code]] = scan.rows
        found.undecodable_rows += scan.undecodable
        mt = TYPES.get(scan.code, f"unknown type {scan.code}")
        found.undecodable.extend(Sample(iso(ms), f"{mt}: {text}") for ms, text in scan.examples)
        found.dead_letters.extend(Sample(iso(ms), text) for ms, text in scan.newest)
    if found.undecodable_rows:
        example = found.undecodable[0]
        found.problems.append(
            f"{found.undecodable_rows:,} rows do not decode, e.g. at {example.ts} {example.text!r}"
        )
    if found.by_type["dl"]:
        found.notes.append(f"{found.by_type['dl']:,} dead letters")
    found.bytes_a_row = round(found.data_bin_bytes / found.rows, 2)
    events = _events(scans)
    if events:
        _take_times(
            found, min(scan.first_ms for scan in events), max(scan.last_ms for scan in events), now_ms
        )


def _take_times(found: TableReport, first_ms: int, last_ms: int, now_ms: int) -> None:
    found.first_ts, found.last_ts = iso(first_ms), iso(last_ms)
    # what is being recorded may be newer than the moment when verify began
    found.staleness_s = max(0.0, round((now_ms - last_ms) / 1000, 3))
    if found.staleness_s > _STALE_S:
        found.notes.append(f"nothing new for {timedelta(seconds=round(found.staleness_s))}")
    span_s = (last_ms - first_ms) / 1000
    if span_s < 1:
        return
    found.growth_bytes_a_day = round(found.data_bin_bytes / span_s * _DAY_S)
    found.growth_is_rough = span_s < _ROUGH_SPAN_S
    if found.growth_is_rough:
        found.notes.append(f"the growth a day is a rough projection from {timedelta(seconds=round(span_s))}")
