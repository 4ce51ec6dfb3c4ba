"""Tables whose files can be torn: filled by INSERTs whose ends are known, and read back in order."""

import os
from pathlib import Path

from mexcflow.store import ensure_table

T0 = 1_790_000_000_000
FILES = ("data.bin", "index.mrk", "sizes.json")


def batch(number: int, rows: int = 40) -> list[tuple[int, str, str]]:
    return [(T0 + n, "d", f"{number}.{n * 7919 % 1000}|{n}|1") for n in range(rows)]


BATCHES = [batch(number) for number in range(10)]


def fill(store, table: str, batches) -> tuple[Path, list[tuple[int, int]]]:
    """Insert batches; return the table's folder and how long data.bin and index.mrk were after each."""
    ensure_table(store, table)
    folder = store.table_folder(table)
    ends = [(0, 0)]
    for rows in batches:
        store.insert_rows(table, rows)
        ends.append(tuple((folder / name).stat().st_size for name in FILES[:2]))
    return folder, ends


def rows_of(store, table: str = "btc") -> list[tuple[int, str, str]]:
    one_thread = "SETTINGS max_threads = 1"  # more read side by side, in no order
    return store.query(f"SELECT toUnixTimestamp64Milli(ts), mt, m FROM mexc_data.{table} {one_thread}")


def flat(batches) -> list[tuple[int, str, str]]:
    return [row for rows in batches for row in rows]


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def shorter(path: Path, by: int) -> None:
    cut(path, path.stat().st_size - by)


def append(path: Path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def table_in(data: Path, table: str = "btc") -> Path:
    return (data / "data" / "mexc_data" / table).resolve()
