"""The tables and views of `sql/`, applied so that a second time changes nothing.

The numbered files are written for one string table, `btc`, so that a person can paste them into
clickhouse-client; for another one "`btc" becomes "`<table>". Statements without it concern all symbols.
What exists already is compared with what is needed, all of it before the first change: a table of ours is
never altered, a table that is not ours is never touched.
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

COVERAGE_FORM = "ReplacingMergeTree(updated) ORDER BY (exchange, symbol, channel, from, state)"
COVERAGE_COLUMNS = (
    ("exchange", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("channel", "LowCardinality(String)"),
    ("from", "DateTime64(3)"),
    ("to", "DateTime64(3)"),
    ("state", "Enum8('live' = 1, 'outage' = 2, 'gap' = 3)"),
    ("reason", "String"),
    ("frames", "UInt64"),
    ("rows", "UInt64"),
    ("run", "String"),
    ("host", "LowCardinality(String)"),
    ("updated", "DateTime64(3)"),
)

_HEAD = re.compile(
    r"CREATE (?:OR REPLACE )?(DATABASE|TABLE|VIEW) (?:IF NOT EXISTS )?`?(\w+)`?(?:\.`?(\w+)`?)?"
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
    """A table or view that is there: `columns` are (name, type), `select` is a view's own SELECT.

    `form` is the engine with its arguments and its order, without settings.
    """

    engine: str
    columns: tuple[tuple[str, str], ...]
    select: str
    form: str

    @property
    def is_string_table(self) -> bool:
        """Whether this is a table of the one form we write into."""
        return self.engine == ENGINE and self.columns == COLUMNS

    @property
    def is_coverage(self) -> bool:
        """Whether this is a table of the one form that coverage has."""
        return self.form == COVERAGE_FORM and self.columns == COVERAGE_COLUMNS

    @property
    def in_full(self) -> str:
        """Its columns, and its engine with all that belongs to it."""
        return str(self._replace(engine=self.form))

    def __str__(self) -> str:
        return f"{self.engine} ({', '.join(f'{name} {kind}' for name, kind in self.columns)})"


STRING_TABLE = Existing(ENGINE, COLUMNS, "", ENGINE)
"""What a string table has to be."""
COVERAGE_TABLE = Existing("ReplacingMergeTree", COVERAGE_COLUMNS, "", COVERAGE_FORM)
"""What the table of coverage has to be."""


class _Statement(NamedTuple):
    kind: str  # database, table, view
    database: str
    name: str  # without the database; '' for a database itself
    sql: str
    of_symbol: bool

    def __str__(self) -> str:
        return f"{self.database}.{self.name}" if self.name else self.database


def ensure_table(store: Store, table: str) -> SetupSummary:
    """Create `table`, its views and what concerns no symbol where they are missing; see `apply`."""
    return apply(store, [table])


def check_table(store: Store, table: str) -> None:
    """Raise `SchemaMismatch` when `table`, or what goes with it, is there and not ours. Changes nothing."""
    check_table_name(table, where="--table")
    statements = _statements([table])
    _refuse_mismatches(statements, _existing(store, statements))


def table_sql(table: str) -> str:
    """Return the statement that makes a string table, without its views."""
    return next(one.sql for one in _statements([table]) if one.kind == "table" and one.of_symbol)


def apply(store: Store, tables: Sequence[str]) -> SetupSummary:
    """Bring the databases to what `sql/` says for these string tables and return what was done.

    Without tables, what concerns no symbol is still made. Raises `SchemaMismatch`, before anything is
    changed, when a table of such a name has another form or has the name of one of our views.
    """
    for table in tables:
        check_table_name(table, where="--table")
    statements = _statements(tables)
    existing = _existing(store, statements)
    _refuse_mismatches(statements, existing)
    databases = [name for (name,) in store.query("SELECT name FROM system.databases")]
    summary = SetupSummary()
    for statement in statements:
        label = f"{statement.kind} {statement}"
        if str(statement) not in (existing if statement.name else databases):
            store.command(statement.sql)
            summary.created.append(label)
        elif statement.kind == "view" and not _same_view(store, statement.sql, existing[str(statement)]):
            store.command(statement.sql)
            summary.replaced.append(label)
        else:
            summary.found.append(label)
    return summary


def existing_tables(store: Store, database: str = DATABASE) -> dict[str, Existing]:
    """Return every table and view of a database by its name."""
    of_database = {"database": database}
    # the tables first: one that another process makes meanwhile then has its columns, or is not there yet
    found = store.query(
        "SELECT name, engine, as_select, engine_full FROM system.tables WHERE database = {database:String} "
        "ORDER BY name",
        of_database,
    )
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, name, kind in store.query(
        "SELECT table, name, type FROM system.columns WHERE database = {database:String} "
        "ORDER BY table, position",
        of_database,
    ):
        columns.setdefault(table, []).append((name, kind))
    return {
        name: Existing(engine, tuple(columns[name]), select, _form(engine, full))
        for name, engine, select, full in found
        if name in columns  # else it was dropped meanwhile
    }


def _form(engine: str, full: str) -> str:
    # versions differ in which names they put into backquotes
    return full.partition(" SETTINGS ")[0].replace("`", "") or engine


def _existing(store: Store, statements: Iterable[_Statement]) -> dict[str, Existing]:
    """Return every table and view of the databases that the statements name, by its full name."""
    return {
        f"{database}.{name}": there
        for database in {statement.database: None for statement in statements}
        for name, there in existing_tables(store, database).items()
    }


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
    """Return every statement of `sql/` for these tables in the files' order, those of no symbol once."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(shipped("sql").glob("*.sql"))]
    found: dict[tuple[str, str, str], _Statement] = {}
    for table in tables or [""]:
        for text in texts:
            for sql in re.split(r";\s*(?:\n|\Z)", re.sub(r"^--.*\n", "", text, flags=re.M)):
                statement = _statement(sql.strip(), table)
                if statement and (table or not statement.of_symbol):
                    found.setdefault(statement[:3], statement)
    return list(found.values())


def _statement(sql: str, table: str) -> _Statement | None:
    if not sql:
        return None
    of_symbol = "`btc" in sql
    sql = sql.replace("`btc", f"`{table}")
    head = _HEAD.match(sql)
    if head is None:
        raise StatementRefused(f"sql/: neither database, table nor view: {sql[:80]}")
    kind, database, name = head.groups()
    return _Statement(kind.lower(), database, name or "", sql, of_symbol)


def _refuse_mismatches(statements: Iterable[_Statement], existing: dict[str, Existing]) -> None:
    for statement in statements:
        there = existing.get(str(statement))
        if there is None:
            continue
        hint = f"Rename it: RENAME TABLE {statement} TO {statement}_old"
        if statement.of_symbol:
            hint = f"Give ours another name (--table, or `table` in the instance file), or r{hint[1:]}"
        if statement.kind == "view":
            fits, found, needed = there.engine == "View", str(there), "a view of that name"
        elif statement.of_symbol:
            fits, found, needed = there.is_string_table, str(there), str(STRING_TABLE)
        else:
            fits, found, needed = there.is_coverage, there.in_full, COVERAGE_TABLE.in_full
        if not fits:
            raise SchemaMismatch(f"{statement} exists and is {found}; needed is {needed}", hint=hint)


def _same_view(store: Store, sql: str, existing: Existing) -> bool:
    """Say whether a view is already what `sql` makes: the engine itself puts both into one spelling."""
    ((ours,),) = store.query("SELECT formatQuerySingleLine({sql:String})", {"sql": sql})
    return bool(existing.select) and str(ours).endswith(f" AS {existing.select}")
