"""What the store knows of an INSERT without an answer: the table's state, and whether it still runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mexcflow.errors import StatementRefused, StoreUnavailable
from mexcflow.store import Store, TableState, ensure_table, insert_running, open_store, table_state
from mexcflow.store.stripelog import read_index
from tests.conftest import wait_for
from tests.endpoints import answering
from tests.http_front import HttpFront

ROW = (1700000000123, "d", "84055|3|1")
STATE_IN_A_NEW_PROCESS = """
import sys
from mexcflow.store import open_store, table_state
with open_store(sys.argv[1]) as store:
    for step in sys.argv[2:]:
        if step == "insert":
            store.insert_rows("btc", [(1700000000123, "d", "x")] * 7)
        else:
            print(table_state(store, "btc"))
"""


@pytest.fixture
def embedded(tmp_path) -> Iterator[Store]:
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        yield store


@pytest.fixture
def front(embedded) -> Iterator[HttpFront]:
    with HttpFront(embedded) as front:
        yield front


@pytest.fixture
def server(front) -> Iterator[Store]:
    with open_store(f"http://127.0.0.1:{front.port}") as store:
        yield store


@pytest.fixture
def hasty(front) -> Iterator[Store]:
    """The same server, for statements that are to be given up."""
    with open_store(f"http://127.0.0.1:{front.port}", timeout_s=1) as store:
        yield store


@pytest.fixture
def endpoint(embedded) -> Iterator[Store]:
    """The project's own endpoint, with nothing between us and it."""
    with answering(embedded) as store:
        yield store


@pytest.fixture(params=["embedded", "server", "endpoint"])
def store(request) -> Store:
    return request.getfixturevalue(request.param)


# the state of a table


def test_the_state_is_the_exact_number_of_rows_after_each_insert(store):
    assert table_state(store, "btc").rows == 0
    for rows in (1, 100, 1, 5000):
        before = table_state(store, "btc")
        store.insert_rows("btc", [ROW] * rows)
        assert table_state(store, "btc") == (before.uuid, before.rows + rows)
    assert store.query("SELECT count() FROM mexc_data.btc") == [(5102,)]


def test_an_emptied_table_is_the_same_and_has_no_rows(store):
    store.insert_rows("btc", [ROW] * 3)
    before = table_state(store, "btc")
    store.command("TRUNCATE TABLE mexc_data.btc")
    assert table_state(store, "btc") == (before.uuid, 0)


def test_a_table_that_was_made_anew_is_another_one(store):
    store.insert_rows("btc", [ROW] * 3)
    before = table_state(store, "btc")
    store.command("DROP TABLE mexc_data.btc SYNC")
    assert table_state(store, "btc") is None
    ensure_table(store, "btc")
    store.insert_rows("btc", [ROW] * 3)
    after = table_state(store, "btc")
    assert after.rows == before.rows
    assert after.uuid != before.uuid


def test_tables_that_changed_places_are_told_apart(store):
    ensure_table(store, "eth")
    store.insert_rows("btc", [ROW] * 2)
    store.insert_rows("eth", [ROW] * 5)
    btc, eth = table_state(store, "btc"), table_state(store, "eth")
    store.command("EXCHANGE TABLES mexc_data.btc AND mexc_data.eth")
    assert (table_state(store, "btc"), table_state(store, "eth")) == (eth, btc)


def test_a_table_that_never_was_has_no_state(store):
    assert table_state(store, "no_such_table") is None
    assert table_state(store, "it's `odd`\\") is None


def test_a_view_whose_rows_nobody_counts_is_refused(store):
    with pytest.raises(StatementRefused, match="btc_deals are not counted"):
        table_state(store, "btc_deals")


@pytest.mark.parametrize("steps", [("look",), ("look", "insert", "look"), ("insert", "look")])
def test_a_new_process_knows_the_rows_whatever_it_does_first(tmp_path, steps):
    with open_store(str(tmp_path)) as store:
        ensure_table(store, "btc")
        store.insert_rows("btc", [ROW] * 11)
        uuid = table_state(store, "btc").uuid
    ran = subprocess.run(
        [sys.executable, "-c", STATE_IN_A_NEW_PROCESS, str(tmp_path), *steps],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = 11
    expected = []
    for step in steps:
        if step == "look":
            expected.append(str(TableState(uuid, rows)))
        rows += 7 * (step == "insert")
    assert ran.stdout.splitlines() == expected


def test_a_server_that_restarted_is_made_to_count_again(tmp_path):
    states = []
    for _ in range(2):
        with open_store(str(tmp_path)) as embedded, HttpFront(embedded) as front:
            ensure_table(embedded, "btc")
            with open_store(f"http://127.0.0.1:{front.port}") as store:
                states.append(table_state(store, "btc"))
                store.insert_rows("btc", [ROW] * 4)
    assert [state.rows for state in states] == [0, 4]
    assert states[0].uuid == states[1].uuid


def test_the_state_is_one_request_as_a_rule(front, server):
    server.insert_rows("btc", [ROW])
    front.requests.clear()
    assert table_state(server, "btc").rows == 1
    assert len(front.requests) == 1


def test_an_empty_answer_does_not_mean_that_there_is_no_table(front, server):
    front.refuse_with = (200, 0, "")
    with pytest.raises(StoreUnavailable, match="empty answer about table btc"):
        table_state(server, "btc")


# one INSERT, one block


def blocks(folder: Path) -> list[tuple[int, int]]:
    """Rows and blocks of each INSERT of a table."""
    inserts = read_index((folder / "index.mrk").read_bytes())
    return [(insert.rows, len(insert.columns) // 3) for insert in inserts]


@pytest.fixture
def small_blocks(embedded, front) -> None:
    """A profile that cuts whatever is inserted into small blocks."""
    front.profile = {
        "max_insert_block_size": "1000",
        "min_insert_block_size_rows": "1000",
        "min_insert_block_size_bytes": "100000",
        "min_chunk_bytes_for_parallel_parsing": "100000",
    }
    for setting, value in front.profile.items():
        embedded.command(f"SET {setting} = {value}")


@pytest.mark.parametrize(
    ("rows", "text"), [(1, "x"), (10_000, "x" * 20), (300_000, "x" * 20), (300_000, "x" * 95)]
)
def test_an_insert_is_one_block_whatever_the_profile_says(small_blocks, embedded, store, rows, text):
    store.insert_rows("btc", [(1700000000123, "d", text)] * rows)
    assert blocks(embedded.table_folder("btc")) == [(rows, 1)]


@pytest.mark.parametrize("kind", ["embedded", "server"])
def test_that_profile_makes_many_blocks_of_an_insert_that_does_not_care(
    request, small_blocks, embedded, kind
):
    client = request.getfixturevalue(kind)._client
    client.raw_insert("mexc_data.btc", insert_block=b"1700000000123\td\tx\n" * 10_000, fmt="TSV")
    [(rows, many)] = blocks(embedded.table_folder("btc"))
    assert rows == 10_000
    assert many > 1


# an INSERT whose client went away


def test_an_insert_that_outlives_its_client_is_seen_until_it_ends(front, server, hasty):
    before = table_state(server, "btc")
    with front.holding_inserts():
        with pytest.raises(StoreUnavailable, match="insert into btc"):
            hasty.insert_rows("btc", [ROW] * 3, query_id="batch-1")
        assert insert_running(server, ["batch-1"])
        assert insert_running(server, ["batch-0", "batch-1"])
        assert not insert_running(server, ["batch-0"])
        assert table_state(server, "btc") == before  # and it would be wrong to believe it
    wait_for(lambda: not insert_running(server, ["batch-1"]))
    assert table_state(server, "btc") == (before.uuid, before.rows + 3)
    [insert] = front.inserts
    assert insert["query_id"] == "batch-1"
    assert insert["input_format_parallel_parsing"] == "0"


def test_asking_for_an_insert_leaves_it_alone(front, server, hasty):
    with front.holding_inserts():
        with pytest.raises(StoreUnavailable):
            hasty.insert_rows("btc", [ROW] * 3, query_id="batch-1")
        assert insert_running(server, ["batch-1"])
        asked, _ = front.requests[-1]
        assert asked["replace_running_query"] == "0"


def test_the_same_batch_cannot_run_twice_at_once(front, server, hasty):
    with front.holding_inserts():
        with pytest.raises(StoreUnavailable):
            hasty.insert_rows("btc", [ROW] * 3, query_id="batch-1")
        with pytest.raises(StoreUnavailable, match="already running"):
            hasty.insert_rows("btc", [ROW] * 3, query_id="batch-1")
    wait_for(lambda: not insert_running(server, ["batch-1"]))
    assert table_state(server, "btc").rows == 3


def test_a_server_that_is_away_says_nothing_about_its_inserts(front, server):
    front.refuse_with = (500, 202, "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY)")
    with pytest.raises(StoreUnavailable, match="Code: 202"):
        insert_running(server, ["batch-1"])
    front.refuse_with = (403, 516, "Code: 516. DB::Exception: Wrong. (AUTHENTICATION_FAILED)")
    with pytest.raises(StatementRefused, match="Code: 516"):
        insert_running(server, ["batch-1"])


def test_without_an_id_nothing_is_asked(front, server, embedded):
    front.requests.clear()
    assert not insert_running(server, [])
    assert not insert_running(server, [""])
    assert front.requests == []
    assert not insert_running(embedded, ["batch-1"])


def test_the_embedded_engine_takes_an_insert_with_an_id(embedded):
    embedded.insert_rows("btc", [ROW] * 2, query_id="batch-1")
    embedded.insert_rows("btc", [ROW] * 2, query_id="batch-1")
    assert table_state(embedded, "btc").rows == 4
