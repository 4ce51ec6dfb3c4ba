"""What the table of coverage says about one stream: how much of the time is there, and what is not, and why.

A stream is covered while any of its channels was listened to. Time about which nothing is written down is
not covered: it is shown as an outage of its own, unless it is as short as making a connection takes.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mexcflow.store.coverage import Interval, State

RUNNING_MS = 90_000
"""A recorder whose last word is not older than this is taken to be at work. Longer holes are outages."""
LONGEST = 3
"""How many outages are shown."""
_HOLE = "not known: nothing is written down about this time"
_Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which nobody was listening: ISO 8601 in UTC; `ongoing` when it has not ended by now."""

    from_ts: str
    to_ts: str
    duration_s: float
    reason: str
    ongoing: bool = False


@dataclass(frozen=True, kw_only=True)
class CoverageReport:
    """How much of the time from `since` (the first row) until now is covered; the longest outages.

    `outage_count` counts all outages of that time, `gaps` what came twice or in the wrong order.
    """

    percent: float
    live_s: float
    since: str
    outage_count: int
    outages: list[Outage] = field(default_factory=list)
    gaps: int = 0


def report_coverage(intervals: Sequence[Interval], *, since_ms: int, now_ms: int) -> CoverageReport | None:
    """Return what these intervals of one stream say; None where there are none."""
    if not intervals:
        return None
    since_ms = min(since_ms, now_ms)  # the exchange's clock may be ahead of ours
    outages = outage_spans(intervals, now_ms)
    live = _live(intervals, now_ms)
    known = [*live, *((start, end) for start, end, _ in outages)]
    outages += [(start, end, _HOLE) for start, end in _holes(known, since_ms, now_ms)]
    outages = [(max(start, since_ms), end, reason) for start, end, reason in outages if end > since_ms]
    live_ms = (now_ms - since_ms) - sum(end - start for start, end in _holes(live, since_ms, now_ms, 0))
    longest = sorted(outages, key=lambda outage: (outage[0] - outage[1], outage[0]))[:LONGEST]
    return CoverageReport(
        percent=live_ms * 10_000 // max(1, now_ms - since_ms) / 100,
        live_s=live_ms / 1000,
        since=iso(since_ms),
        outage_count=len(outages),
        outages=[_shown(start, end, reason, now_ms) for start, end, reason in longest],
        gaps=sum(interval.state is State.GAP and interval.to_ms >= since_ms for interval in intervals),
    )


def coverage_notes(report: CoverageReport) -> list[str]:
    """Return in words what is worth knowing of it."""
    notes = []
    if report.outages:
        longest = report.outages[0]
        notes.append(
            f"outages: {report.outage_count:,}, the longest {timedelta(seconds=round(longest.duration_s))} "
            f"from {longest.from_ts} ({longest.reason!r})"
        )
    if report.gaps:
        notes.append(f"gaps: {report.gaps:,} times a frame came twice or in the wrong order")
    return notes


def outage_spans(intervals: Sequence[Interval], now_ms: int) -> list[tuple[int, int, str]]:
    """Return from, to and reason of each outage; one without an end lasts until something else begins."""
    begun = sorted({interval.from_ms for interval in intervals if interval.state is not State.GAP})
    found = []
    for outage in intervals:
        if outage.state is State.OUTAGE:
            later = bisect_right(begun, outage.from_ms)
            next_ms = begun[later] if later < len(begun) else now_ms
            end_ms = outage.to_ms if outage.to_ms > outage.from_ms else next_ms
            found.append((outage.from_ms, end_ms, outage.reason))
    return found


def iso(ms: int) -> str:
    """Return Unix ms as ISO 8601 in UTC with three decimals."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _shown(start_ms: int, end_ms: int, reason: str, now_ms: int) -> Outage:
    return Outage(
        from_ts=iso(start_ms),
        to_ts=iso(end_ms),
        duration_s=(end_ms - start_ms) / 1000,
        reason=reason,
        ongoing=end_ms == now_ms,
    )


def _live(intervals: Sequence[Interval], now_ms: int) -> list[_Span]:
    """Return the times listened to; up to now when the newest is one that a recorder is still writing."""
    live = [interval for interval in intervals if interval.state is State.LIVE]
    spans = [(interval.from_ms, interval.to_ms) for interval in live]
    if live:
        newest = max(live, key=lambda interval: (interval.to_ms, interval.updated_ms))
        ended = any(one.from_ms >= newest.to_ms for one in intervals if one.state is State.OUTAGE)
        if not ended and now_ms - newest.updated_ms <= RUNNING_MS:
            spans.append((newest.to_ms, now_ms))
    return spans


def _holes(
    spans: Sequence[_Span], since_ms: int, now_ms: int, longer_than_ms: int = RUNNING_MS
) -> Iterator[_Span]:
    """Yield what none of the spans covers between two times, if it is longer than so much."""
    at_ms = since_ms
    for start_ms, end_ms in [*sorted(spans), (now_ms, now_ms)]:
        start_ms = min(start_ms, now_ms)
        if start_ms - at_ms > longer_than_ms:
            yield at_ms, start_ms
        at_ms = max(at_ms, end_ms)
