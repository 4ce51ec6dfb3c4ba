"""A string table beside another one: made, told apart from what is somebody's, put into its place.

Its comment says beside which table, by uuid, it was made. Once the two have changed places that is true of
neither: so what a swap has put aside is never taken for an unfinished copy and dropped.
"""

from mexcflow.errors import Misuse
from mexcflow.store.fence import table_state
from mexcflow.store.forms import existing_tables, string_flaw
from mexcflow.store.schema import check_table, table_sql
from mexcflow.store.store import DATABASE, Store, quoted

_MARK = "made by mexcflow rebuild, beside "
_NO_TABLE = "no table"


def drop_unfinished(store: Store, beside: str, *, uuid: str | None) -> bool:
    """Drop what was made beside the table of that uuid and never swapped; False when there is none.

    Raises `Misuse` for any other table of that name.
    """
    tables = existing_tables(store)
    if beside not in tables:
        return False
    full = f"{DATABASE}.{beside}"
    ((comment,),) = store.query(
        "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": DATABASE, "name": beside},
    )
    if string_flaw(beside, tables) or comment != _mark(uuid):
        raise Misuse(
            f"{full} is there already, and no earlier rebuild made it of the present table; it may be the "
            "table from before a swap",
            hint=f"If you need it no more: mexcflow sql 'DROP TABLE {full}'. Else rename it",
        )
    drop_beside(store, beside)
    return True


def make_beside(store: Store, beside: str, *, uuid: str | None) -> None:
    """Make an empty string table beside the one of that uuid (None: there is none)."""
    check_table(store, beside)
    store.command(f"{table_sql(beside)} COMMENT '{_mark(uuid)}'")


def drop_beside(store: Store, beside: str) -> None:
    """Drop what `make_beside` made."""
    # the setting lifts the server's guard against dropping more than 50 GB by mistake
    store.command(f"DROP TABLE {DATABASE}.{quoted(beside)} SYNC SETTINGS max_table_size_to_drop = 0")


def swap(store: Store, table: str, beside: str) -> None:
    """Give two tables each other's name in one step; if there is no `table`, the other one its name.

    The rows of `beside` are on the disk before that.
    """
    store.sync(beside)
    names = f"{DATABASE}.{quoted(table)}", f"{DATABASE}.{quoted(beside)}"
    if table_state(store, table) is None:
        store.command(f"RENAME TABLE {names[1]} TO {names[0]}")
    else:
        store.command(f"EXCHANGE TABLES {names[0]} AND {names[1]}")


def _mark(uuid: str | None) -> str:
    return f"{_MARK}{uuid or _NO_TABLE}"
