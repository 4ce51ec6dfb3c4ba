"""What the store knows of an INSERT whose answer never came: is it in, is it not, or does it still run?

A table of ours has one writer, and an INSERT is in it as a whole or not at all. So the number of rows
before and after decides: unchanged, it is not in; grown by exactly the batch, it is. `total_rows` of
`system.tables` is exact for StripeLog and costs a millisecond, where count() reads every block. The table's
uuid says whether it is still the same table: DROP and CREATE, or EXCHANGE TABLES, give the name another one.

An INSERT whose client went away goes on in the server and may end much later (seen with a real one). As
long as it does, the count proves nothing: ask `insert_running` first.
"""

from collections.abc import Collection
from typing import NamedTuple

from mexcflow.errors import StatementRefused, StoreUnavailable
from mexcflow.store.patience import hurried
from mexcflow.store.store import DATABASE, Store, quoted
from mexcflow.store.translate import code_of

_STATE = (
    "SELECT count(), any(toString(uuid)), any(total_rows) FROM system.tables "
    "WHERE database = {database:String} AND name = {name:String}"
)
"""Always one row: an answer without any is not the server's, and must not mean that there is no table."""

_TRIES = 3
_UNKNOWN_TABLE = 60
_SAME_ID_IS_RUNNING = 216


class TableState(NamedTuple):
    """Which table has this name, and how many rows it has."""

    uuid: str
    rows: int


def table_state(store: Store, table: str) -> TableState | None:
    """Return the exact state of a string table of `mexc_data`, None when there is no such table.

    The engine counts a table's rows when it is first read or written: before that, in a new process or
    after a server's restart, it does not know them, and the table is read a little to make it look.
    """
    with hurried():
        for _ in range(_TRIES):
            answer = store.query(_STATE, {"database": DATABASE, "name": table})
            if not answer:
                raise StoreUnavailable(f"{store.location}: an empty answer about table {table}")
            found, uuid, rows = answer[0]
            if not found:
                return None
            if rows is not None:
                return TableState(uuid, int(rows))
            _read_a_little(store, table)
    raise StatementRefused(
        f"the rows of {DATABASE}.{table} are not counted by its engine", hint="Is it a StripeLog table?"
    )


def insert_running(store: Store, query_ids: Collection[str]) -> bool:
    """Say whether one of these INSERTs still runs, although nobody waits for its answer any more.

    A server refuses a second statement with the id of one that runs: so we ask for `SELECT 1` with that
    id. `system.processes` would say the same, but only to a user who was granted to read it; this needs no
    right at all. The engine in this process ends an INSERT before it returns, and an
    owner of the folder before this one took its statements with it: there the answer is no.
    """
    return not store.embedded and any(_is_running(store, query_id) for query_id in query_ids if query_id)


def _is_running(store: Store, query_id: str) -> bool:
    try:
        with hurried():
            # if the user's profile replaces running queries, asking would kill the INSERT
            store.query("SELECT 1", settings={"query_id": query_id, "replace_running_query": 0})
    except StoreUnavailable as error:
        if code_of(error) == _SAME_ID_IS_RUNNING:
            return True
        raise
    return False


def _read_a_little(store: Store, table: str) -> None:
    try:
        store.query(f"SELECT 1 FROM {DATABASE}.{quoted(table)} LIMIT 1")  # noqa: S608
    except StatementRefused as error:
        if code_of(error) != _UNKNOWN_TABLE:  # dropped just now: the next look says so
            raise
