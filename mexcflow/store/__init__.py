"""The only place that knows ClickHouse: client, schema, the embedded folder, sizes."""

from mexcflow.store.fence import TableState, insert_running, table_state
from mexcflow.store.open import open_store
from mexcflow.store.schema import check_table, ensure_table
from mexcflow.store.sizes import torn_files
from mexcflow.store.store import DATABASE, Store

__all__ = [
    "DATABASE",
    "Store",
    "TableState",
    "check_table",
    "ensure_table",
    "insert_running",
    "open_store",
    "table_state",
    "torn_files",
]
