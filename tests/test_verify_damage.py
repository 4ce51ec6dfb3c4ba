"""Verify on files that were damaged while the folder is open, or further up than opening it looks."""

import pytest

from mexcflow.ops.verify import verify
from mexcflow.store import ensure_table, open_store

T0 = 1_700_000_000_000


def report_on(store):
    return verify(store, [], now_ms=T0 + 3_600_000)


def cut(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("name", ["data.bin", "index.mrk"])
def test_a_file_shorter_than_its_commit_record_is_found(tmp_path, name):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        ensure_table(store, "eth")
        store.insert_rows("btc", [(T0, "d", "1|1|1")] * 100)
        store.insert_rows("eth", [(T0, "d", "1|1|1")] * 100)
        path = store.table_folder("btc") / name
        cut(path, path.stat().st_size - 10)
        report = report_on(store)
    assert not report.ok
    assert str(path) in report.problems[0]
    assert "its sizes.json says" in report.problems[0]
    if name == "data.bin":  # the index is read once, when the table is opened
        assert any("cannot be read: Code: " in problem for problem in report.tables["btc"].problems)
    assert report.tables["eth"].rows == 100  # the others are verified all the same


def test_a_flipped_bit_is_found(tmp_path):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [(T0 + n, "d", f"{n + 1}|1|1") for n in range(1000)])
        path = store.table_folder("btc") / "data.bin"
        middle = path.stat().st_size // 2
        store.insert_rows("btc", [(T0 + 1000, "d", "1|1|1")])  # the last INSERT is looked at when it opens
    data = bytearray(path.read_bytes())
    data[middle] ^= 1
    path.write_bytes(data)
    with open_store(str(tmp_path)) as store:
        report = report_on(store)
    assert not report.ok
    assert "cannot be read" in report.problems[0]
