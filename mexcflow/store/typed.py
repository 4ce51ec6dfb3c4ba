"""Inserts into tables with typed columns, those of `market_data`: MergeTree, so a batch may be sent again.

A value is a text, a whole number or None (NULL); a time is the text that `spelled_ms` makes of Unix ms.
With a token an INSERT is there once, however often it is sent, as long as the table's
`non_replicated_deduplication_window` remembers it (10,000 INSERTs, also after the database was closed); in a
cluster likewise, see `tokens.py`.
"""

from collections.abc import Sequence

from mexcflow.errors import StatementRefused
from mexcflow.store.store import Store
from mexcflow.store.tokens import once
from mexcflow.store.tsv import escaped


def insert_typed(
    store: Store,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    token: str = "",
) -> None:
    """Insert `rows` into `table` ("market_data.coverage") in one INSERT: all of them or none.

    The same `token` again is taken for the same INSERT and changes nothing, whatever its rows are. Without
    one, the engine compares contents: rows equal to those of an INSERT it remembers are not stored again.
    """
    if not rows:
        return
    for index, row in enumerate(rows):
        if len(row) != len(columns):
            raise StatementRefused(
                f"row {index} for {table} has {len(row)} values for {len(columns)} columns"
            )
    lines = ["\t".join([_field(value) for value in row]) + "\n" for row in rows]
    block = "".join(lines).encode("utf-8", "replace")
    store.insert_block(table, columns, block, once(token) if token else {})


def _field(value: object) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise StatementRefused(f"a value of type {type(value).__name__} cannot be stored: {value!r}")
