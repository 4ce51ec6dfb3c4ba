"""The statements of `sql/`, for the tables and the kind of database they are wanted for.

The numbered files are written for one string table, `btc`, so that a person can paste them into
clickhouse-client; for another one "`btc" becomes "`<table>". Statements without it concern all symbols.
A folder below (`mergetree`, `cluster`) holds the tables that are made another way: each of its statements
takes the place of the one about the same table. For a cluster every statement gets an ON CLUSTER.
"""

import re
from collections.abc import Iterable
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


class Statement(NamedTuple):
    """One CREATE: `kind` is database, table or view; `name` is without the database, '' for one itself."""

    kind: str
    database: str
    name: str
    sql: str
    of_symbol: bool

    def __str__(self) -> str:
        return f"{self.database}.{self.name}" if self.name else self.database


def read_statements(tables: Iterable[str], *, variant: str = "", cluster: str = "") -> list[Statement]:
    """Return every statement for these tables, those of no symbol once, in an order that can be executed.

    `variant` is the folder below `sql/` whose tables are wanted; `cluster` goes with its variant.
    """
    folder = shipped("sql")
    tables = list(tables) or [""]
    instead = _of_tables(_texts(folder / variant), tables) if variant else {}
    statements = []
    for key, statement in _of_tables(_texts(folder), tables).items():
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


def _of_tables(texts: list[str], tables: Iterable[str]) -> dict[tuple[str, str, str], Statement]:
    found: dict[tuple[str, str, str], Statement] = {}
    for table in tables:
        for text in texts:
            for sql in split(text):
                statement = _statement(sql, table)
                if table or not statement.of_symbol:
                    found.setdefault(statement[:3], statement)
    return found


def split(text: str) -> list[str]:
    """Return the statements of a file, without its comments."""
    parts = re.split(r";\s*(?:\n|\Z)", re.sub(r"^--.*\n", "", text, flags=re.M))
    return [part.strip() for part in parts if part.strip()]


def _statement(sql: str, table: str) -> Statement:
    of_symbol = "`btc" in sql
    sql = sql.replace("`btc", f"`{table}").replace("'btc", f"'{table}")
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
    literal = cluster.replace("\\", "\\\\").replace("'", "\\'")
    return statement._replace(sql=sql[:end] + here + rest.replace(f"'{_EXAMPLE}'", f"'{literal}'"))
