"""What runs at the endpoint: ids, clients that go away or read slowly, sessions, limits."""

import socket
import time
from collections.abc import Iterator

import pytest

from mexcflow.store import ensure_table, table_state
from mexcflow.store.endpoint.app import LIMIT
from tests.conftest import wait_for
from tests.disasters.disk import why_not
from tests.endpoints import Served, read_all, serving

ROW = b"1700000000123\td\t84055|3|1\n"
ENDLESS = "SELECT number FROM system.numbers"
SILENT = "SELECT sleepEachRow(1) FROM numbers(1000) SETTINGS max_block_size = 1"
REASON = why_not()


@pytest.fixture(scope="module")
def module_served(tmp_path_factory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("data")) as served:
        ensure_table(served.store, "btc")
        # each row that is inserted takes its time
        served.store.command(
            "CREATE TABLE mexc_data.slow (n UInt64, s UInt8 MATERIALIZED sleepEachRow(0.25)) ENGINE = Memory"
        )
        yield served


@pytest.fixture
def served(module_served) -> Iterator[Served]:
    module_served.store.command("TRUNCATE TABLE mexc_data.btc")
    module_served.store.command("TRUNCATE TABLE mexc_data.slow")
    yield module_served
    wait_for(lambda: running(module_served) == 0)
    assert engine_runs(module_served) == 0


def running(served: Served) -> int:
    return len(served.endpoint._engine.statements)


def engine_runs(served: Served) -> int:
    """How many statements the engine itself has, but for this question."""
    sql = "SELECT count() FROM system.processes WHERE query NOT LIKE '%system.processes%'"
    return served.store.query(sql)[0][0]


def send(served: Served, sql: str, body: bytes = b"", **parameters: str) -> socket.socket:
    """Send a request and do not wait for its answer."""
    given = "".join(f"&{name}={value}" for name, value in parameters.items())
    data = sql.encode() + b"\n" + body
    return served.raw(served.head(f"/?{given}", f"Content-Length: {len(data)}", "Connection: close") + data)


# ids


def test_the_id_of_a_statement_that_runs_is_refused(served):
    line = send(served, "INSERT INTO mexc_data.slow FORMAT TSV", b"1\n2\n", query_id="batch-1")
    wait_for(lambda: running(served))
    reply = served.ask("SELECT 1", query_id="batch-1", replace_running_query="0")
    assert reply.code == 216
    assert b"batch-1 is already running" in reply.body
    assert served.ask("SELECT 1", query_id="batch-2").code == 0
    assert line.recv(12) == b"HTTP/1.1 200"
    wait_for(lambda: served.ask("SELECT 1", query_id="batch-1").code == 0)
    line.close()


def test_an_id_counts_as_soon_as_the_head_of_its_request_is_there(served):
    line = served.raw(
        served.head("/?query_id=batch-1", "Content-Length: 1000") + b"INSERT INTO mexc_data.btc"
    )
    wait_for(lambda: running(served))
    assert served.ask("SELECT 1", query_id="batch-1").code == 216
    line.close()  # cut: it never runs
    wait_for(lambda: served.ask("SELECT 1", query_id="batch-1").code == 0)
    assert table_state(served.store, "btc").rows == 0


def test_an_insert_goes_on_to_its_end_when_its_client_has_gone(served):
    send(served, "INSERT INTO mexc_data.slow FORMAT TSV", b"1\n2\n3\n", query_id="batch-1").close()
    wait_for(lambda: running(served))
    time.sleep(0.2)
    assert served.ask("SELECT 1", query_id="batch-1").code == 216
    assert served.text("SELECT count() FROM mexc_data.slow") == "0\n"
    wait_for(lambda: served.ask("SELECT 1", query_id="batch-1").code == 0)
    assert served.text("SELECT count() FROM mexc_data.slow") == "3\n"


# clients that go away, read slowly, or want a lot


@pytest.mark.parametrize("sql", [ENDLESS, SILENT, "SELECT count() FROM system.numbers"])
@pytest.mark.parametrize("whole", ["0", "1"])
def test_a_query_ends_when_its_client_goes_away(served, sql, whole):
    line = send(served, sql, wait_end_of_query=whole)
    wait_for(lambda: engine_runs(served))
    if sql == ENDLESS and whole == "0":
        assert line.recv(12) == b"HTTP/1.1 200"
    line.close()
    wait_for(lambda: not engine_runs(served), seconds=5)


def test_a_client_that_does_not_read_holds_up_nobody_and_gets_all_of_it(served):
    lines = [send(served, "SELECT number FROM numbers(3000000) FORMAT RowBinary") for _ in range(4)]
    wait_for(lambda: engine_runs(served) == 4)
    time.sleep(0.3)
    assert served.ask("INSERT INTO mexc_data.btc FORMAT TSV", ROW).code == 0
    assert served.text("SELECT count() FROM mexc_data.btc") == "1\n"
    assert engine_runs(served) == 4
    expected = b"".join(number.to_bytes(8, "little") for number in range(3_000_000))
    for line in reversed(lines):
        answer = line.makefile("rb")
        while answer.readline().strip():
            pass
        body = bytearray()
        while size := int(answer.readline(), 16):
            body += answer.read(size)
            answer.readline()
        assert body == expected
        answer.close()
        line.close()


@pytest.mark.parametrize("fmt", ["TSV", "JSON", "Native", "Parquet", "PrettyCompact"])
def test_a_failure_in_the_middle_of_a_result_never_looks_like_its_end(served, fmt):
    sql = "SELECT number, throwIf(number = 1000000) FROM numbers(2000000)"
    line = send(served, f"{sql} FORMAT {fmt}")
    answer = read_all(line)
    head, _, body = answer.partition(b"\r\n\r\n")
    line.close()
    if b" 500 " in head.partition(b"\r\n")[0]:  # nothing of it was sent by then
        assert b"x-clickhouse-exception-code: 395" in head
        return
    tag = head.partition(b"x-clickhouse-exception-tag: ")[2][:16]
    assert len(tag) == 16
    _, found, failure = body.rpartition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    assert found
    text, _, end = failure.partition(b"\n")
    assert text.startswith(b"Code: 395. DB::Exception: ")
    assert end.startswith(b"%d %b\r\n__exception__\r\n" % (len(text) + 1, tag))
    assert not answer.endswith(b"0\r\n\r\n")  # and the connection was cut


def test_a_failure_is_a_status_when_the_client_waits_for_the_whole(served):
    sql = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)"
    reply = served.ask(sql, wait_end_of_query="1")
    assert (reply.status, reply.code) == (500, 395)
    reply = served.ask("SELECT number FROM numbers(2500000)", wait_end_of_query="1")  # more than is held
    assert reply.body == b"".join(b"%d\n" % number for number in range(2_500_000))
    assert reply.summary["read_rows"] == "2500000"


def test_kill_takes_our_ids(served):
    for sql in (
        ENDLESS,
        "INSERT INTO mexc_data.slow SELECT number FROM numbers(30) SETTINGS max_block_size = 1",
        "INSERT INTO mexc_data.slow VALUES" + ",".join(["(1)"] * 11),
    ):
        line = send(served, sql, query_id="mine")
        wait_for(lambda: engine_runs(served))
        reply = served.ask("KILL QUERY WHERE query_id = 'mine' ASYNC")
        assert reply.code == 0
        assert reply.body.startswith(b"waiting\t")
        if sql == ENDLESS:
            assert b"Code: 394. " in read_all(line)
        wait_for(lambda: running(served) == 0)
        line.close()
    assert int(served.text("SELECT count() FROM mexc_data.slow")) < 30


def test_more_statements_than_the_limit_wait_are_refused_and_may_come_again(served):
    lines = [send(served, SILENT) for _ in range(LIMIT)]
    wait_for(lambda: engine_runs(served) == LIMIT)
    waiting = send(served, "SELECT 6 * 7")
    wait_for(lambda: running(served) == LIMIT + 1)
    lines.pop().close()
    answer = b""
    while b"\r\n\r\n42\n" not in answer:  # head and body may come one after the other
        piece = waiting.recv(65536)
        assert piece, answer
        answer += piece
    waiting.close()
    lines.append(send(served, SILENT))
    wait_for(lambda: engine_runs(served) == LIMIT)
    reply = served.ask("SELECT 1")
    assert (reply.status, reply.code) == (503, 202)
    assert served.ask(method="GET", path="/ping").status == 200
    for line in lines:
        line.close()
    wait_for(lambda: served.ask("SELECT 1").status == 200)


# sessions


def test_a_session_keeps_temporary_tables_settings_and_database(served):
    session = {"session_id": "one"}
    served.text("CREATE TEMPORARY TABLE mine (a UInt8)", **session)
    assert served.ask("INSERT INTO mine FORMAT TSV", b"3\n", **session).summary["written_rows"] == "1"
    assert served.text("SELECT * FROM mine", **session) == "3\n"
    assert served.ask("SELECT * FROM mine").code == 60
    assert served.ask("SELECT * FROM mine", session_id="other").code == 60
    served.text("USE mexc_data", **session)
    served.text("SET max_block_size = 77", **session)
    asked = "SELECT currentDatabase(), getSetting('max_block_size')"
    assert served.text(asked, **session) == "mexc_data\t77\n"
    assert served.text(asked, database="system", max_block_size="55", **session) == "system\t55\n"
    assert served.text(asked, **session) == "mexc_data\t77\n"
    served.text("SET max_block_size = 88", max_block_size="55", **session)
    assert served.text(asked, max_block_size="55", **session) == "mexc_data\t55\n"
    assert served.text(asked, **session) == "mexc_data\t88\n"
    assert served.text(asked).startswith("default\t")
    assert served.ask("SELECT 1", no_such_setting="1", **session).code == 115
    assert served.text(asked, **session) == "mexc_data\t88\n"
    assert served.text("SELECT 1", close_session="1", **session) == "1\n"
    assert served.ask("SELECT * FROM mine", **session).code == 60


def test_a_session_takes_one_statement_at_a_time(served):
    line = send(served, SILENT, session_id="busy")
    wait_for(lambda: engine_runs(served))
    reply = served.ask("SELECT 1", session_id="busy")
    assert reply.code == 373
    assert b"(SESSION_IS_LOCKED)" in reply.body
    line.close()
    wait_for(lambda: served.ask("SELECT 1", session_id="busy").code == 0)


def test_a_session_that_must_exist_and_does_not_is_an_error(served):
    reply = served.ask("SELECT 1", session_id="never", session_check="1")
    assert (reply.status, reply.code) == (404, 372) or reply.code == 372
    assert served.ask("SELECT 1", session_id="never", session_timeout="4000").code == 374
    assert served.ask("SELECT 1", session_id="never", session_timeout="soon").code == 374


def test_a_session_that_nobody_uses_is_dropped(served):
    served.text("CREATE TEMPORARY TABLE mine (a UInt8)", session_id="idle", session_timeout="0")
    wait_for(
        lambda: served.ask("SELECT 1", session_id="idle", session_check="1", session_timeout="0").code == 372
    )
