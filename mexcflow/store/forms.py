"""What tables are there, and which of them are of a form that we write into.

A string table is kept in one of three ways, and the way decides what fences its batches:

- StripeLog: rows in the order they came; the row count says whether a batch is in.
- MergeTree: sorted by type and time; an INSERT goes in once for its token.
- Distributed: the rows are in `<table>_local` of every node of a cluster, replicated; the token again.

Whatever else a table is, a batch would not be safe in it, and it is refused in words: `string_flaw`.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from mexcflow.store.store import DATABASE, Store

ENGINE = "StripeLog"
COLUMNS = (
    ("ts", "DateTime64(3)"),
    ("mt", "Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4)"),
    ("m", "String"),
)
LOCAL = "_local"
"""What the name of a table that holds a cluster's rows ends in."""

_COVERAGE_ORDER = "ORDER BY (exchange, symbol, channel, from, state)"
COVERAGE_FORM = f"ReplacingMergeTree(updated) {_COVERAGE_ORDER}"
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

_WINDOW = "non_replicated_deduplication_window"
_REPLICATED_WINDOW = "replicated_deduplication_window"
_REPLICATED_SECONDS = "replicated_deduplication_window_seconds"
_LEAST_WINDOW = 100
_LEAST_SECONDS = 7 * 86_400
"""A recorder that was killed may start again days later, and must find the token of its last batch."""


class Kept(Enum):
    """How a table keeps its rows."""

    STRIPELOG = "StripeLog"
    MERGETREE = "MergeTree"
    DISTRIBUTED = "Distributed"


class Existing(NamedTuple):
    """A table or view that is there: `columns` are (name, type), `select` is a view's own SELECT.

    `form` is the engine with its arguments and its order, `settings` is what stands behind SETTINGS.
    """

    engine: str
    columns: tuple[tuple[str, str], ...]
    select: str
    form: str
    settings: str = ""

    @property
    def kept(self) -> Kept:
        """How its rows are kept, if it is one of ours."""
        if self.engine == ENGINE:
            return Kept.STRIPELOG
        return Kept.DISTRIBUTED if self.engine == Kept.DISTRIBUTED.value else Kept.MERGETREE

    @property
    def cluster(self) -> str:
        """The cluster of a Distributed table, else ''."""
        found = re.match(r"Distributed\('?([^',]+)'?,", self.form)
        return found[1] if found else ""

    def setting(self, name: str) -> int | None:
        """Return a setting of the table's own; None where the server's default holds."""
        found = re.search(rf"(?:^|, ){name} = '?(\d+)", self.settings)
        return int(found[1]) if found else None

    @property
    def in_full(self) -> str:
        """Its columns, and its engine with all that belongs to it."""
        return str(self._replace(engine=self.form))

    def __str__(self) -> str:
        return f"{self.engine} ({', '.join(f'{name} {kind}' for name, kind in self.columns)})"


STRING_TABLE = Existing(ENGINE, COLUMNS, "", ENGINE)
"""What a string table is by default."""
COVERAGE_TABLE = Existing("ReplacingMergeTree", COVERAGE_COLUMNS, "", COVERAGE_FORM)
"""What the table of coverage is outside a cluster."""


class Flaw(NamedTuple):
    """Why a table is not one of ours: "<what it is>; needed is <what>", and what to do if that is special."""

    what: str
    hint: str = ""


def string_flaw(name: str, tables: Mapping[str, Existing]) -> Flaw | None:
    """Say what keeps a table of `mexc_data` from being written by us; `tables` are those of the database."""
    there = tables[name]
    if there.columns == COLUMNS and there.engine == ENGINE:
        return None
    if there.columns == COLUMNS and there.engine == "Distributed":
        return _distributed_flaw(name, tables)
    if there.columns == COLUMNS and there.engine.endswith("MergeTree"):
        return local_flaw(name, there)
    return Flaw(f"{there}; needed is {STRING_TABLE}")


def _distributed_flaw(name: str, tables: Mapping[str, Existing]) -> Flaw | None:
    needed = f"Distributed('{tables[name].cluster}', '{DATABASE}', '{name}{LOCAL}', cityHash64('{name}'))"
    if tables[name].form.replace("'", "") != needed.replace("'", ""):
        # rows that are spread over shards lose their order, and sent again they may go to another shard
        return Flaw(f"{tables[name].form}; needed is {needed}")
    local = tables.get(name + LOCAL)
    if local is None:
        return Flaw(
            f"Distributed over {DATABASE}.{name}{LOCAL}, which this server has not; needed is one of the "
            f"cluster's own nodes"
        )
    return local_flaw(name + LOCAL, local)


def local_flaw(name: str, there: Existing) -> Flaw | None:
    """Say what keeps a table of the MergeTree family from taking each batch once, and keeping all of it."""
    if there.columns != COLUMNS or there.engine not in ("MergeTree", "ReplicatedMergeTree"):
        # ReplacingMergeTree and its like would take two trades of one millisecond for the same row
        needed = there._replace(engine="MergeTree or ReplicatedMergeTree", columns=COLUMNS)
        return Flaw(f"{there}; needed is {needed}")
    if there.engine == "MergeTree":
        least = {_WINDOW: (_LEAST_WINDOW, 0)}
    else:
        least = {
            _REPLICATED_WINDOW: (_LEAST_WINDOW, _LEAST_WINDOW),
            _REPLICATED_SECONDS: (_LEAST_SECONDS, 0),  # the default has become an hour
        }
    for setting, (needed_value, default) in least.items():
        value = there.setting(setting)
        if (default if value is None else value) < needed_value:
            said = "not set" if value is None else str(value)
            return Flaw(
                f"{there.engine} whose {setting} is {said}; needed is {needed_value} or more, or a batch "
                "that is sent again would be there twice",
                f"ALTER TABLE {DATABASE}.{name} MODIFY SETTING {setting} = {max(1000, needed_value)}",
            )
    return None


def coverage_flaw(tables: Mapping[str, Existing]) -> Flaw | None:
    """Say what keeps `market_data.coverage` from being ours; `tables` are those of the database."""
    there = tables["coverage"]
    if there.engine != "Distributed":
        fits = there.form == COVERAGE_FORM and there.columns == COVERAGE_COLUMNS
        return None if fits else Flaw(f"{there.in_full}; needed is {COVERAGE_TABLE.in_full}")
    needed = f"Distributed('{there.cluster}', 'market_data', 'coverage{LOCAL}', cityHash64(exchange, symbol))"
    if there.form.replace("'", "") != needed.replace("'", "") or there.columns != COVERAGE_COLUMNS:
        return Flaw(f"{there.in_full}; needed is {needed}")
    return coverage_local_flaw(tables["coverage" + LOCAL]) if "coverage" + LOCAL in tables else None


def coverage_local_flaw(there: Existing) -> Flaw | None:
    """Say what keeps a table from holding a cluster's coverage."""
    form = rf"(Replicated)?ReplacingMergeTree\(('[^']*', '[^']*', )?updated\) {re.escape(_COVERAGE_ORDER)}"
    if re.fullmatch(form, there.form) and there.columns == COVERAGE_COLUMNS:
        return None
    return Flaw(f"{there.in_full}; needed is a replicated {COVERAGE_TABLE.in_full}")


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
        name: _existing(engine, tuple(columns[name]), select, full)
        for name, engine, select, full in found
        if name in columns  # else it was dropped meanwhile
    }


def _existing(engine: str, columns: tuple[tuple[str, str], ...], select: str, full: str) -> Existing:
    # versions differ in which names they put into backquotes, and where they say what to partition by
    form, _, settings = full.replace("`", "").partition(" SETTINGS ")
    return Existing(engine, columns, select, form or engine, settings)
