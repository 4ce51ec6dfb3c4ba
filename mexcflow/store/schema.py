"""The tables and views of `sql/`, applied so that a second time changes nothing.

What exists already is compared with what is needed, all of it before the first change: a table of ours is
never altered, a table that is not ours is never touched. `cluster.py` does the same on many nodes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mexcflow.config import check_table_name
from mexcflow.errors import SchemaMismatch, StatementRefused
from mexcflow.store.forms import (
    LOCAL,
    Existing,
    Flaw,
    Kept,
    existing_tables,
    form_of,
    local_flaw,
    market_flaw,
    market_local_flaw,
    string_flaw,
)
from mexcflow.store.statements import Statement, Stream, needed_forms, read_statements
from mexcflow.store.store import Store, quoted

Tables = Mapping[str, Mapping[str, Existing]]
"""The tables and views of each database by name."""

_SYSTEM_LOG = "_log(_[0-9]+)?$"
_VARIANTS = {Kept.STRIPELOG: "", Kept.MERGETREE: "mergetree", Kept.DISTRIBUTED: "cluster"}
"""The folder below `sql/` for each way of keeping rows."""


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


def ensure_table(store: Store, table: str, stream: Stream | None = None) -> SetupSummary:
    """Create `table`, its views and what concerns no symbol where they are missing; see `apply`."""
    return apply(store, [table], {table: stream} if stream else None)


def check_table(store: Store, table: str) -> None:
    """Raise `SchemaMismatch` when `table`, or what goes with it, is there and not ours. Changes nothing."""
    check_table_name(table, where="--table")
    statements = read_statements([table], {table: ("", "")})  # of views only the names are looked at
    refuse_mismatches(statements, tables_of(store, statements))


def table_sql(table: str) -> str:
    """Return the statement that makes a string table, without its views."""
    return next(one.sql for one in read_statements([table]) if one.kind == "table" and one.of_symbol)


def apply(
    store: Store,
    tables: Sequence[str],
    streams: Mapping[str, Stream] | None = None,
    *,
    kept: Kept | None = None,
) -> SetupSummary:
    """Bring the databases to what `sql/` says for these string tables and return what was done.

    Without tables, what concerns no symbol is still made. `streams` says what is in which of the tables: only
    then the views that span all exchanges show it, from now on. `kept` says how the string tables are to keep
    their rows; by default a table that is there may be any of ours, and one that is made is StripeLog.
    Raises `SchemaMismatch`, before anything is changed, when a table of such a name has another form or has
    the name of one of our views.
    """
    for table in tables:
        check_table_name(table, where="--table")
    statements = read_statements(tables, streams, variant=_VARIANTS[kept or Kept.STRIPELOG])
    existing = tables_of(store, statements)
    refuse_mismatches(statements, existing, kept=kept)
    summary = SetupSummary()
    for statement in statements:
        there = existing.get(statement.database)
        bring(store, statement, summary, there=None if there is None else there.get(statement.name))
    return summary


def tables_of(store: Store, statements: Iterable[Statement]) -> Tables:
    """Return what is in each database that the statements name; a database's own name is '' there."""
    databases = {name for (name,) in store.query("SELECT name FROM system.databases")}
    return {
        database: existing_tables(store, database) | {"": Existing("", (), "", "")}
        for database in {statement.database: None for statement in statements}
        if database in databases
    }


def bring(store: Store, statement: Statement, summary: SetupSummary, *, there: Existing | None) -> None:
    """Execute a statement if what it makes is not there, or is a view that differs."""
    label = f"{statement.kind} {statement}"
    if there is None:
        store.command(statement.sql)
        summary.created.append(label)
    elif statement.kind == "view" and not _same_view(store, statement.sql, there):
        store.command(statement.sql)
        summary.replaced.append(label)
    else:
        summary.found.append(label)


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


def refuse_mismatches(statements: Iterable[Statement], existing: Tables, *, kept: Kept | None = None) -> None:
    """Raise `SchemaMismatch` for the first thing that is there in a form that is not ours, or not `kept`."""
    for statement in statements:
        tables = existing.get(statement.database, {})
        if statement.name not in tables:
            _refuse_beside_cluster(statement, existing, kept)
            continue
        flaw = _flaw(statement, tables, kept)
        if flaw is not None:
            hint = f"Rename it: RENAME TABLE {statement} TO {statement}_old"
            if statement.of_symbol:
                hint = f"Give ours another name (--table, or `table` in the instance file), or r{hint[1:]}"
            raise SchemaMismatch(f"{statement} exists and is {flaw.what}", hint=flaw.hint or hint)


def _flaw(statement: Statement, tables: Mapping[str, Existing], kept: Kept | None) -> Flaw | None:
    there = tables[statement.name]
    local = statement.name.endswith(LOCAL) and kept is Kept.DISTRIBUTED
    if statement.kind == "database":
        return None
    if statement.kind == "view":
        return None if there.engine == "View" else Flaw(f"{there}; needed is a view of that name")
    if not statement.holds_rows:
        return market_local_flaw(statement.name, there, form_of(statement.sql))
    if not statement.of_symbol:
        return _market_flaw(statement, tables, kept)
    if local:
        return local_flaw(statement.name, there)
    return string_flaw(statement.name, tables) or _not_kept(there, statement, kept)


def _market_flaw(statement: Statement, tables: Mapping[str, Existing], kept: Kept | None) -> Flaw | None:
    name, there = statement.name, tables[statement.name]
    if kept is Kept.DISTRIBUTED and name.endswith(LOCAL):
        return market_local_flaw(name, there, needed_forms()[name.removesuffix(LOCAL)])
    flaw = market_flaw(name, tables, needed_forms()[name])
    return flaw or (_not_kept(there, statement, kept) if kept is Kept.DISTRIBUTED else None)


def _not_kept(there: Existing, statement: Statement, kept: Kept | None) -> Flaw | None:
    if kept is None or there.kept is kept:
        return None
    return Flaw(
        f"{there.engine}; needed is {kept.value}",
        f"docs/scaling.md says how to move its rows. First: RENAME TABLE {statement} TO {statement}_old",
    )


def _refuse_beside_cluster(statement: Statement, existing: Tables, kept: Kept | None) -> None:
    """Make no table of one server's own where all others are a cluster's."""
    coverage = existing.get("market_data", {}).get("coverage")
    if statement.holds_rows and kept is not Kept.DISTRIBUTED and coverage and coverage.cluster:
        raise SchemaMismatch(
            f"there is no table {statement}, and the tables of this server are a cluster's",
            hint=f"Make it on all nodes: mexcflow setup --cluster {coverage.cluster}",
        )


def _same_view(store: Store, sql: str, existing: Existing) -> bool:
    """Say whether a view is already what `sql` makes: the engine itself puts both into one spelling."""
    ((ours,),) = store.query("SELECT formatQuerySingleLine({sql:String})", {"sql": sql})
    return bool(existing.select) and str(ours).endswith(f" AS {existing.select}")
