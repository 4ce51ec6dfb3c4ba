"""The statements of `sql/`, for the tables and the kind of database they are wanted for.

The numbered files are written for one string table, `btc`, so that a person can paste them into
clickhouse-client; for another one "`btc" becomes "`<table>". Statements without it concern all symbols.
Some name its stream, too: 'mexc' and 'BTC_USDT' become those of the table's own, if that is known.
A folder below (`mergetree`, `cluster`) holds the tables that are made another way: each of its statements
takes the place of the one about the same table. For a cluster every statement gets an ON CLUSTER.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mexcflow.config import shipped
from mexcflow.errors import StatementRefused
from mexcflow.store.forms import LOCAL, MARKET, Existing, form_of
from mexcflow.store.store import quoted

_HEAD = re.compile(
    r"CREATE (?:OR REPLACE )?(DATABASE|TABLE|VIEW) (?:IF NOT EXISTS )?`?(\w+)`?(?:\.`?(\w+)`?)?"
)
_EXAMPLE = "market"
"""The cluster's name in the files."""
_EXAMPLE_STREAM = ("'mexc'", "'BTC_USDT'")

Stream = tuple[str, str]
"""What a string table holds: the exchange and its symbol."""


class Statement(NamedTuple):
    """One CREATE: `kind` is database, table or view; `name` is without the database, '' for one itself."""

    kind: str
    database: str
    name: str
    sql: str
    of_symbol: bool

    @property
    def holds_rows(self) -> bool:
        """Whether it makes a table that has rows of its own, and does not only read those of others."""
        return self.kind == "table" and "ENGINE = Merge(" not in self.sql

    def __str__(self) -> str:
        return f"{self.database}.{self.name}" if self.name else self.database


def read_statements(
    tables: Iterable[str],
    streams: Mapping[str, Stream] | None = None,
    *,
    variant: str = "",
    cluster: str = "",
) -> list[Statement]:
    """Return every statement for these tables, those of no symbol once, in an order that can be executed.

    `streams` are those of the tables, where known: what names a stream is left out for the others. `variant`
    is the folder below `sql/` whose tables are wanted; `cluster` goes with its variant.
    """
    folder = shipped("sql")
    tables, streams = list(tables) or [""], streams or {}
    instead = _of_tables(_texts(folder / variant), tables, streams) if variant else {}
    statements = []
    for key, statement in _of_tables(_texts(folder), tables, streams).items():
        local = instead.get((*key[:2], key[2] + LOCAL))
        statements += [local] if local else []
        statements.append(instead.get(key, statement))
    return [_on_cluster(one, cluster) for one in statements] if cluster else statements


@cache
def needed_forms() -> dict[str, Existing]:
    """Return the form of each table of `market_data` on a server that is no cluster's, by name."""
    found = read_statements([])
    return {one.name: form_of(one.sql) for one in found if one.kind == "table" and one.database == MARKET}


def _texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))]


def _of_tables(
    texts: list[str], tables: Iterable[str], streams: Mapping[str, Stream]
) -> dict[tuple[str, str, str], Statement]:
    found: dict[tuple[str, str, str], Statement] = {}
    for table in tables:
        for text in texts:
            for sql in split(text):
                statement = _statement(sql, table)
                if statement.of_symbol and not table:
                    continue
                if _EXAMPLE_STREAM[1] in statement.sql:
                    if table not in streams:
                        continue
                    statement = statement._replace(sql=_of_stream(statement.sql, streams[table]))
                found.setdefault(statement[:3], statement)
    return found


def _of_stream(sql: str, stream: Stream) -> str:
    for example, name in zip(_EXAMPLE_STREAM, stream, strict=True):
        sql = sql.replace(example, _literal(name))
    return sql


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def split(text: str) -> list[str]:
    """Return the statements of a file, without its comments."""
    parts = re.split(r";\s*(?:\n|\Z)", re.sub(r"^--.*\n", "", text, flags=re.M))
    return [part.strip() for part in parts if part.strip()]


def _statement(sql: str, table: str) -> Statement:
    of_symbol = "`btc" in sql
    sql = sql.replace("`btc", f"`{table}").replace("'btc", f"'{table}").replace("^btc$", f"^{table}$")
    head = _HEAD.match(sql)
    if head is None:
        raise StatementRefused(f"sql/: neither database, table nor view: {sql[:80]}")
    kind, database, name = head.groups()
    return Statement(kind.lower(), database, name or "", sql, of_symbol)


def _on_cluster(statement: Statement, cluster: str) -> Statement:
    sql, here = statement.sql, f" ON CLUSTER {quoted(cluster)}"
    head = _HEAD.match(sql)
    end = head.end() if head else 0
    rest = sql[end:].removeprefix(f" ON CLUSTER `{_EXAMPLE}`")
    return statement._replace(sql=sql[:end] + here + rest.replace(f"'{_EXAMPLE}'", _literal(cluster)))
