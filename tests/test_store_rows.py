"""Inserting rows: each character and each millisecond comes back as it went in, all rows or none."""

import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.errors import DiskFailed, StatementRefused
from mexcflow.store import ensure_table, open_store
from mexcflow.store.translate import one_line
from mexcflow.store.tsv import encode_rows
from tests.endpoints import either

NASTY = (
    "tab\tnewline\ncrlf\r\nbackslash\\ \\N \\t nul\0 bell\a bs\b ff\f esc\x1b quote'\" pipe| ☃ 🚀 \u2028 ä"
)


@pytest.fixture(scope="module")
def embedded():
    with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        ensure_table(store, "btc")
        yield store


@pytest.fixture(scope="module", params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


@pytest.fixture(autouse=True)
def empty(store):
    store.command("TRUNCATE TABLE mexc_data.btc")


def read(store):
    return store.query("SELECT toUnixTimestamp64Milli(ts), mt, m FROM mexc_data.btc SETTINGS max_threads = 1")


def test_rows_come_back_in_their_order(store):
    rows = [(1700000000000 + i % 3, ("t", "d", "dp", "dl")[i % 4], f"{i}|x") for i in range(10_000)]
    store.insert_rows("btc", rows)
    assert read(store) == rows


@pytest.mark.parametrize("text", [NASTY, "", "\\", "\n", "\t\t", "\r", "\\N", " x ", "x" * 500, "a\n\nb"])
def test_a_dead_letter_comes_back_as_it_was(store, text):
    rows = [(1700000000123, "dl", text), (1700000000124, "d", "1|1|1")]
    store.insert_rows("btc", rows)
    assert read(store) == rows


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-2208988800000, 10413791999999),
            st.sampled_from(["t", "d", "dp", "dl"]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        ),
        max_size=20,
    )
)
def test_any_text_and_any_time_come_back(store, rows):
    store.command("TRUNCATE TABLE mexc_data.btc")
    store.insert_rows("btc", rows)
    assert read(store) == rows


@pytest.mark.parametrize(
    "ts_ms",
    [-2208988800000, -1, 0, 1, 999, 999999999999, 1000000000000, 1000000000001, 1700000000999,
     9999999999999, 10000000000000, 10413791999999],
)  # fmt: skip
def test_a_time_is_exact_to_the_millisecond(store, ts_ms):
    store.insert_rows("btc", [(ts_ms, "t", "x"), (1700000000123, "t", "y")])
    assert read(store) == [(ts_ms, "t", "x"), (1700000000123, "t", "y")]


@pytest.mark.parametrize(
    "bad",
    [
        (1700000000001, "x", "m"),
        (1700000000001, "", "m"),
        (10413792000000, "t", "m"),
        (-2208988800001, "t", "m"),
    ],
)
def test_one_bad_row_and_nothing_is_stored(store, bad):
    rows = [(1700000000000, "t", "good")] * 5
    with pytest.raises(StatementRefused, match="row 5 of the batch"):
        store.insert_rows("btc", [*rows, bad, *rows])
    assert read(store) == []


def test_a_row_that_the_engine_refuses_takes_its_batch_with_it(store, monkeypatch):
    monkeypatch.setattr("mexcflow.store.store.encode_rows", lambda rows: b"1700000000000\td\tx\n17\tq\ty\n")
    with pytest.raises(StatementRefused, match="insert into btc: Code: "):
        store.insert_rows("btc", [(1700000000000, "d", "x"), (17, "q", "y")])
    assert read(store) == []


def test_no_rows_is_no_insert(store):
    store.insert_rows("btc", [])
    store.insert_rows("no_such_table", [])
    assert encode_rows([]) == b""


def test_a_table_that_is_not_there_is_refused(embedded):
    with pytest.raises(StatementRefused, match="UNKNOWN_TABLE"):
        embedded.insert_rows("no_such_table", [(1700000000000, "t", "x")])
    with pytest.raises(StatementRefused, match="mexcflow setup"):
        embedded.sync("no_such_table")


def test_what_needs_no_escape_is_not_touched_and_a_lone_surrogate_is_a_question_mark():
    assert encode_rows([(1700000000123, "d", "1|2|1")]) == b"1700000000123\td\t1|2|1\n"
    assert encode_rows([(1700000000123, "dl", "a\tb"), (5, "t", "x")]) == (
        b"1700000000123\tdl\ta\\tb\n1970-01-01 00:00:00.005Z\tt\tx\n"
    )
    assert encode_rows([(1700000000123, "dl", "\ud800")]) == b"1700000000123\tdl\t?\n"


def test_sync_forces_the_three_files_down_also_when_the_table_was_made_again(embedded, monkeypatch):
    synced = []
    ensure_table(embedded, "eth")
    embedded.sync("eth")  # no rows, no files: nothing to do
    embedded.insert_rows("eth", [(1700000000123, "t", "x")])
    old = embedded.table_folder("eth")
    embedded.command("DROP TABLE mexc_data.eth SYNC")
    ensure_table(embedded, "eth")
    embedded.insert_rows("eth", [(1700000000123, "t", "x")])
    opened = {}
    real_open = os.open
    monkeypatch.setattr("os.open", lambda path, *rest: _note(opened, real_open(path, *rest), path))
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(opened[handle]))
    embedded.sync("eth")
    new = embedded.table_folder("eth")
    assert new != old
    assert synced == [new / "data.bin", new / "index.mrk", new / "sizes.json", new]


def _note(opened, handle, path):
    opened[handle] = path
    return handle


def test_a_message_of_clickhouse_is_cut_to_one_line():
    assert one_line(
        "Received ClickHouse exception, code: 60, server response: Code: 60. DB::Exception: Table\n x "
        "does not exist. (UNKNOWN_TABLE) (version 26.8.1.1 (official build))"
    ) == ("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)")
    assert one_line("Code: 1. DB::Exception: a, Stack trace (when copying):\n0. f\n1. g") == (
        "Code: 1. DB::Exception: a"
    )
    assert one_line("Code: 41. DB::Exception: Code: 41. DB::Exception: no date. (X)") == (
        "Code: 41. DB::Exception: no date. (X)"
    )
    long = one_line("Code: 62. DB::Exception: " + "x" * 5000 + " (SYNTAX_ERROR)")
    assert long.endswith("... (SYNTAX_ERROR)")
    assert len(long) < 800


def test_a_disk_that_cannot_sync_is_told_as_one(embedded, monkeypatch):
    embedded.insert_rows("btc", [(1_790_000_000_000, "d", "1|1|1")])

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(DiskFailed, match="fsync of table btc: Input/output error"):
        embedded.sync("btc")
