"""Inserts into typed tables: once for a token, replaced by key, each character as it went in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mexcflow.errors import StatementRefused, StoreUnavailable
from mexcflow.store import ensure_table, open_store
from mexcflow.store.coverage import COVERAGE, Interval, State, read_intervals, write_intervals
from mexcflow.store.typed import insert_typed
from tests.endpoints import either
from tests.http_front import HttpFront

T0 = 1_790_000_000_123


@pytest.fixture
def embedded(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        ensure_table(store, "btc")
        yield store


@pytest.fixture(params=["embedded", "endpoint"])
def store(request, embedded):
    yield from either(request.param, embedded)


def interval(
    from_ms=T0, to_ms=T0 + 1000, *, channel="deal", state=State.LIVE, frames=1, updated=0, reason=""
):
    return Interval(
        "mexc", "BTC_USDT", channel, from_ms, to_ms, state, reason, frames, 2 * frames, "run1", "host1",
        updated_ms=updated or to_ms,
    )  # fmt: skip


def read(store):
    return read_intervals(store, "mexc", "BTC_USDT")


def count(store):
    return store.query(f"SELECT count() FROM {COVERAGE}")[0][0]


def test_the_same_token_again_changes_nothing_also_after_the_database_was_closed(tmp_path):
    location = str(tmp_path / "data")
    with open_store(location) as store:
        ensure_table(store, "btc")
        write_intervals(store, [interval(frames=1)], token="batch-1")
        write_intervals(store, [interval(frames=1)], token="batch-1")
        write_intervals(store, [interval(T0 + 5000, T0 + 6000)], token="batch-1")  # whatever its rows are
        assert count(store) == 1
    with open_store(location) as store:
        write_intervals(store, [interval(frames=1)], token="batch-1")
        assert count(store) == 1
        assert read(store) == [interval(frames=1)]


def test_another_token_with_the_same_rows_is_stored_and_replaced_by_its_key(store):
    for token in ("batch-1", "batch-2", "batch-3"):
        write_intervals(store, [interval()], token=token)
    assert read(store) == [interval()]
    store.command(f"OPTIMIZE TABLE {COVERAGE} FINAL")
    assert count(store) == 1


def test_an_interval_that_grew_replaces_what_was_written_before(store):
    write_intervals(store, [interval(to_ms=T0 + 1000, frames=1)], token="1")
    write_intervals(store, [interval(to_ms=T0 + 2000, frames=5)], token="2")
    assert read(store) == [interval(to_ms=T0 + 2000, frames=5)]


def test_an_older_version_that_is_replayed_later_does_not_come_back(store):
    write_intervals(store, [interval(to_ms=T0 + 2000, frames=5)], token="1")
    write_intervals(store, [interval(to_ms=T0 + 1000, frames=1)], token="2")
    assert read(store) == [interval(to_ms=T0 + 2000, frames=5)]


def test_of_equal_versions_the_one_that_was_written_last_counts(store):
    for frames in (1, 3, 2):
        write_intervals(store, [interval(frames=frames)], token=str(frames))
    assert read(store)[0].frames == 2
    begun = interval(T0, T0, channel="", state=State.OUTAGE, updated=T0 + 9)
    ended = interval(T0, T0 + 9, channel="", state=State.OUTAGE, updated=T0 + 9)
    write_intervals(store, [begun, ended], token="both in one INSERT")
    assert ended in read(store)
    assert begun not in read(store)


def test_a_shorter_interval_that_is_newer_counts(store):
    write_intervals(store, [interval(to_ms=T0 + 30_000)], token="1")
    closed = interval(to_ms=T0 + 500, updated=T0 + 31_000)
    write_intervals(store, [closed], token="2")
    assert read(store) == [closed]


def test_intervals_of_other_keys_stay_side_by_side_and_come_by_their_beginning(store):
    mine = [
        interval(T0, channel="deal"),
        interval(T0, channel="depth"),
        interval(T0 + 10, channel="depth", state=State.GAP, reason="backwards: sequence 3 after 7"),
        interval(T0 + 1000, T0 + 1000, channel="", state=State.OUTAGE, reason="connection lost"),
    ]
    other = Interval("mexc", "ETH_USDT", "deal", T0, T0, State.LIVE, "", 1, 1, "run1", "host1", T0)
    write_intervals(store, [mine[2], other, *mine[:2], mine[3]], token="1")
    assert read(store) == mine
    assert read_intervals(store, "mexc", "ETH_USDT") == [other]
    assert read_intervals(store, "mexc", "BTC_USDC") == []


def test_the_view_has_each_interval_once_with_its_length(store):
    write_intervals(store, [interval(to_ms=T0 + 1000)], token="1")
    ongoing = interval(T0 + 2500, T0 + 2500, channel="", state=State.OUTAGE)
    write_intervals(store, [interval(to_ms=T0 + 2500), ongoing], token="2")
    (live, outage) = store.query(
        "SELECT channel, seconds, state FROM market_data.coverage_now ORDER BY `from`"
    )
    assert live == ("deal", 2.5, "live")
    ((until_now,),) = store.query(f"SELECT toUnixTimestamp64Milli(now64(3)) - {ongoing.from_ms}")
    assert outage[1] == pytest.approx(until_now / 1000, abs=60)


def test_without_a_table_of_coverage_there_is_nothing_to_read(tmp_path):
    with open_store(str(tmp_path / "empty")) as store:
        assert read(store) == []


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=20, deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 2**64 - 1), st.integers(0, 10**13 - 1))
def test_any_text_number_and_time_come_back(reason, host, frames, at_ms):
    with open_store(SHARED) as store:
        ensure_table(store, "btc")
        store.command(f"TRUNCATE TABLE {COVERAGE}")
        one = Interval("mexc", "X", "deal", at_ms, at_ms, State.GAP, reason, frames, 0, "", host, at_ms)
        write_intervals(store, [one], token="")
        assert read_intervals(store, "mexc", "X") == [one]


@pytest.fixture(autouse=True, scope="module")
def shared(tmp_path_factory):
    global SHARED
    SHARED = str(tmp_path_factory.mktemp("typed") / "data")


def test_null_is_null_and_a_text_like_it_is_not(store):
    store.command("CREATE TABLE market_data.t (a Nullable(String), b Int64) ENGINE = MergeTree ORDER BY b")
    insert_typed(store, "market_data.t", ["b", "a"], [[1, None], [2, "\\N"], [-3, "\t\n\n"]])
    assert store.query("SELECT a, b FROM market_data.t ORDER BY b") == [("\t\n\n", -3), (None, 1), ("\\N", 2)]


@pytest.mark.parametrize("value", [1.5, True, b"bytes", ["list"]])
def test_what_could_be_stored_as_something_else_is_refused_here(store, value):
    with pytest.raises(StatementRefused, match="cannot be stored"):
        insert_typed(store, COVERAGE, ["reason"], [["fine"], [value]])
    with pytest.raises(StatementRefused, match=r"row 1 .* has 2 values for 1 columns"):
        insert_typed(store, COVERAGE, ["reason"], [["fine"], ["a", "b"]])
    assert count(store) == 0


def test_a_row_that_the_engine_refuses_takes_its_insert_with_it_and_the_token_stays_free(store):
    columns = ["channel", "from", "to", "state", "updated"]
    good = ["deal", T0, T0, "live", T0]
    with pytest.raises(StatementRefused, match=r"insert into market_data\.coverage: Code: "):
        insert_typed(store, COVERAGE, columns, [good, ["deal", T0, T0, "nonsense", T0]], token="1")
    assert count(store) == 0
    insert_typed(store, COVERAGE, columns, [good], token="1")
    assert count(store) == 1


def test_no_rows_is_no_insert(store):
    insert_typed(store, "market_data.no_such_table", ["a"], [], token="1")
    write_intervals(store, [], token="1")
    write_intervals(store, [interval()], token="1")
    assert count(store) == 1


def test_a_server_gets_the_token_and_no_asynchronous_insert_and_each_body_once(embedded):
    with HttpFront(embedded) as front, open_store(f"http://127.0.0.1:{front.port}") as server:
        write_intervals(server, [interval(reason="two\nlines")], token="batch-7")
        assert read(server) == [interval(reason="two\nlines")]
        (sent,) = [
            parameters
            for parameters, body in front.requests
            if "INSERT" in parameters.get("query", "") or body.startswith(b"INSERT")
        ]
        assert (sent["insert_deduplication_token"], sent["async_insert"]) == ("batch-7", "0")
        front.requests.clear()
        front.hangs_up = True
        with pytest.raises(StoreUnavailable):
            write_intervals(server, [interval()], token="batch-8")
        assert len(front.requests) == 1
