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
MARKET = "market_data"
"""The database of what is the same for every exchange."""
_OF_MERGETREE = ("MergeTree", "ReplacingMergeTree")

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
    return _window_flaw(f"{DATABASE}.{name}", there)


def _window_flaw(name: str, there: Existing) -> Flaw | None:
    if not there.engine.startswith("Replicated"):
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
                f"ALTER TABLE {name} MODIFY SETTING {setting} = {max(1000, needed_value)}",
            )
    return None


def market_flaw(name: str, tables: Mapping[str, Existing], needed: Existing) -> Flaw | None:
    """Say what keeps a table of `market_data` from being ours; `tables` are those of the database."""
    there = tables[name]
    if there.engine != Kept.DISTRIBUTED.value or needed.engine not in _OF_MERGETREE:
        return market_local_flaw(name, there, needed)
    spread = f"Distributed('{there.cluster}', '{MARKET}', '{name}{LOCAL}', cityHash64(exchange, symbol))"
    if there.form.replace("'", "") != spread.replace("'", "") or there.columns != needed.columns:
        return Flaw(f"{there.in_full}; needed is {needed._replace(form=spread).in_full}")
    local = tables.get(name + LOCAL)
    return market_local_flaw(name + LOCAL, local, needed) if local else None


def market_local_flaw(name: str, there: Existing, needed: Existing) -> Flaw | None:
    """Say what keeps a table from holding the rows of one of `market_data`, replicated or not."""
    if there.columns != needed.columns or _essence(there.form) != _essence(needed.form):
        return Flaw(f"{there.in_full}; needed is {needed.in_full}")
    return _window_flaw(f"{MARKET}.{name}", there) if needed.engine in _OF_MERGETREE else None


def _essence(form: str) -> list[str]:
    """Return the engine and its clauses, whatever their order; when rows expire is their owner's business."""
    form = re.sub(r"^Replicated(\w+)\('[^']*', '[^']*'(?:, )?(.*?)\)", r"\1(\2)", form).replace("()", "")
    clauses = re.split(r" (?=(?:PARTITION BY|ORDER BY|PRIMARY KEY|SAMPLE BY|TTL) )", form)
    return sorted(clause for clause in clauses if not clause.startswith("TTL "))


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
        name: _existing(engine, tuple(columns.get(name, ())), select, full)
        for name, engine, select, full in found
        if name in columns
        or engine == "View"  # one with parameters shows none; else it was dropped meanwhile
    }


def form_of(sql: str) -> Existing:
    """Return what a statement of `sql/` makes: what it says is spelt there as the engine spells it."""
    columns, _, engine = sql.partition("\n(\n")[2].partition("\n)\nENGINE = ")
    full = " ".join(engine.split())
    named = re.findall(r"^ +`?([\w.]+)`? (.*?)(?: CODEC\(.*)?,?$", columns, re.M)
    return _existing(re.split(r"\W", full, maxsplit=1)[0], tuple(named), "", full)


def _existing(engine: str, columns: tuple[tuple[str, str], ...], select: str, full: str) -> Existing:
    # versions differ in which names they put into backquotes, and where they say what to partition by
    form, _, settings = full.replace("`", "").partition(" SETTINGS ")
    return Existing(engine, columns, select, form or engine, settings)
