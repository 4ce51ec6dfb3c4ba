"""The tables of `market_data` that exchanges with typed tables write: names, columns, how they are made.

Each constant is a table and its columns in order, as `Store.insert_block` takes them. In a TSV block a time
is "<seconds>.<µs, six digits>" of Unix time, a Bool 0 or 1, an array of decimals "[84000.1,84000]". The
forms are those of `sql/050_market.sql`, which says what the columns mean.
"""

from typing import NamedTuple

from mexcflow.store.schema import SetupSummary, apply, refuse_mismatches, tables_of
from mexcflow.store.statements import read_statements
from mexcflow.store.store import Store


class MarketTable(NamedTuple):
    """A table, with its database, and its columns in the order in which rows are written."""

    name: str
    columns: tuple[str, ...]


_STREAM = ("exchange", "symbol", "event_time", "receive_time")

TRADES = MarketTable(
    "market_data.trades", (*_STREAM, "trade_id", "price", "quantity", "base_quantity", "side")
)
BOOKS = MarketTable(
    "market_data.books",
    (*_STREAM, "sequence", "bids.price", "bids.quantity", "asks.price", "asks.quantity"),
)
TICKERS = MarketTable(
    "market_data.tickers",
    (
        *_STREAM, "last_price", "mark_price", "index_price", "open_interest", "funding_rate",
        "next_funding_time",
    ),
)  # fmt: skip
CANDLES = MarketTable(
    "market_data.candles",
    (
        "exchange", "symbol", "interval", "open_time", "open", "high", "low", "close", "volume",
        "quote_volume", "trades", "closed", "event_time", "receive_time",
    ),
)  # fmt: skip
DEAD_LETTERS = MarketTable(
    "market_data.dead_letters",
    ("exchange", "symbol", "channel", "receive_time", "reason", "text"),
)
CONTRACTS = MarketTable(
    "market_data.contracts",
    (
        "exchange", "symbol", "base", "quote", "kind", "contract_size", "inverse", "tick_size",
        "quantity_step", "state", "seen",
    ),
)  # fmt: skip


_KEYS = {
    BOOKS: ("exchange", "symbol", "event_time", "receive_time"),
    TICKERS: ("exchange", "symbol", "event_time", "receive_time"),
    DEAD_LETTERS: ("exchange", "channel", "receive_time", "text"),
}
"""What tells a row of a table that keeps equal rows apart; trades and candles have a natural key."""


def holds_row(store: Store, table: MarketTable, line: str) -> bool:
    """Say whether a table has the row of this line of TabSeparated text; False where it has a natural key."""
    key = _KEYS.get(table, ())
    if not key:
        return False
    fields = dict(zip(table.columns, line.rstrip("\n").split("\t"), strict=True))
    values = {name: fields[name] for name in key}
    said = " AND ".join(map(_equals, key))
    return bool(store.query(f"SELECT 1 FROM {table.name} WHERE {said} LIMIT 1", values))  # noqa: S608 - ours


def _equals(name: str) -> str:
    if name.endswith("_time"):
        return f"{name} = toDateTime64({{{name}:String}}, 6, 'UTC')"
    return f"{name} = {{{name}:String}}"


def ensure_market(store: Store) -> SetupSummary:
    """Create what is missing of all that concerns no string table; raises as `schema.apply` does."""
    return apply(store, [])


def check_market(store: Store) -> None:
    """Raise `SchemaMismatch` when something of such a name is there and not ours. Changes nothing."""
    statements = read_statements([])
    refuse_mismatches(statements, tables_of(store, statements))
