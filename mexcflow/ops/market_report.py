"""What verify reports about the typed tables; the JSON of `mexcflow verify` has it under "market"."""

from dataclasses import dataclass, field

from mexcflow.ops.coverage import CoverageReport


@dataclass(frozen=True)
class MarketTable:
    """What a table takes: rows, doubles included, and bytes on the disk."""

    rows: int
    bytes: int
    bytes_a_row: float | None


@dataclass(kw_only=True)
class Holes:
    """Ids that lack between a stream's first and last trade, and how many of the holes nothing explains.

    `unexplained` shows the first of them: the id before and the one behind.
    """

    missing_ids: int = 0
    holes: int = 0
    explained: int = 0
    unexplained: list[tuple[int, int]] = field(default_factory=list)


@dataclass(kw_only=True)
class StreamTable:
    """A stream in one table. Times are ISO 8601 in UTC; `found` counts what is not as it should be."""

    rows: int
    first_ts: str
    last_ts: str
    staleness_s: float
    found: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class StreamReport:
    """One symbol of an exchange: `tables` and `coverage` have an entry for each that has something of it."""

    exchange: str
    symbol: str
    tables: dict[str, StreamTable] = field(default_factory=dict)
    coverage: dict[str, CoverageReport] = field(default_factory=dict)
    trade_ids: Holes | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.exchange} {self.symbol}"


@dataclass(frozen=True)
class LetterReport:
    """Dead letters of one kind; `newest_ts` is ISO 8601 in UTC."""

    exchange: str
    channel: str
    reason: str
    count: int
    newest_ts: str


@dataclass(kw_only=True)
class MarketReport:
    """What was found in the typed tables; `problems` and `notes` are those of no single stream."""

    tables: dict[str, MarketTable] = field(default_factory=dict)
    streams: list[StreamReport] = field(default_factory=list)
    dead_letters: list[LetterReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
