"""A server that comes back as another one: other version, other rights; and what a client sends along."""

import logging

import pytest

from mexcflow.errors import StatementRefused, StoreUnavailable
from mexcflow.store import Store, ensure_table, open_store, table_state
from tests.http_front import HttpFront
from tests.test_store_away import in_a_thread

ROWS = [(1700000000000 + i, "d", f"84055|{i}|1") for i in range(10)]
SENT_ALONG = {
    "date_time_input_format", "cast_string_to_dynamic_use_inference", "session_timezone",
    "cancel_http_readonly_queries_on_client_close", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "enable_http_compression",
}  # fmt: skip
TRANSPORT = {"query", "query_id", "database", "wait_end_of_query"}


@pytest.fixture
def front(tmp_path):
    with open_store(str(tmp_path)) as embedded, HttpFront(embedded) as front:
        ensure_table(embedded, "btc")
        yield front


def opened(front: HttpFront) -> Store:
    return open_store(f"http://127.0.0.1:{front.port}")


@pytest.mark.parametrize("kind", ["lacks", "fixes"])
@pytest.mark.parametrize("setting", sorted(SENT_ALONG - {"enable_http_compression"}))
def test_a_server_that_does_not_take_a_setting_any_more_ends_no_recording(front, setting, kind):
    with opened(front) as store:
        assert table_state(store, "btc").rows == 0
        getattr(front, kind).add(setting)
        front.requests.clear()
        attempts = 0
        while table_state(front.store, "btc").rows == 0:
            attempts += 1
            try:
                store.insert_rows("btc", ROWS)
            except StoreUnavailable as error:
                assert "other settings than before" in error.what  # noqa: PT017
        assert attempts == len(front.inserts) <= 2  # an attempt is one INSERT
        assert table_state(store, "btc").rows == len(ROWS)
        assert setting not in front.requests[-1][0]


def test_a_setting_that_comes_back_is_no_matter(front):
    front.lacks.add("cast_string_to_dynamic_use_inference")
    with opened(front) as store:
        front.lacks.clear()
        store.insert_rows("btc", ROWS)
        assert table_state(store, "btc").rows == len(ROWS)


def test_a_setting_that_a_statement_itself_asks_for_is_refused_for_good(front):
    with opened(front) as store:
        front.lacks.add("limit")
        for _ in range(2):
            with pytest.raises(StatementRefused, match="UNKNOWN_SETTING"):
                list(store.export("SELECT 1", "CSV", {"limit": 1}))
        with pytest.raises(StatementRefused, match="UNKNOWN_SETTING"):
            store.query("SELECT 1 SETTINGS nope = 1")


def test_of_two_threads_that_are_refused_at_once_neither_is_refused_for_good(front):
    with opened(front) as store:
        front.lacks.add("date_time_input_format")

        def ask() -> None:
            try:
                store.query("SELECT 1")
            except StoreUnavailable:
                store.query("SELECT 1")

        started = [in_a_thread(ask) for _ in range(8)]
        for thread, _ in started:
            thread.join()
        assert [error for _, errors in started for error in errors] == []


def test_a_server_that_refuses_even_to_say_what_it_takes_is_not_asked_for_ever(front):
    with opened(front) as store:
        front.refuse_with = (404, 115, "Code: 115. DB::Exception: Setting x is unknown. (UNKNOWN_SETTING)")
        front.requests.clear()
        with pytest.raises(StatementRefused, match="UNKNOWN_SETTING"):
            store.query("SELECT 1")
        assert len(front.requests) == 2
        front.refuse_with = None
        assert store.query("SELECT 1") == [(1,)]


def test_the_database_that_names_are_looked_up_in_stays(front):
    with opened(front) as store:
        store.prefer_database("mexc_data")
        front.lacks.add("date_time_input_format")
        with pytest.raises(StoreUnavailable):
            store.query("SELECT 1")
        front.requests.clear()
        store.query("SELECT 1")
        assert front.requests[0][0]["database"] == "mexc_data"


@pytest.mark.parametrize(("kind", "warned"), [("lacks", True), ("fixes", False)])  # it is fixed to UTC
def test_a_server_or_a_user_without_session_timezone_is_used_and_warned_of(front, kind, warned, caplog):
    getattr(front, kind).add("session_timezone")
    logging.getLogger("mexcflow").addHandler(caplog.handler)
    try:
        with opened(front) as store:
            store.insert_rows("btc", ROWS)
            assert store.query("SELECT toUnixTimestamp64Milli(min(ts)) FROM mexc_data.btc") == [(ROWS[0][0],)]
    finally:
        logging.getLogger("mexcflow").removeHandler(caplog.handler)
    assert ("times are in the server's time zone" in caplog.text) == warned


# what is sent


def test_every_statement_goes_without_a_session_and_an_insert_with_its_own_settings(front):
    with opened(front) as store:
        front.requests.clear()
        store.insert_rows("btc", ROWS, query_id="batch-1")
        store.query("SELECT 1")
        store.command("SELECT 1")
        list(store.export("SELECT 1", "CSV"))
    insert, query, command, export = (parameters for parameters, _ in front.requests)
    for parameters in (insert, query, command, export):
        assert "session_id" not in parameters
        assert "client_protocol_version" not in parameters
        assert parameters["session_timezone"] == "UTC"
    assert {name: value for name, value in insert.items() if name not in SENT_ALONG | {"query"}} == {
        "query_id": "batch-1",
        "async_insert": "0",
        "max_insert_block_size": str(1 << 30),
        "min_insert_block_size_rows": str(1 << 30),
        "min_insert_block_size_bytes": str(1 << 32),
        "input_format_parallel_parsing": "0",
    }
    # a query's answer is held back until it ended, so its status tells whether it failed; an export streams
    assert query["wait_end_of_query"] == "1"
    assert not {"wait_end_of_query", "async_insert"} & (export.keys() | command.keys())
    for parameters in (query, command, export):
        assert parameters.keys() - SENT_ALONG - TRANSPORT == set()
