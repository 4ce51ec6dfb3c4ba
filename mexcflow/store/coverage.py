"""Coverage: what we have of a stream and what we lack, in `market_data.coverage`.

An interval is known by exchange, symbol, channel, beginning and state. Writing one again replaces it, so
one that grows is written again and again, and one that is replayed after a crash does no harm. What
counts is the row with the latest `updated`.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum

from mexcflow.store.store import Store
from mexcflow.store.tsv import spelled_ms
from mexcflow.store.typed import insert_typed

COVERAGE = "market_data.coverage"


class State(StrEnum):
    """What an interval says."""

    LIVE = "live"  # a channel was listened to, and answered
    OUTAGE = "outage"  # nobody was listening
    GAP = "gap"  # a frame came twice or in the wrong order


@dataclass(frozen=True, slots=True)
class Interval:
    """A row of the table. Times are Unix ms of the recorder's clock; an outage has the channel ''.

    `updated_ms` says which of two versions of an interval is the later one.
    """

    exchange: str
    symbol: str
    channel: str
    from_ms: int
    to_ms: int
    state: State
    reason: str
    frames: int
    rows: int
    run: str
    host: str
    updated_ms: int = 0


_COLUMNS = (
    "exchange", "symbol", "channel", "from", "to", "state", "reason", "frames", "rows", "run", "host",
    "updated",
)  # fmt: skip

_READ = """
SELECT
    exchange, symbol, channel, toUnixTimestamp64Milli(`from`), toUnixTimestamp64Milli(`to`), toString(state),
    reason, frames, rows, run, host, toUnixTimestamp64Milli(updated)
FROM market_data.coverage FINAL
WHERE exchange = {exchange:String} AND symbol = {symbol:String}
ORDER BY `from`, channel, state
"""


def write_intervals(store: Store, intervals: Sequence[Interval], *, token: str) -> None:
    """Write intervals in one INSERT; the same `token` a second time changes nothing."""
    rows = []
    for interval in intervals:
        values = dict(zip(_COLUMNS, astuple(interval), strict=True))
        for name in ("from", "to", "updated"):
            values[name] = spelled_ms(values[name])
        rows.append(list(values.values()))
    insert_typed(store, COVERAGE, _COLUMNS, rows, token=token)


def read_intervals(store: Store, exchange: str, symbol: str) -> list[Interval]:
    """Return what is known of one stream, by beginning; nothing where there is no table of coverage."""
    if not store.query("SELECT 1 FROM system.tables WHERE database = 'market_data' AND name = 'coverage'"):
        return []
    found = store.query(_READ, {"exchange": exchange, "symbol": symbol})
    return [Interval(*(*row[:5], State(row[5]), *row[6:])) for row in found]
