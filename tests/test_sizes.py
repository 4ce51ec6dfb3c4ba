"""The sizes that verify tells are those that `du` measures, within 1 %."""

import subprocess
from pathlib import Path

import pytest

from mexcflow.store import ensure_table, open_store
from mexcflow.store.sizes import folder_bytes, table_files
from tests.http_front import HttpFront

MERGE_TREE = "CREATE TABLE market_data.sized (n UInt64, s String) ENGINE = MergeTree ORDER BY n"
ROWS = 150_000
"""Of 200 random letters each: some 25 MB, beside which the engine's small files do not count."""


def du(path: Path, *options: str) -> int:
    """Bytes that a folder takes, as the system says it."""
    done = subprocess.run(["du", "-s", "-B1", *options, path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("sizes") / "data")) as store:
        ensure_table(store, "btc")
        for part in range(3):
            store.command(
                "INSERT INTO mexc_data.btc SELECT fromUnixTimestamp64Milli(1700000000000 + number), 'dl', "
                f"randomPrintableASCII(200, number) FROM numbers({part * ROWS // 3}, {ROWS // 3})"
            )
        store.command("CREATE DATABASE IF NOT EXISTS market_data")
        store.command(MERGE_TREE)
        store.command(
            "INSERT INTO market_data.sized "
            f"SELECT number, randomPrintableASCII(100, number) FROM numbers({ROWS})"
        )
        yield store


def test_the_folder_is_what_du_says(store):
    measured = du(store.folder)
    assert measured > 20_000_000
    assert folder_bytes(store) == pytest.approx(measured, rel=0.01)


def test_a_hard_link_counts_once_and_what_is_sparse_does_not_count(store):
    before = folder_bytes(store)
    (store.folder / "linked").hardlink_to(store.table_folder("btc") / "data.bin")
    with (store.folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    try:
        assert folder_bytes(store) == pytest.approx(before, rel=0.001)
        assert folder_bytes(store) == pytest.approx(du(store.folder), rel=0.01)
    finally:
        (store.folder / "linked").unlink()
        (store.folder / "sparse").unlink()


def test_a_tables_files_are_what_du_says(store):
    measured = du(store.table_folder("btc"))
    assert measured > 20_000_000
    assert sum(table_files(store, "btc")) == pytest.approx(measured, rel=0.01)


def test_what_a_server_says_of_its_tables_is_what_du_says(store):
    """A server tells only what its system tables hold; here both can be asked."""
    with HttpFront(store) as front, open_store(f"http://127.0.0.1:{front.port}") as server:
        assert server.folder is None
        in_tables = table_files(server, "btc").data_bin_bytes
        assert in_tables == pytest.approx(du(store.table_folder("btc")), rel=0.01)
        of_all = folder_bytes(server)
    assert in_tables < of_all
    assert of_all == pytest.approx(du(store.folder), rel=0.01)
