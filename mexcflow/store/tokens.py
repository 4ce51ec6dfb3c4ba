"""INSERTs that go in once for their token, however often they are sent.

The engine remembers the tokens of a table's last INSERTs (MergeTree: `non_replicated_deduplication_window` of
them, in the table's folder; ReplicatedMergeTree: in Keeper, for all replicas of the shard), and takes a
second one with the same token for done. So what became of an INSERT without an answer need not be known:
it is sent again. An INSERT whose rows lie in several months is one part a month, each with the token: were
only some of them in, those that lack are added.

Through a Distributed table the token and all other settings go on to the shard. In the foreground, that is
before the answer, or the initiator would answer when it has put the rows aside on its own disk.
"""

from collections.abc import Sequence
from typing import Any

from mexcflow.errors import StatementRefused
from mexcflow.model import Row
from mexcflow.store.forms import COLUMNS
from mexcflow.store.store import DATABASE, Store, quoted
from mexcflow.store.tsv import encode_rows

_ONCE = {
    "insert_deduplicate": 1,
    "distributed_foreground_insert": 1,
    "max_partitions_per_insert_block": 0,  # times that an exchange makes up are no reason to refuse a batch
}
_SWITCHED_OFF = "SELECT count() FROM system.settings WHERE name = 'deduplicate_insert' AND value = 'disable'"


def once(token: str) -> dict[str, Any]:
    """Return the settings of an INSERT that is there once for this token."""
    return {**_ONCE, "insert_deduplication_token": token}


def insert_once(store: Store, table: str, rows: Sequence[Row], *, token: str) -> None:
    """Insert `rows` into a string table that is MergeTree or Distributed; again with the token: nothing."""
    columns = [name for name, _ in COLUMNS]
    store.insert_block(f"{DATABASE}.{quoted(table)}", columns, encode_rows(rows), once(token))


def check_tokens(store: Store) -> None:
    """Raise `StatementRefused` when the user's profile makes the engine ignore tokens."""
    ((switched_off,),) = store.query(_SWITCHED_OFF)
    if switched_off:
        raise StatementRefused(
            f"{store.location}: deduplicate_insert = 'disable' in the user's profile, so a batch that is "
            "sent again would be there twice",
            hint="Take it out of the profile",
        )


def table_uuid(store: Store, table: str) -> str:
    """Return which table has this name; '' when there is none."""
    ((uuid,),) = store.query(
        "SELECT anyOrNull(toString(uuid)) FROM system.tables "
        "WHERE database = {database:String} AND name = {name:String}",
        {"database": DATABASE, "name": table},
    )
    return str(uuid or "")
