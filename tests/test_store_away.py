"""A database that goes away in every way: told apart from what would fail again, nothing sent twice."""

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from mexcflow.errors import DiskFailed, MexcflowError, OwnerGone, StatementRefused, StoreUnavailable
from mexcflow.store import Store, ensure_table, insert_running, open_store, table_state
from mexcflow.store.patience import Patience, hurried
from mexcflow.store.server import open_server
from mexcflow.store.translate import translated
from tests.conftest import wait_for
from tests.fault_proxy import FaultProxy
from tests.http_front import HttpFront

ROWS = [(1700000000000 + i, "d", f"84055|{i}|1") for i in range(100)]
MEGABYTES = [(1700000000000 + i, "dl", "x" * 490) for i in range(60_000)]


class Line(NamedTuple):
    embedded: Store
    front: HttpFront
    proxy: FaultProxy
    store: Store
    hasty: Store
    """For statements that are to be given up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def stored(self) -> list[tuple[int, str, str]]:
        return self.embedded.query(
            "SELECT toUnixTimestamp64Milli(ts), mt, m FROM mexc_data.btc SETTINGS max_threads = 1"
        )


@pytest.fixture
def line(tmp_path) -> Iterator[Line]:
    with (
        open_store(str(tmp_path)) as embedded,
        HttpFront(embedded) as front,
        FaultProxy(front.port) as proxy,
        open_store(f"http://127.0.0.1:{proxy.port}") as store,
        open_store(f"http://127.0.0.1:{proxy.port}", timeout_s=1) as hasty,
    ):
        ensure_table(embedded, "btc")
        hasty.query("SELECT 1")  # the connection is in use: only then would a client repeat by itself
        front.requests.clear()
        yield Line(embedded, front, proxy, store, hasty)


def in_a_thread(run: Callable[[], object]) -> tuple[threading.Thread, list[MexcflowError]]:
    """Start `run`; the list gets its error."""
    errors: list[MexcflowError] = []

    def kept() -> None:
        try:
            run()
        except MexcflowError as error:
            errors.append(error)

    thread = threading.Thread(target=kept)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("rows", [ROWS, MEGABYTES], ids=["100 rows", "30 MB"])
@pytest.mark.parametrize(
    ("fault", "is_in"),
    [("reset_before", False), ("hold", False), ("answer_500", False), ("reset_after", True), ("stall", True)],
)
def test_an_insert_without_an_answer_is_sent_once_and_the_table_tells(line, fault, is_in, rows):
    sender = line.hasty if fault in ("hold", "stall") else line.store
    before = table_state(line.store, "btc")
    with getattr(line.proxy, fault)() as placed:
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            sender.insert_rows("btc", rows, query_id="batch-1")
        assert placed.met == 1
        wait_for(lambda: not insert_running(line.store, ["batch-1"]), seconds=60)
        assert len(line.front.inserts) == is_in
        grown = table_state(line.store, "btc").rows - before.rows
        assert grown == (len(rows) if is_in else 0)
    if not grown:
        line.store.insert_rows("btc", rows, query_id="batch-1")
    assert len(line.front.inserts) == 1
    assert line.stored() == rows


def test_a_server_that_is_not_there_and_comes_back(line):
    with line.proxy.refuse():
        for reason in ("insert into btc", "refused"):  # at first it may be the cut of a connection in use
            with pytest.raises(StoreUnavailable, match=reason):
                line.store.insert_rows("btc", ROWS)
        with pytest.raises(StoreUnavailable, match="refused"):
            table_state(line.store, "btc")
        with pytest.raises(StoreUnavailable, match="refused"):
            open_store(line.url)
    assert line.front.inserts == []
    line.store.insert_rows("btc", ROWS)
    assert line.stored() == ROWS


def test_an_insert_on_a_line_that_became_slow_is_given_up_and_still_arrives(line):
    with line.proxy.slow(1000):
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            line.hasty.insert_rows("btc", ROWS * 10, query_id="batch-1")
        assert insert_running(line.store, ["batch-1"])
        assert table_state(line.store, "btc").rows == 0
    wait_for(lambda: not insert_running(line.store, ["batch-1"]), seconds=60)
    assert table_state(line.store, "btc").rows == 1000
    assert line.stored() == ROWS * 10


def test_an_insert_that_is_cut_in_its_middle_leaves_nothing(line):
    with line.proxy.slow(1000), pytest.raises(StoreUnavailable):
        line.hasty.insert_rows("btc", MEGABYTES, query_id="batch-1")
    wait_for(lambda: not insert_running(line.store, ["batch-1"]), seconds=60)
    assert line.front.inserts == []
    assert table_state(line.store, "btc").rows == 0
    line.store.insert_rows("btc", MEGABYTES, query_id="batch-1")
    assert line.stored() == MEGABYTES


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_a_question_is_repeated_when_its_connection_drops(line, fault):
    with getattr(line.proxy, fault)(inserts_only=False, times=1) as placed:
        assert table_state(line.store, "btc").rows == 0
        assert placed.met == 1
    with getattr(line.proxy, fault)(inserts_only=False) as placed:
        with pytest.raises(StoreUnavailable):
            table_state(line.store, "btc")
        assert placed.met > 1


@pytest.mark.parametrize("fault", ["hold", "stall", "answer_500"])
def test_a_question_without_an_answer_is_transient(line, fault):
    with getattr(line.proxy, fault)(inserts_only=False):
        for ask in (
            lambda: table_state(line.hasty, "btc"),
            lambda: insert_running(line.hasty, ["batch-1"]),
            lambda: line.hasty.query("SELECT 1"),
            lambda: line.hasty.command("SYSTEM FLUSH LOGS"),
            lambda: list(line.hasty.export("SELECT 1", "CSV")),
            lambda: open_store(line.url, timeout_s=1),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
    assert line.store.query("SELECT 1") == [(1,)]


def test_a_statement_that_changes_something_is_sent_once(line):
    line.store.insert_rows("btc", ROWS)
    line.front.requests.clear()
    with line.proxy.reset_after(inserts_only=False), pytest.raises(StoreUnavailable):
        line.store.command("TRUNCATE TABLE mexc_data.btc")
    assert len(line.front.requests) == 1


def test_a_fault_meets_the_next_inserts_only(line):
    line.proxy.answer_500(times=2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="500"):
            line.store.insert_rows("btc", ROWS)
        assert line.store.query("SELECT 1") == [(1,)]
    line.store.insert_rows("btc", ROWS)
    assert line.stored() == ROWS


def test_an_insert_has_less_time_than_a_query(line):
    slow = "SELECT sleep(1.5)"
    with open_server(line.url, Patience(connect_s=5, insert_s=0.3, query_s=100)) as store:
        assert store.query(slow) == [(0,)]
        with pytest.raises(StoreUnavailable, match="timed out"), hurried():
            store.query(slow)
        with line.front.holding_inserts():
            thread, errors = in_a_thread(lambda: store.insert_rows("btc", ROWS))
            wait_for(lambda: errors)
        thread.join()
        assert "timed out" in errors[0].what


def test_the_time_of_one_thread_is_not_that_of_another(line):
    with open_server(line.url, Patience(connect_s=5, insert_s=0.1, query_s=100)) as store, hurried():
        thread, errors = in_a_thread(lambda: store.query("SELECT sleep(1)"))
        thread.join()
    assert errors == []


# what would fail again


def test_an_insert_is_not_sent_after_a_redirect_without_its_rows(line):
    line.front.moved_to = f"http://127.0.0.1:{line.front.port}"
    line.front.requests.clear()
    with pytest.raises(StatementRefused, match=r"insert into btc: .*301.*https"):
        line.store.insert_rows("btc", ROWS)
    assert len(line.front.requests) == 1


def test_a_server_behind_a_redirect_is_refused_when_it_is_opened(line):
    with HttpFront(line.embedded) as elsewhere:
        elsewhere.moved_to = line.url
        with pytest.raises(StatementRefused, match=r"301.*https"):
            open_store(f"http://127.0.0.1:{elsewhere.port}")


@pytest.mark.parametrize(
    ("status", "family"),
    [(500, StoreUnavailable), (502, StoreUnavailable), (503, StoreUnavailable), (504, StoreUnavailable),
     (404, StoreUnavailable), (408, StoreUnavailable), (429, StoreUnavailable),
     (400, StatementRefused), (401, StatementRefused), (403, StatementRefused), (405, StatementRefused),
     (413, StatementRefused)],
)  # fmt: skip
def test_what_stands_before_the_server_is_sorted_by_its_status(line, status, family):
    line.front.refuse_with = (status, 0, "<html>something in between</html>")
    with pytest.raises(family, match=f"insert into btc: .*{status}"):
        line.store.insert_rows("btc", ROWS)
    assert len(line.front.inserts) == 1


TRANSIENT = [3, 95, 96, 97, 159, 160, 173, 198, 201, 202, 203, 209, 210, 216, 225, 236, 241, 242, 252, 254,
             279, 285, 286, 290, 319, 373, 394, 410, 411, 425, 439, 473, 499, 667, 733, 745, 762, 999,
             1000, 1001, 1002, 75, 204, 243, 294]  # fmt: skip
PERMANENT = [7, 16, 20, 27, 33, 36, 40, 41, 43, 46, 47, 49, 50, 53, 57, 60, 62, 73, 81, 115, 117, 164, 192,
             193, 195, 321, 349, 392, 452, 469, 497, 516, 691, 720, 774]  # fmt: skip


def sorted_by(code: int, *, server: bool) -> type[MexcflowError]:
    with pytest.raises(MexcflowError) as caught, translated("insert into btc", server=server):
        raise DatabaseError(f"Code: {code}. DB::Exception: What it says. (ITS_NAME)", code=code)
    assert f"Code: {code}." in caught.value.what
    return type(caught.value)


@pytest.mark.parametrize("cause", [ConnectionRefusedError, ConnectionResetError, TimeoutError])
def test_an_owner_that_has_gone_is_told_from_a_server_that_is_away(cause):
    for server in (False, True):
        with pytest.raises(StoreUnavailable) as caught, translated("insert into btc", server=server):
            raise OperationalError("wrapped") from cause("what it says")
        assert (type(caught.value) is OwnerGone) == (not server and cause is not TimeoutError)


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_server_that_is_unwell_is_asked_again(code):
    assert sorted_by(code, server=True) is StoreUnavailable


@pytest.mark.parametrize("code", PERMANENT)
def test_what_a_server_would_refuse_again_is_not_repeated(code):
    assert sorted_by(code, server=True) is StatementRefused
    assert sorted_by(code, server=False) is StatementRefused


@pytest.mark.parametrize("code", [75, 76, 107, 204, 243, 294, 1001])
def test_our_own_full_disk_stops_us(code):
    assert sorted_by(code, server=False) is DiskFailed


@pytest.mark.parametrize("code", [3, 425, 1000, 1002])
def test_what_only_a_network_makes_passing_is_permanent_in_our_own_process(code):
    assert sorted_by(code, server=False) is StatementRefused
