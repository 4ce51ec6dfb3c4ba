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


def ensure_market(store: Store) -> SetupSummary:
    """Create what is missing of all that concerns no string table; raises as `schema.apply` does."""
    return apply(store, [])


def check_market(store: Store) -> None:
    """Raise `SchemaMismatch` when something of such a name is there and not ours. Changes nothing."""
    statements = read_statements([])
    refuse_mismatches(statements, tables_of(store, statements))
