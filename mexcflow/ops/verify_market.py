"""Verify, the typed tables: what each exchange's symbol has, and whether it can be so.

A hole in trade ids that rise by one is a problem unless coverage says why: a gap with these numbers, or an
outage at that time. Crossed or unsorted books, candles whose high is not the highest, and times that cannot
be are problems too; the rest is worth a note.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from mexcflow.errors import Permanent
from mexcflow.exchanges import TYPED
from mexcflow.ops.coverage import CoverageReport, coverage_notes, iso, outage_spans, report_coverage
from mexcflow.ops.market_report import (
    Holes,
    LetterReport,
    MarketReport,
    MarketTable,
    StreamReport,
    StreamTable,
)
from mexcflow.store import Store
from mexcflow.store.coverage import Interval, State, read_intervals
from mexcflow.store.market_scan import (
    MOST_HOLES,
    REPLACING,
    SCANNED,
    Ids,
    StreamScan,
    dead_letters,
    market_tables,
    merged_rows,
    received_at,
    scan_ids,
    scan_market,
    scan_sequences,
    table_sizes,
)

STALE_S = 60
_CHANNELS = {"trades": "trade", "books": "book", "tickers": "ticker", "candles": "candle"}
_NUMBERS = re.compile(r"\b(\d+) after (\d+)\b")
"""How a gap names the number that came and the one before it."""
_EXAMPLES = 3
_PROBLEMS = {
    "impossible": "rows whose time cannot be: the exchange's and ours are more than a day apart",
    "crossed": "books are crossed: the best bid is not below the best ask",
    "unsorted": "books do not have their levels best first",
    "malformed": "candles whose high is not the highest price, or whose low is not the lowest",
}
_NOTES = {
    "old": "trades were more than a day old when they were received",
    "not_positive": "rows have a price or a quantity that is not positive",
    "without_base_quantity": "trades have no base_quantity: the contract size was not known",
    "empty_side": "books lack bids or asks",
    "backwards": "books have a sequence number below that of the book before",
    "not_merged": "rows are there twice and not merged yet: FINAL leaves them out",
}


def verify_market(store: Store, *, now_ms: int, progress: Callable[[str], None]) -> MarketReport | None:
    """Read the typed tables that are there and return what was found; None where there are none."""
    there = market_tables(store)
    tables = [table for table in SCANNED if table in there]
    if not tables:
        return None
    report = MarketReport()
    verifier = _Verifier(store, report, now_ms, progress)
    for table in tables:
        verifier.attempt(f"reading every row of market_data.{table}", table, partial(verifier.table, table))
    if "books" in tables:
        verifier.attempt("comparing the sequence numbers of the books", "books", verifier.sequences)
    if "trades" in tables:
        verifier.attempt("looking for holes in the trade ids", "trades", verifier.trade_ids)
    if "dead_letters" in there:
        verifier.attempt("counting the dead letters", "dead_letters", verifier.letters)
    verifier.judge()
    report.streams = [verifier.streams[key] for key in sorted(verifier.streams)]
    return report


class _Verifier:
    """Fills in a report, a step at a time."""

    def __init__(
        self, store: Store, report: MarketReport, now_ms: int, progress: Callable[[str], None]
    ) -> None:
        self._store = store
        self._report = report
        self._now_ms = now_ms
        self._progress = progress
        self._since_ms: dict[tuple[str, str, str], int] = {}
        self._intervals: dict[tuple[str, str], list[Interval]] = {}
        self.streams: dict[tuple[str, str], StreamReport] = {}

    def attempt(self, doing: str, table: str, step: Callable[[], None]) -> None:
        """Do a step; a damaged table, or one that is not ours, is a finding and no failure of ours."""
        self._progress(doing)
        try:
            step()
        except Permanent as error:
            self._report.problems.append(f"{table} cannot be read: {error}")

    def table(self, table: str) -> None:
        """Count a table's rows, and what cannot be among them."""
        size = table_sizes(self._store, [table])[table]
        a_row = round(size.bytes / size.rows, 2) if size.rows else None
        self._report.tables[table] = MarketTable(size.rows, size.bytes, a_row)
        scans = scan_market(self._store, table, self._now_ms * 1000)
        for scan in scans:
            self._take(table, scan)
        if table in REPLACING and scans:
            for key, rows in merged_rows(self._store, table).items():
                if key in self.streams and (there := self.streams[key].tables.get(table)):
                    there.found["not_merged"] = max(0, there.rows - rows)  # more may have come meanwhile

    def _take(self, table: str, scan: StreamScan) -> None:
        stream = self._stream(scan.exchange, scan.symbol)
        found = StreamTable(
            rows=scan.rows,
            first_ts=iso(scan.first_us // 1000),
            last_ts=iso(scan.last_us // 1000),
            staleness_s=max(0.0, round(self._now_ms / 1000 - scan.last_us / 1_000_000, 3)),
            found={name: count for name, (count, _) in scan.found.items()},
        )
        stream.tables[table] = found
        if table != "candles":  # of a candle only the last update is left, so its first row tells nothing
            self._since_ms[scan.exchange, scan.symbol, _CHANNELS[table]] = scan.received_us // 1000
        for name, words in _PROBLEMS.items():
            count, first_us = scan.found.get(name, (0, 0))
            if count:
                stream.problems.append(f"{table}: {count:,} {words}, the first at {iso(first_us // 1000)}")
        if found.staleness_s > STALE_S:
            stream.notes.append(f"{table}: nothing new for {timedelta(seconds=round(found.staleness_s))}")

    def sequences(self) -> None:
        """Count the sequence numbers that run backwards: those of another connection may begin anew."""
        for exchange, symbol, count, _ in scan_sequences(self._store):
            if found := self._stream(exchange, symbol).tables.get("books"):
                found.found["backwards"] = count

    def trade_ids(self) -> None:
        """Compare the holes in consecutive trade ids with what coverage knows."""
        held = {exchange for exchange, _ in self.streams}
        for exchange in sorted(held & TYPED.keys()):
            if not TYPED[exchange].consecutive_trades:
                continue
            for symbol, ids in scan_ids(self._store, exchange).items():
                self._take_ids(self._stream(exchange, symbol), ids)

    def _take_ids(self, stream: StreamReport, ids: Ids) -> None:
        ends = sorted({end for hole in ids.holes for end in hole})
        times = received_at(self._store, stream.exchange, stream.symbol, ends)
        explain = _Explanation(self._coverage(stream.exchange, stream.symbol), self._now_ms)
        unexplained = [
            hole
            for hole in ids.holes
            if not explain.covers(*hole, *sorted(times[end] // 1000 for end in hole if end in times))
        ]
        stream.trade_ids = Holes(
            missing_ids=ids.missing,
            holes=len(ids.holes),
            explained=len(ids.holes) - len(unexplained),
            unexplained=unexplained[:_EXAMPLES],
        )
        if unexplained:
            shown = ", ".join(f"{last} to {first}" for last, first in unexplained[:_EXAMPLES])
            stream.problems.append(
                f"trades: {len(unexplained):,} holes in the trade ids that coverage does not explain, "
                f"from {shown}"
            )
        if len(ids.holes) == MOST_HOLES:
            stream.notes.append(f"trades: only the first {MOST_HOLES} holes in the trade ids were looked at")
        if ids.odd:
            stream.notes.append(f"trades: {ids.odd:,} trade ids are no numbers")

    def letters(self) -> None:
        """Count the dead letters by exchange, channel and reason."""
        for one in dead_letters(self._store):
            newest = iso(one.newest_us // 1000)
            letter = LetterReport(one.exchange, one.channel, one.reason, one.times, newest)
            self._report.dead_letters.append(letter)
            of = " ".join(name for name in (one.exchange, one.channel) if name)
            self._report.notes.append(f"{one.times:,} dead letters of {of}: {one.reason}")

    def judge(self) -> None:
        """Say in notes what is worth knowing, and how much of the time each channel was listened to."""
        for stream in list(self.streams.values()):
            for table, found in stream.tables.items():
                for name, words in _NOTES.items():
                    # a candle is written with each of its updates: doubles are the rule there
                    if (count := found.found.get(name, 0)) and (name, table) != ("not_merged", "candles"):
                        stream.notes.append(f"{table}: {count:,} {words}")
            self.attempt(f"reading the coverage of {stream.name}", "coverage", partial(self._cover, stream))

    def _cover(self, stream: StreamReport) -> None:
        intervals = self._coverage(stream.exchange, stream.symbol)
        for channel in dict.fromkeys(one.channel for one in intervals if one.channel):
            of_channel = [one for one in intervals if one.channel in ("", channel)]
            began_ms = min(one.from_ms for one in of_channel)
            since_ms = self._since_ms.get((stream.exchange, stream.symbol, channel), began_ms)
            found = report_coverage(of_channel, since_ms=since_ms, now_ms=self._now_ms)
            if found:
                stream.coverage[channel] = found
        stream.notes.extend(_coverage_words(stream.coverage))

    def _coverage(self, exchange: str, symbol: str) -> list[Interval]:
        if (exchange, symbol) not in self._intervals:
            self._intervals[exchange, symbol] = read_intervals(self._store, exchange, symbol)
        return self._intervals[exchange, symbol]

    def _stream(self, exchange: str, symbol: str) -> StreamReport:
        return self.streams.setdefault((exchange, symbol), StreamReport(exchange=exchange, symbol=symbol))


def _coverage_words(coverage: Mapping[str, CoverageReport]) -> Iterator[str]:
    """Yield notes; what several channels share, as those of one connection do, is said once."""
    alike: dict[tuple[int, str], list[str]] = {}
    for channel, found in coverage.items():
        if found.outages:
            alike.setdefault((found.outage_count, found.outages[0].reason), []).append(channel)
    for channels in alike.values():
        longest = max((coverage[one] for one in channels), key=lambda one: one.outages[0].duration_s)
        yield from (f"{', '.join(channels)}: {note}" for note in coverage_notes(replace(longest, gaps=0)))
    for channel, found in coverage.items():
        if found.gaps:
            yield f"{channel}: {found.gaps:,} gaps, where something lacks or came twice"


class _Explanation:
    """What coverage says about trades that lack."""

    def __init__(self, intervals: Sequence[Interval], now_ms: int) -> None:
        concerned = [one for one in intervals if one.channel in ("", "trade")]
        self._spans = [(start, end) for start, end, _ in outage_spans(concerned, now_ms)]
        self._numbers: list[tuple[int, int]] = []
        for gap in concerned:
            if gap.state is not State.GAP:
                continue
            if named := _NUMBERS.search(gap.reason):
                self._numbers.append((int(named[2]), int(named[1])))
            else:
                self._spans.append((gap.from_ms, gap.to_ms))

    def covers(self, last: int, first: int, from_ms: int = 0, to_ms: int = -1) -> bool:
        """Say whether a hole behind `last` and before `first`, received at these times, is known of."""
        if any(low <= last and first <= high for low, high in self._numbers):
            return True
        return any(start <= to_ms and end >= from_ms for start, end in self._spans)
