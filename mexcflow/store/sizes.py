"""How many bytes things take: a string table's files, and the whole data folder as `du` says it."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import orjson

from mexcflow.errors import DiskFailed
from mexcflow.store.forms import LOCAL, Existing, Kept
from mexcflow.store.store import DATABASE, Store

_SAME_LOOKS = 5
_LOOK_AGAIN_S = 0.1
"""An INSERT writes its files within milliseconds: what is wrong for half a second stays wrong."""


class TableFiles(NamedTuple):
    """Bytes of a StripeLog table's two files; a server tells only their sum, given as `data_bin_bytes`."""

    data_bin_bytes: int
    index_mrk_bytes: int | None


def table_files(store: Store, table: str) -> TableFiles:
    """Return the sizes of a table's files; a table without rows has none, and 0 bytes."""
    if store.folder is None:
        return TableFiles(_total_bytes(store, table, "system.tables"), None)
    folder = store.table_folder(table)
    return TableFiles(_file_bytes(folder / "data.bin"), _file_bytes(folder / "index.mrk"))


def string_table_files(store: Store, table: str, there: Existing) -> TableFiles:
    """Return what a string table of any kind takes; of a cluster's, one replica of each shard."""
    if there.kept is Kept.STRIPELOG:
        return table_files(store, table)
    if there.kept is Kept.MERGETREE:
        return TableFiles(_total_bytes(store, table, "system.tables"), None)
    everywhere = "cluster({cluster:String}, system.tables)"
    return TableFiles(_total_bytes(store, table + LOCAL, everywhere, cluster=there.cluster), None)


def _total_bytes(store: Store, table: str, of: str, **more: str) -> int:
    ((total,),) = store.query(
        f"SELECT sum(ifNull(total_bytes, 0)) FROM {of} "  # noqa: S608
        "WHERE database = {database:String} AND name = {name:String}",
        {"database": DATABASE, "name": table, **more},
    )
    return int(total)


def torn_files(store: Store, table: str) -> list[str]:
    """Return a sentence for each file of a table whose size is not what its sizes.json says (data folder).

    sizes.json is the table's commit record. A file that is shorter lost rows in a power cut; the next
    insert into such a table makes it unreadable for good. While another process inserts, the two differ for
    a moment: only what stays as it is counts.
    """
    if store.folder is None:
        return []
    folder = store.table_folder(table)
    wrong = _wrong_sizes(folder)
    looks = 0
    while wrong and looks < _SAME_LOOKS:
        time.sleep(_LOOK_AGAIN_S)
        before, wrong = wrong, _wrong_sizes(folder)
        looks = looks + 1 if wrong == before else 0
    return wrong


def _wrong_sizes(folder: Path) -> list[str]:
    found = {
        name: (said, _file_bytes(folder / name))
        for name, said in committed_sizes(folder / "sizes.json").items()
    }
    return [
        f"{folder / name} has {is_bytes} bytes, its sizes.json says {said}"
        for name, (said, is_bytes) in found.items()
        if is_bytes != said
    ]


def folder_bytes(store: Store) -> int:
    """Return the bytes of disk that the data folder takes, as `du` says it (a server: its tables)."""
    if store.folder is None:
        # a table of the engine Merge counts those that it shows, and they count themselves
        sql = "SELECT sum(ifNull(total_bytes, 0)) FROM system.tables WHERE engine != 'Merge'"
        return int(store.query(sql)[0][0] or 0)
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(store.folder):
        for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118 - thousands of files
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # the engine removed it meanwhile
            if (status.st_dev, status.st_ino) not in seen:  # a hard link takes no room of its own
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def committed_sizes(sizes_json: Path) -> dict[str, int]:
    """Return the bytes of each file as a sizes.json has them; without one, the table's files have none.

    Raises `DiskFailed` when it cannot be read as what it should be.
    """
    try:
        recorded = orjson.loads(sizes_json.read_bytes())
        files = recorded.get("clickhouse") or recorded["yandex"]  # the name in old versions
        return {name.replace("%2E", "."): int(entry["size"]) for name, entry in files.items()}
    except FileNotFoundError:
        return dict.fromkeys(("data.bin", "index.mrk"), 0)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DiskFailed(
            f"{sizes_json} is broken: {error}", hint="Copy the folder first; data.bin still has the rows"
        ) from error


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
