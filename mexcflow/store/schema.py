"""The tables and views of `sql/`, applied so that a second time changes nothing.

The numbered files are written for one table, `btc`, so that a person can paste them into
clickhouse-client; for another table "`btc" becomes "`<table>". What exists already is compared with what
is needed, all of it before the first change: a table of ours is never altered, a table that is not ours is
never touched.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mexcflow.config import check_table_name, shipped
from mexcflow.errors import SchemaMismatch, StatementRefused
from mexcflow.store.store import DATABASE, Store, quoted

ENGINE = "StripeLog"
COLUMNS = (
    ("ts", "DateTime64(3)"),
    ("mt", "Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4)"),
    ("m", "String"),
)

_HEAD = re.compile(
    r"CREATE (?:OR REPLACE )?(DATABASE|TABLE|VIEW) (?:IF NOT EXISTS )?(?:mexc_data\.`(\w+)`|(mexc_data))"
)
_SYSTEM_LOG = "_log(_[0-9]+)?$"


@dataclass(frozen=True, kw_only=True)
class SetupSummary:
    """What setup did, each thing as words: "table mexc_data.btc". `refused` ones carry the reason."""

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, other: "SetupSummary") -> None:
        """Take what `other` did into this one; a thing that both name counts once."""
        for name in ("created", "replaced", "found", "dropped", "refused"):
            mine = getattr(self, name)
            mine.extend(thing for thing in getattr(other, name) if thing not in mine)


class Existing(NamedTuple):
    """A table or view that is there: `columns` are (name, type), `select` is a view's own SELECT."""

    engine: str
    columns: tuple[tuple[str, str], ...]
    select: str

    @property
    def is_string_table(self) -> bool:
        """Whether this is a table of the one form we write into."""
        return self.engine == ENGINE and self.columns == COLUMNS

    def __str__(self) -> str:
        return f"{self.engine} ({', '.join(f'{name} {kind}' for name, kind in self.columns)})"


class _Statement(NamedTuple):
    kind: str  # database, table, view
    name: str  # without the database
    sql: str


def ensure_table(store: Store, table: str) -> SetupSummary:
    """Create the database, `table` and its views where they are missing; see `apply`."""
    return apply(store, [table])


def check_table(store: Store, table: str) -> None:
    """Raise `SchemaMismatch` when `table` is there and not ours. Changes nothing."""
    check_table_name(table, where="--table")
    _refuse_mismatches(_statements([table]), existing_tables(store))


def apply(store: Store, tables: Sequence[str]) -> SetupSummary:
    """Bring the database to what `sql/` says for these string tables and return what was done.

    Raises `SchemaMismatch`, before anything is changed, when a table of such a name has another form or
    has the name of one of our views.
    """
    for table in tables:
        check_table_name(table, where="--table")
    statements = _statements(tables)
    existing = existing_tables(store)
    _refuse_mismatches(statements, existing)
    databases = {name for (name,) in store.query("SELECT name FROM system.databases")}
    summary = SetupSummary()
    for statement in statements:
        label = f"{statement.kind} {_full(statement)}"
        there = statement.name in (databases if statement.kind == "database" else existing)
        if not there:
            store.command(statement.sql)
            summary.created.append(label)
        elif statement.kind == "view" and not _same_view(store, statement.sql, existing[statement.name]):
            store.command(statement.sql)
            summary.replaced.append(label)
        else:
            summary.found.append(label)
    return summary


def existing_tables(store: Store) -> dict[str, Existing]:
    """Return every table and view of `mexc_data` by its name."""
    columns: dict[str, list[tuple[str, str]]] = {}
    of_database = {"database": DATABASE}
    for table, name, kind in store.query(
        "SELECT table, name, type FROM system.columns WHERE database = {database:String} "
        "ORDER BY table, position",
        of_database,
    ):
        columns.setdefault(table, []).append((name, kind))
    found = store.query(
        "SELECT name, engine, as_select FROM system.tables WHERE database = {database:String} ORDER BY name",
        of_database,
    )
    return {name: Existing(engine, tuple(columns.get(name, ())), select) for name, engine, select in found}


def drop_system_logs(store: Store) -> SetupSummary:
    """Drop the server's own log tables (`system.query_log`, `trace_log_0`, ...): they outgrow the data.

    A user without the right to do so is told (`refused`), not stopped: recording does not need it.
    """
    summary = SetupSummary()
    logs = store.query(
        "SELECT name FROM system.tables WHERE database = 'system' AND endsWith(engine, 'MergeTree') "
        "AND match(name, {pattern:String}) ORDER BY name",
        {"pattern": _SYSTEM_LOG},
    )
    for (name,) in logs:
        try:
            # the setting lifts the server's guard against dropping more than 50 GB by mistake
            store.command(f"DROP TABLE system.{quoted(name)} SYNC SETTINGS max_table_size_to_drop = 0")
            summary.dropped.append(f"table system.{name}")
        except StatementRefused as error:
            summary.refused.append(f"table system.{name}: {error}")
    return summary


def _statements(tables: Iterable[str]) -> list[_Statement]:
    """Return every statement of `sql/` for these tables, those on databases once, in the files' order."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(shipped("sql").glob("*.sql"))]
    found: dict[tuple[str, str], _Statement] = {}
    for table in tables or [""]:
        for text in texts:
            for sql in re.split(r";\s*(?:\n|\Z)", re.sub(r"^--.*\n", "", text, flags=re.M)):
                statement = _statement(sql.strip(), table)
                if statement and (table or statement.kind == "database"):
                    found.setdefault(statement[:2], statement)
    return list(found.values())


def _statement(sql: str, table: str) -> _Statement | None:
    if not sql:
        return None
    sql = sql.replace("`btc", f"`{table}")
    head = _HEAD.match(sql)
    if head is None:
        raise StatementRefused(f"sql/: neither database, table nor view: {sql[:80]}")
    return _Statement(head.group(1).lower(), head.group(2) or head.group(3), sql)


def _refuse_mismatches(statements: Iterable[_Statement], existing: dict[str, Existing]) -> None:
    for statement in statements:
        there = existing.get(statement.name)
        if there is None or statement.kind == "database":
            continue
        if statement.kind == "table" and not there.is_string_table:
            needed = str(Existing(ENGINE, COLUMNS, ""))
        elif statement.kind == "view" and there.engine != "View":
            needed = "a view of that name"
        else:
            continue
        name = _full(statement)
        raise SchemaMismatch(
            f"{name} exists and is {there}; needed is {needed}",
            hint="Give ours another name (--table, or `table` in the instance file), or rename it: "
            f"RENAME TABLE {name} TO {name}_old",
        )


def _same_view(store: Store, sql: str, existing: Existing) -> bool:
    """Say whether a view is already what `sql` makes: the engine itself puts both into one spelling."""
    ((ours,),) = store.query("SELECT formatQuerySingleLine({sql:String})", {"sql": sql})
    return bool(existing.select) and str(ours).endswith(f" AS {existing.select}")


def _full(statement: _Statement) -> str:
    return statement.name if statement.kind == "database" else f"{DATABASE}.{statement.name}"
