"""Decode and insert: every frame is counted once, every row is in the table once, errors are sorted."""

import gzip
import time
from pathlib import Path

import pytest

from mexcflow.errors import DiskFailed, ForeignRows, OwnerGone, StatementRefused, StoreUnavailable
from mexcflow.exchanges.mexc import Mexc
from mexcflow.model import Frame
from mexcflow.pipeline import disk, table
from mexcflow.pipeline.decode import decode
from tests.conftest import wait_for
from tests.inserting import ACK, ALL, T_MS, Inserting, deal

GONE = StoreUnavailable("gone")


def finish(one: Inserting) -> None:
    """Stop in order, and leave the database open to look at."""
    one.inserter.close()
    one.thread.join(10)
    assert one.error is None


@pytest.fixture
def inserting(tmp_path):
    made: list[Inserting] = []

    def make(**settings: float) -> Inserting:
        made.append(Inserting(tmp_path, **settings))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


def test_the_tally_adds_up_over_every_kind_of_frame():
    frames = [
        deal(1),
        deal(2),
        ACK,
        b'{"channel":"pong"}',
        b'{"channel":"rs.error","data":"no"}',
        b'{"symbol":"BTC_USDT","data":[],"channel":"push.deal","ts":1}',
        b"garbage",
        deal(3, symbol="ETH_USDT"),
        gzip.compress(deal(4)),
    ]
    batch = decode(Mexc("BTC_USDT", ("deal",)), [Frame((T_MS + 10) * 1_000_000, one) for one in frames])
    tally = batch.tally
    assert (
        tally.frames
        == len(frames)
        == (
            tally.messages.total()
            + tally.acks
            + tally.pongs
            + tally.exchange_errors
            + tally.skipped
            + tally.dead_letters
        )
    )
    assert (tally.messages["deal"], tally.acks, tally.pongs, tally.exchange_errors) == (3, 1, 1, 1)
    assert (tally.skipped, tally.dead_letters, tally.errors, tally.rows) == (1, 2, 1, 5)
    assert tally.rows == len(batch.rows)
    assert sorted(tally.lags_ms.elements()) == [6, 8, 9]  # receive time minus event time
    assert [mt for _, mt, _ in batch.rows] == ["d", "d", "dl", "dl", "d"]


def test_rows_leave_when_the_interval_ends_and_not_before(inserting):
    one = inserting(flush_interval_s=0.6)
    store = one.store
    one.send(deal(0))
    wait_for(lambda: store.batches == [1])
    one.send(deal(1))
    one.send(deal(2))
    time.sleep(0.2)
    assert store.batches == [1]
    one.send(deal(3))
    wait_for(lambda: store.batches == [1, 3])


def test_a_quiet_feed_still_gets_its_last_row_stored(inserting):
    one = inserting(flush_interval_s=0.1)
    store = one.store
    time.sleep(0.3)
    one.send(deal(7))
    wait_for(lambda: store.prices == [7])


def test_an_interval_of_nothing_inserts_at_once(inserting):
    one = inserting(flush_interval_s=0)
    store = one.store
    for number in range(5):
        one.send(deal(number))
        wait_for(lambda number=number: store.prices == list(range(number + 1)), seconds=0.9)


def test_a_full_batch_does_not_wait_for_the_interval(inserting):
    one = inserting(flush_interval_s=60, batch_frames=10)
    store = one.store
    time.sleep(0.2)  # the first flush is due at once
    one.send(*map(deal, range(25)))
    wait_for(lambda: store.prices == list(range(25)))
    assert store.batches == [10, 10, 5]


def test_closing_stores_what_is_left_whatever_the_interval(inserting):
    one = inserting(flush_interval_s=60)
    store = one.store
    time.sleep(0.2)
    one.send(*map(deal, range(3)))
    finish(one)
    assert store.prices == [0, 1, 2]
    assert one.journal.backlog == 0


def test_a_database_that_comes_back_gets_every_row_once_and_in_order(inserting):
    one = inserting(faults=[("before", GONE)] * 4, flush_interval_s=0.05)
    store = one.store
    for number in range(60):
        one.send(deal(number))
        time.sleep(0.02)
    finish(one)
    assert store.prices == list(range(60))
    assert one.total.errors == 4
    assert one.total.rows == one.total.messages["deal"] == 60
    assert store.tries[:5] == [store.tries[0]] * 5  # the same batch, unchanged


@pytest.mark.parametrize(("times", "errors"), [(1, 0), (3, 2)])
def test_a_data_folder_that_changes_hands_is_no_error_unless_it_takes_more_than_one_attempt(
    inserting, caplog, times, errors
):
    one = inserting(faults=[("before", OwnerGone("gone"))] * times, flush_interval_s=0.05)
    one.send(deal(1))
    wait_for(lambda: one.store.prices == [1])
    assert one.total.errors == errors
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == errors


def test_nothing_counts_as_appended_before_the_table_has_it(inserting):
    one = inserting(faults=[("before", GONE)] * 1000, flush_interval_s=0.05)
    one.send(deal(1))
    wait_for(lambda: one.total.errors >= 2)
    assert one.total.rows == one.total.frames == 0
    assert one.journal.backlog == 1


def test_giving_up_raises_the_last_error_and_keeps_the_frames(inserting):
    one = inserting(faults=[("before", GONE)] * 1000, flush_interval_s=0.05)
    one.send(deal(1))
    one.inserter.close()
    wait_for(lambda: one.total.errors >= 2)
    one.inserter.give_up()
    one.thread.join(5)
    assert isinstance(one.error, StoreUnavailable)
    assert one.journal.backlog == 1


@pytest.mark.parametrize(("interval_s", "synced"), [(0, [1, 2, 3, 3]), (3600, [3]), (float("inf"), [])])
def test_files_are_forced_to_the_disk_as_often_as_was_asked_and_at_the_end(inserting, interval_s, synced):
    one = inserting(flush_interval_s=0, sync_interval_s=interval_s)
    store = one.store
    for number in range(3):
        one.send(deal(number))
        wait_for(lambda number=number: store.batches == [1] * (number + 1))
    finish(one)
    assert store.synced == synced


def test_a_permanent_error_stops_at_once(inserting):
    one = inserting(faults=[("before", StatementRefused("wrong schema"))], flush_interval_s=0.05)
    store = one.store
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, StatementRefused)
    assert len(store.tries) == 1


def tables(store) -> list[str]:
    return [name for (name,) in store.query("SELECT name FROM system.tables WHERE engine = 'StripeLog'")]


def test_a_disk_that_is_nearly_full_is_not_written_to(inserting):
    one = inserting(flush_interval_s=0.05, min_free_bytes=10**18)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert one.error.exit_code == 74
    assert one.store.tries == []
    assert tables(one.store) == []


def test_some_room_is_left_whatever_was_asked_for(inserting, monkeypatch):
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 10**18)
    one = inserting(flush_interval_s=0.05, min_free_bytes=0)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert one.store.tries == []


def test_a_write_that_the_disk_did_not_take_stops_the_run_and_the_next_one_makes_it_good(inserting):
    one = inserting(flush_interval_s=0, batch_frames=1)
    one.store.tears_after = 3  # the engine says that all is well
    one.send(*map(deal, range(5)))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert "data.bin" in str(one.error)
    one.close()
    two = inserting(flush_interval_s=0)
    two.send(deal(5))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == list(range(6))


def test_the_table_is_made_when_the_exchange_has_accepted_the_symbol(inserting):
    one = inserting(flush_interval_s=0.05)
    one.send(b'{"channel":"rs.error","data":"Contract [BTC_USDT] not exists"}', b'{"channel":"pong"}')
    wait_for(lambda: one.total.frames == 2)
    assert tables(one.store) == []
    one.send(ACK)
    wait_for(lambda: tables(one.store) == ["btc"])
    assert one.store.tries == []
    one.send(deal(1))
    wait_for(lambda: one.store.prices == [1])


def test_into_the_real_engine_every_row_is_there_once(inserting):
    one = inserting(flush_interval_s=0, batch_frames=7)
    one.send(*[deal(number) for number in range(100)], b"bad\ttab\nline")
    wait_for(lambda: one.journal.drained)
    rows = one.store.query(ALL)
    one.end()
    expected = [(T_MS + number, "d", f"{number}|1|1") for number in range(100)]
    assert rows == [*expected, (T_MS, "dl", "bad\ttab\nline")]


# ---- an INSERT whose outcome is not known


def test_an_insert_whose_answer_never_came_is_not_sent_again(inserting):
    one = inserting(faults=[("after", GONE)], flush_interval_s=0.05)
    one.send(*map(deal, range(5)))
    wait_for(lambda: one.journal.drained)
    assert one.store.prices == list(range(5))
    assert len(one.store.tries) == 1
    assert one.total.rows == 5


def test_answers_that_never_came_and_inserts_that_never_arrived_mixed(inserting):
    faults = [(when, GONE) for when in ("before", "after", "before", "before", "after", "after")]
    one = inserting(faults=faults, flush_interval_s=0, batch_frames=3)
    one.send(*map(deal, range(30)))
    wait_for(lambda: one.journal.drained, seconds=20)
    assert one.store.prices == list(range(30))
    assert one.store.faults == []


def test_all_attempts_of_a_batch_have_one_name(inserting):
    one = inserting(faults=[("before", GONE)] * 3, flush_interval_s=0, batch_frames=2)
    one.send(*map(deal, range(4)))
    wait_for(lambda: one.journal.drained, seconds=20)
    assert one.store.query_ids == [one.store.query_ids[0]] * 4 + [one.store.query_ids[4]]
    assert one.store.query_ids[0] != one.store.query_ids[4]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_ends_with_a_batch_in_doubt_leaves_it_to_the_next(inserting, when):
    one = inserting(faults=[(when, StatementRefused("stop"))], flush_interval_s=0)
    one.send(*map(deal, range(3)))
    one.thread.join(5)
    assert isinstance(one.error, StatementRefused)
    one.close()
    two = inserting(flush_interval_s=0)
    two.send(deal(3))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == [0, 1, 2, 3]
    assert len(two.store.tries) == (2 if when == "before" else 1)
    assert two.total.recovered_frames == 3
    two.end()


def test_a_batch_in_doubt_of_a_table_that_was_dropped_goes_into_the_new_one(inserting):
    one = inserting(faults=[("after", StatementRefused("stop"))], flush_interval_s=0)
    one.send(*map(deal, range(3)))
    one.thread.join(5)
    one.store.command("DROP TABLE mexc_data.btc SYNC")
    one.close()
    two = inserting(flush_interval_s=0)
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == [0, 1, 2]
    two.end()


def test_a_batch_in_doubt_stays_in_its_table_when_the_next_run_has_another(inserting):
    one = inserting(faults=[("after", StatementRefused("stop"))], flush_interval_s=0)
    one.send(*map(deal, range(3)))
    one.thread.join(5)
    one.close()
    two = inserting(flush_interval_s=0, table="other")
    two.send(deal(3))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == [0, 1, 2]
    assert two.store.query("SELECT m FROM mexc_data.other") == [("3|1|1",)]
    two.end()


# ---- somebody else's rows, and rows that are gone


def insert_by_hand(one: Inserting) -> None:
    one.store.command("INSERT INTO mexc_data.btc VALUES ('2026-11-21 12:00:00.000', 'd', '99|1|1')")


def test_a_foreign_row_between_two_runs_is_found_and_named(inserting):
    one = inserting(flush_interval_s=0)
    one.send(*map(deal, range(3)))
    wait_for(lambda: one.journal.drained)
    insert_by_hand(one)
    one.end()
    two = inserting(flush_interval_s=0)
    two.send(deal(3))
    two.thread.join(5)
    assert isinstance(two.error, ForeignRows)
    assert two.error.exit_code == 73
    assert "mexc_data.btc has 4 rows and should have 3" in str(two.error)
    assert two.store.prices == [0, 1, 2, 99]
    two.close()
    three = inserting(flush_interval_s=0, adopt=True)
    wait_for(lambda: three.journal.drained)
    assert three.store.prices == [0, 1, 2, 99, 3]
    three.end()


def test_a_foreign_row_while_recording_is_found(inserting, monkeypatch):
    monkeypatch.setattr(table, "_LOOK_EVERY_S", 0.0)
    one = inserting(flush_interval_s=0)
    one.send(deal(1))
    wait_for(lambda: one.journal.drained)
    insert_by_hand(one)
    one.send(deal(2))
    one.thread.join(5)
    assert isinstance(one.error, ForeignRows)
    assert one.store.prices == [1, 99]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_batch_in_doubt_among_foreign_rows_is_looked_for_when_they_are_adopted(inserting, when):
    one = inserting(faults=[(when, StatementRefused("stop"))], flush_interval_s=0)
    one.send(*map(deal, range(3)))
    one.thread.join(5)
    insert_by_hand(one)
    one.close()
    two = inserting(flush_interval_s=0)
    two.thread.join(5)
    assert isinstance(two.error, ForeignRows)
    two.close()
    three = inserting(flush_interval_s=0, adopt=True)
    wait_for(lambda: three.journal.drained)
    assert three.store.prices == ([99, 0, 1, 2] if when == "before" else [0, 1, 2, 99])
    three.end()


@pytest.mark.parametrize("kept", range(6))
def test_rows_that_a_power_cut_took_from_the_table_come_back_from_the_journal(inserting, tmp_path, kept):
    one = inserting(flush_interval_s=0)
    for number in range(6):
        one.send(deal(2 * number), deal(2 * number + 1))
        wait_for(lambda number=number: len(one.store.batches) == number + 1)
    wait_for(lambda: one.journal.drained)
    one.store.command("CREATE TABLE mexc_data.kept AS mexc_data.btc")
    for batch in range(kept):
        one.store.command(f"INSERT INTO mexc_data.kept SELECT * FROM mexc_data.btc LIMIT {2 * batch}, 2")
    cut_back(tmp_path, one, kept)
    two = inserting(flush_interval_s=0)
    wait_for(lambda: two.journal.drained and len(two.store.prices) == 12)
    two.send(deal(12))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == list(range(13))
    assert two.total.recovered_frames == 12 - 2 * kept
    two.end()


def cut_back(tmp_path: Path, one: Inserting, kept: int) -> None:
    """Put the files of a table with fewer INSERTs in place of the table's own, as a power cut leaves them."""
    folders = {
        name: Path(paths[0])
        for name, paths in one.store.query(
            "SELECT name, data_paths FROM system.tables WHERE database = 'mexc_data' AND engine = 'StripeLog'"
        )
    }
    one.end()
    for file in folders["btc"].iterdir():
        file.unlink()
    if kept:
        for file in folders["kept"].iterdir():
            (folders["btc"] / file.name).write_bytes(file.read_bytes())


def test_a_server_that_comes_back_without_its_newest_rows_gets_them_again_before_any_other(inserting):
    one = inserting(flush_interval_s=0)
    one.store.may_lose_rows_unseen = True  # as a server, which may restart beneath us
    one.send(*map(deal, range(5)))
    wait_for(lambda: one.journal.drained)
    one.store.command("TRUNCATE TABLE mexc_data.btc")
    one.send(deal(5))
    wait_for(lambda: one.journal.drained and len(one.store.prices) == 6)
    assert one.store.prices == list(range(6))


def test_rows_that_are_gone_beyond_the_tail_stop_the_run(inserting, tmp_path):
    one = inserting(flush_interval_s=0)
    one.send(deal(0), deal(1), deal(2))
    wait_for(lambda: one.journal.drained)
    one.store.command("CREATE TABLE mexc_data.kept AS mexc_data.btc")
    one.store.command("INSERT INTO mexc_data.kept SELECT * FROM mexc_data.btc LIMIT 2")
    cut_back(tmp_path, one, 1)  # two rows: not the beginning of any batch
    two = inserting(flush_interval_s=0)
    two.send(deal(3))
    two.thread.join(5)
    assert isinstance(two.error, ForeignRows)
    assert "has 2 rows and should have 3" in str(two.error)
    two.close()
    three = inserting(flush_interval_s=0, adopt=True)
    wait_for(lambda: three.journal.drained)
    assert three.store.prices == [0, 1, 3]
    three.end()
