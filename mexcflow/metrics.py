"""Every number the recorder counts, with its meaning beside it, and they add up:

    frames = messages (of all channels) + acks + pongs + exchange errors + skipped + dead letters

Only the insert thread counts frames, and only after their rows are in the table; the receive thread
counts reconnects. What came twice or in the wrong order is stored all the same, and counted beside the
sum. Everything goes through one lock, so a snapshot never shows half a batch.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

MEANINGS = {
    "frames": "websocket messages read and dealt with",
    "rows": "records appended to the table, dead letters among them",
    "messages": "frames of market data whose rows are in the table, by channel",
    "acks": "acknowledgements of a subscription",
    "pongs": "answers to our heartbeat",
    "skipped": "frames of market data with nothing in them",
    "exchange_errors": "error frames the exchange sent",
    "dead_letters": "frames that could not be decoded, stored as text",
    "duplicates": "frames of market data that came twice, stored as sent",
    "backwards": "frames of market data with a lower sequence number than the one before, stored as sent",
    "errors": "exchange errors but for unknown symbols, missing acknowledgements, failed inserts",
    "reconnects": "connections to the exchange after the first one",
    "inserts": "INSERT statements the database confirmed",
    "insert_ms": "time of those statements",
    "lag_ms": "receive time minus event time of each frame of market data",
    "recovered_frames": "frames that an earlier run left in the journal, dealt with by this one",
    "backlog_frames": "frames in the journal that are not yet in the table",
    "backlog_s": "how long the oldest of them has waited",
}


@dataclass
class Tally:
    """What one batch, or one statistics interval, or the whole run came to."""

    frames: int = 0
    rows: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    acks: int = 0
    pongs: int = 0
    skipped: int = 0
    exchange_errors: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    backwards: int = 0
    errors: int = 0
    reconnects: int = 0
    recovered_frames: int = 0
    inserts: int = 0
    insert_ms: float = 0.0
    insert_ms_max: float = 0.0
    lags_ms: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add what another tally counted to this one."""
        self.frames += other.frames
        self.rows += other.rows
        self.messages.update(other.messages)
        self.acks += other.acks
        self.pongs += other.pongs
        self.skipped += other.skipped
        self.exchange_errors += other.exchange_errors
        self.dead_letters += other.dead_letters
        self.duplicates += other.duplicates
        self.backwards += other.backwards
        self.errors += other.errors
        self.reconnects += other.reconnects
        self.recovered_frames += other.recovered_frames
        self.inserts += other.inserts
        self.insert_ms += other.insert_ms
        self.insert_ms_max = max(self.insert_ms_max, other.insert_ms_max)
        self.lags_ms.update(other.lags_ms)


class Backlog(NamedTuple):
    """What is in the journal and not yet in the table, and how long the oldest of it has waited."""

    frames: int = 0
    age_s: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """The statistics block: totals since the start, and rates over the last interval.

    In the final block the interval is the whole run.
    """

    symbol: str
    table: str
    final: bool
    elapsed_s: float
    interval_s: float
    total: Tally
    interval: Tally
    backlog: Backlog
    last_reason: str

    @property
    def rows_per_s(self) -> float:
        """Records appended a second over the interval."""
        return self.interval.rows / self.interval_s if self.interval_s > 0 else 0.0

    @property
    def lag_median_ms(self) -> int | None:
        """Median lag of the interval, None without market data."""
        return _median(self.interval.lags_ms)

    @property
    def lag_max_ms(self) -> int | None:
        """Largest lag of the interval, None without market data."""
        return max(self.interval.lags_ms, default=None)

    @property
    def insert_mean_ms(self) -> float | None:
        """Mean time of an INSERT over the interval, None without one."""
        return self.interval.insert_ms / self.interval.inserts if self.interval.inserts else None

    def with_rates_of(self, finished: "Snapshot | None") -> "Snapshot":
        """Return this peek with the rates of the last interval, as long as it has none of its own."""
        if finished is None or self.interval.inserts or self.interval_s > finished.interval_s:
            return self
        return replace(self, interval=finished.interval, interval_s=finished.interval_s)

    def as_json(self) -> dict[str, Any]:
        """Return the block for machines; the keys are those of `MEANINGS`."""
        total = self.total
        return {
            "symbol": self.symbol,
            "table": self.table,
            "final": self.final,
            "elapsed_s": round(self.elapsed_s, 3),
            "frames": total.frames,
            "rows": total.rows,
            "messages": dict(total.messages),
            "acks": total.acks,
            "pongs": total.pongs,
            "skipped": total.skipped,
            "exchange_errors": total.exchange_errors,
            "dead_letters": total.dead_letters,
            "duplicates": total.duplicates,
            "backwards": total.backwards,
            "errors": total.errors,
            "reconnects": total.reconnects,
            "last_reason": self.last_reason,
            "inserts": total.inserts,
            "recovered_frames": total.recovered_frames,
            "backlog_frames": self.backlog.frames,
            "backlog_s": round(self.backlog.age_s, 3),
            "rows_per_s": round(self.rows_per_s, 3),
            "lag_ms": {"median": self.lag_median_ms, "max": self.lag_max_ms},
            "insert_ms": {
                "mean": None if self.insert_mean_ms is None else round(self.insert_mean_ms, 3),
                "max": round(self.interval.insert_ms_max, 3),
            },
        }


def _median(counts: Counter[int]) -> int | None:
    half = (counts.total() + 1) // 2
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= half:
            return value
    return None


class Metrics:
    """The counters of one instance, safe to use from every thread."""

    def __init__(self, symbol: str, table: str, channels: tuple[str, ...], *, now: float) -> None:
        self._symbol = symbol
        self._table = table
        self._lock = threading.Lock()
        self._total = Tally(messages=Counter(dict.fromkeys(channels, 0)))
        self._interval = Tally()
        self._started = self._interval_started = now
        self._last_reason = ""
        self.newest_data_ns = 0
        """When the newest market data came in (Unix ns), 0 before the first; the receive thread sets it."""
        self._connections: dict[str, bool] = {}

    def count(self, tally: Tally) -> None:
        """Add a finished batch."""
        with self._lock:
            self._interval.add(tally)

    def connection(self, name: str, *, stands: bool) -> None:
        """Take note that one of the connections stands, or that it is gone."""
        with self._lock:
            self._connections[name] = stands

    @property
    def connected(self) -> bool:
        """Whether every connection stands."""
        with self._lock:
            return bool(self._connections) and all(self._connections.values())

    def error(self) -> None:
        """Count one error that is no frame: a missing acknowledgement, a failed insert."""
        self.count(Tally(errors=1))

    def disconnected(self, reason: str) -> None:
        """Remember why the connection is gone, or why it could not be made."""
        with self._lock:
            self._last_reason = reason

    def reconnected(self) -> None:
        """Count a connection that stands again."""
        self.count(Tally(reconnects=1))

    @property
    def errors_in_interval(self) -> int:
        """Errors since the last statistics block."""
        with self._lock:
            return self._interval.errors

    def snapshot(self, *, now: float, backlog: Backlog, final: bool = False, close: bool = True) -> Snapshot:
        """Return the statistics; `close` ends the interval, without it this is a peek at a running one."""
        with self._lock:
            total = Tally()
            total.add(self._total)
            total.add(self._interval)
            interval = Tally()
            interval.add(total if final else self._interval)
            snapshot = Snapshot(
                symbol=self._symbol,
                table=self._table,
                final=final,
                elapsed_s=now - self._started,
                interval_s=now - (self._started if final else self._interval_started),
                total=total,
                interval=interval,
                backlog=backlog,
                last_reason=self._last_reason,
            )
            if close:
                self._total = total
                self._interval = Tally()
                self._interval_started = now
        return snapshot
