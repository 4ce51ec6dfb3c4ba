"""Opening a database: every reason why it cannot be, told apart and said in one line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mexcflow.errors import (
    DiskFailed,
    FolderInUse,
    Misuse,
    Permanent,
    StatementRefused,
    StoreUnavailable,
)
from mexcflow.store import ensure_table, open_store
from mexcflow.store.folder import has_database
from tests.http_front import HttpFront

HOLD_AS_A_STRANGER = """
import sys
import chdb
connection = chdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""
"""Another program with the engine open: it lets nobody in."""

HOLD_THE_FOLDER = """
import sys
from mexcflow.store import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_folder_is_made_and_holds_its_rows_after_it_was_closed(tmp_path):
    folder = tmp_path / "new" / "data"
    with open_store(str(folder)) as store:
        assert store.embedded
        assert store.folder == folder
        assert store.location == str(folder)
        ensure_table(store, "btc")
        store.insert_rows("btc", [(1700000000123, "d", "84055|3|1")])
    with open_store(str(folder), create=False) as store:
        assert store.query("SELECT toUnixTimestamp64Milli(ts), mt, m FROM mexc_data.btc") == [
            (1700000000123, "d", "84055|3|1")
        ]


def test_a_folder_of_another_program_is_refused_with_its_pid_and_free_after_its_death(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_AS_A_STRANGER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(FolderInUse) as caught:
            open_store(str(tmp_path))
        assert f"(PID {holder.pid})" in caught.value.what
        assert caught.value.exit_code == 73
        assert "--database" in caught.value.hint
    finally:
        holder.kill()
        holder.communicate()
    # killed: `status` is still there, the lock is not
    assert (tmp_path / "status").exists()
    with open_store(str(tmp_path)) as store:
        assert store.query("SELECT 1") == [(1,)]


def test_one_process_may_open_its_folder_twice_and_no_second_folder(tmp_path):
    with open_store(str(tmp_path / "a")) as first, open_store(str(tmp_path / "a" / "..") + "/a/") as second:
        ensure_table(first, "btc")
        second.insert_rows("btc", [(1700000000123, "t", "x")])
        assert first.query("SELECT m FROM mexc_data.btc") == [("x",)]
        with pytest.raises(Permanent, match="another data folder open"):
            open_store(str(tmp_path / "b"))
    with open_store(str(tmp_path / "b")) as store:
        assert store.query("SELECT 1") == [(1,)]


def test_create_false_makes_nothing(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        assert not has_database(str(folder))
        with pytest.raises(Misuse, match="mexcflow setup"):
            open_store(str(folder), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_misuse(tmp_path):
    file = tmp_path / "data"
    file.write_text("")
    with pytest.raises(Misuse, match="this is a file"):
        open_store(str(file))


ROW = (1_790_000_000_000, "d", "1|1|1")


@pytest.mark.parametrize("where", ["file/data", "/proc/mexcflow"])
def test_a_folder_that_cannot_be_made_is_the_disks_fault(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match="cannot be written") as caught:
        open_store(str(tmp_path / where))
    assert caught.value.exit_code == 74


@pytest.mark.parametrize("contents", [b"", b"\0\0\0\0", b"[]"])
def test_a_broken_sizes_json_of_a_table_that_is_not_ours_is_named(tmp_path, contents):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.command("CREATE TABLE mexc_data.other (x Int32) ENGINE = Log")
        store.command("INSERT INTO mexc_data.other VALUES (7)")
        sizes = store.table_folder("other") / "sizes.json"
    sizes.write_bytes(contents)
    with pytest.raises(Permanent, match=re.escape(str(sizes))) as caught:
        open_store(str(tmp_path))
    assert not isinstance(caught.value, Misuse)
    assert "Copy the folder" in caught.value.hint
    assert sizes.read_bytes() == contents


@pytest.mark.parametrize("empty", ["mexc_data/btc_deals", "market_data", "mexc_data/btc"])
def test_what_a_full_disk_left_of_a_create_is_made_anew(tmp_path, empty):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.command("DROP DATABASE market_data SYNC")
        store.command("CREATE DATABASE market_data")
    definition = tmp_path / "metadata" / f"{empty}.sql"
    definition.write_bytes(b"")
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [ROW])
        assert store.query("SELECT count() FROM mexc_data.btc_deals") == [(1,)]
    assert definition.stat().st_size > 0


@pytest.mark.parametrize("empty", ["mexc_data/btc", "mexc_data", "market_data/coverage"])
def test_an_empty_definition_of_a_table_that_has_rows_is_named_and_left_alone(tmp_path, empty):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [ROW])
        store.command("INSERT INTO market_data.coverage (exchange) VALUES ('x')")
    definition = tmp_path / "metadata" / f"{empty}.sql"
    definition.write_bytes(b"")
    with pytest.raises(Permanent, match=re.escape(f"{empty}.sql is empty")):
        open_store(str(tmp_path))
    assert definition.exists()


def test_a_copy_that_followed_the_links_is_named(tmp_path):
    with open_store(str(tmp_path / "a")) as store:
        ensure_table(store, "btc")
    shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=False)
    with pytest.raises(Permanent, match="symbolic link"):
        open_store(str(tmp_path / "b"))
    shutil.copytree(tmp_path / "a", tmp_path / "c", symlinks=True)
    open_store(str(tmp_path / "c")).close()


def test_without_chdb_the_error_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['chdb'] = None\n"
        "from mexcflow.store import open_store\n"
        "from mexcflow.errors import Misuse\n"
        "try: open_store(sys.argv[1])\n"
        "except Misuse as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "pip install 'mexcflow[embedded]'" in ran.stdout, ran.stderr


def test_importing_the_store_loads_no_engine():
    code = (
        "import sys, mexcflow.store; print([m for m in ('chdb', 'clickhouse_connect') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:geheim@host",
        "http://",
        "http://user:geheim@host:port",
        "http://user:geheim@host:99999",
        "http://user:geheim@host/db",
        "clickhouse://user:geheim@host:9000",
        "",
    ],
)
def test_what_is_no_url_is_misuse_and_shows_no_password(url):
    with pytest.raises(Misuse) as caught:
        open_store(url)
    assert "geheim" not in str(caught.value)


def test_a_server_that_is_not_there_may_come_back():
    with pytest.raises(StoreUnavailable) as caught:
        open_store("http://user:geheim@127.0.0.1:1")
    assert caught.value.exit_code == 69
    assert "http://user@127.0.0.1:1" in caught.value.what
    assert "refused" in caught.value.what
    assert "geheim" not in str(caught.value)


def test_a_server_takes_the_same_statements_and_a_wrong_password_is_refused(tmp_path):
    with open_store(str(tmp_path)) as embedded, HttpFront(embedded, password="geheim") as front:
        with pytest.raises(StatementRefused, match="AUTHENTICATION_FAILED") as caught:
            open_store(f"http://default:falsch@127.0.0.1:{front.port}")
        assert "falsch" not in str(caught.value)
        assert "version" not in str(caught.value)
        with open_store(f"http://default:geheim@127.0.0.1:{front.port}") as store:
            assert store.location == f"http://default@127.0.0.1:{front.port}"
            assert not store.embedded
            assert store.folder is None
            assert store.free_bytes() is None
            ensure_table(store, "btc")
            front.requests.clear()
            store.insert_rows("btc", [(1700000000123, "d", "84055|3|1"), (1700000000124, "dl", "a\tb\n\\")])
            store.sync("btc")
            assert len(front.requests) == 1
            parameters, _ = front.requests[0]
            assert parameters["async_insert"] == "0"
            assert store.query("SELECT m FROM mexc_data.btc WHERE mt = {mt:String}", {"mt": "dl"}) == [
                ("a\tb\n\\",)
            ]
            assert b"".join(store.export("SELECT m FROM mexc_data.btc", "CSV")) == (
                b'"84055|3|1"\n"a\tb\n\\"\n'
            )
            with pytest.raises(StatementRefused, match="UNKNOWN_TABLE"):
                store.query("SELECT * FROM nothing")


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((500, 202, "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY)"), StoreUnavailable),
        ((500, 242, "Code: 242. DB::Exception: Table is readonly. (TABLE_IS_READ_ONLY)"), StoreUnavailable),
        ((500, 243, "Code: 243. DB::Exception: Not enough space. (NOT_ENOUGH_SPACE)"), StoreUnavailable),
        ((500, 60, "Code: 60. DB::Exception: Table does not exist. (UNKNOWN_TABLE)"), StatementRefused),
        ((502, 0, "<html>Bad gateway</html>"), StoreUnavailable),
    ],
)  # fmt: skip
def test_a_servers_refusal_of_an_insert_is_sorted_by_its_code(tmp_path, refusal, error):
    with open_store(str(tmp_path)) as embedded, HttpFront(embedded) as front:
        ensure_table(embedded, "btc")
        with open_store(f"http://127.0.0.1:{front.port}") as store:
            front.refuse_with = refusal
            front.requests.clear()
            with pytest.raises(error, match="insert into btc"):
                store.insert_rows("btc", [(1700000000123, "t", "x")])
            assert len(front.requests) == 1  # sent once: rows would be there twice


def test_a_connection_that_drops_after_the_insert_was_sent_does_not_send_it_again(tmp_path):
    with open_store(str(tmp_path)) as embedded, HttpFront(embedded) as front:
        store = open_store(f"http://127.0.0.1:{front.port}")
        store.query("SELECT 1")  # the connection is in use: only then would the client repeat
        front.hangs_up = True
        front.requests.clear()
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            store.insert_rows("btc", [(1700000000123, "t", "x")])
        assert len(front.requests) == 1
        store.close()


def test_a_server_that_fails_in_the_middle_of_a_result_is_an_error(tmp_path):
    with (
        open_store(str(tmp_path)) as embedded,
        HttpFront(embedded) as front,
        open_store(f"http://127.0.0.1:{front.port}") as store,
    ):
        front.break_results_with = ("tag1", b"")
        assert b"".join(store.export("SELECT 1", "CSV")) == b"1\n"
        error = b"__exception__\r\ntag1\r\nCode: 241. DB::Exception: Out of memory. (MEMORY)\n60 tag1\r\n"
        front.break_results_with = ("tag1", error + b"__exception__\r\n")
        with pytest.raises(StatementRefused, match=r"not whole: Code: 241.*\(MEMORY\)$"):
            list(store.export("SELECT 1", "CSV"))


def test_a_server_that_goes_away_is_transient(tmp_path):
    with open_store(str(tmp_path)) as embedded:
        ensure_table(embedded, "btc")
        with HttpFront(embedded) as front:
            store = open_store(f"http://127.0.0.1:{front.port}")
        store._client.close_connections()
        with pytest.raises(StoreUnavailable):
            store.insert_rows("btc", [(1700000000123, "t", "x")])
        with pytest.raises(StoreUnavailable):
            store.query("SELECT 1")
        store.close()


def test_free_bytes_is_what_the_disk_says(tmp_path):
    with open_store(str(tmp_path)) as store:
        disk = os.statvfs(tmp_path)
        free = store.free_bytes()
        assert free is not None
        assert abs(free - disk.f_bavail * disk.f_frsize) < 1 << 30
    store.close()  # a second time does nothing
    assert Path(tmp_path).is_dir()
