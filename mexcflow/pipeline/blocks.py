"""Blocks: the rows of one batch, by table, as TabSeparated text on their way into INSERTs."""

from collections.abc import Iterator, Sequence

from mexcflow.store.market import MarketTable

_FIRST_US, _LAST_US = 10**15, 10**16 - 1
"""16 digits: 2001 to 2286. Whatever a clock says, a batch must not be refused for it."""


class Blocks:
    """Lines by table; its length is the number of rows of all tables, and so is `rows`."""

    def __init__(self) -> None:
        self._lines: dict[MarketTable, list[str]] = {}
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def add(self, table: MarketTable, line: str) -> None:
        """Take one row."""
        self._lines.setdefault(table, []).append(line)
        self.rows += 1

    def extend(self, table: MarketTable, lines: Sequence[str]) -> None:
        """Take several rows of one table."""
        self._lines.setdefault(table, []).extend(lines)
        self.rows += len(lines)

    def of(self, table: MarketTable) -> int:
        """Return how many rows are for a table."""
        return len(self._lines.get(table, ()))

    def lines(self, table: MarketTable) -> list[str]:
        """Return the rows for a table."""
        return self._lines.get(table, [])

    def __iter__(self) -> Iterator[tuple[MarketTable, bytes]]:
        for table, lines in self._lines.items():
            yield table, "".join(lines).encode("utf-8", "replace")


def spelled_us(us: int) -> str:
    """Return Unix µs as a DateTime64 is read exactly: seconds, a point, six digits."""
    text = str(us if _FIRST_US <= us <= _LAST_US else min(max(us, _FIRST_US), _LAST_US))
    return f"{text[:10]}.{text[10:]}"
