"""Rebuild: the table is what its frames decode to, and no row is lost or doubled on the way there."""

import contextlib
import dataclasses
import re
import sys
from pathlib import Path

import pytest

from mexcflow.config import Instance
from mexcflow.errors import DiskFailed, Misuse, Permanent, SchemaMismatch, StreamInUse
from mexcflow.exchanges.mexc import Mexc
from mexcflow.journal.retention import decompressed, list_archive
from mexcflow.ops.rebuild import RebuildSettings, rebuild
from mexcflow.ops.remake import BEFORE, BEHIND, GONE
from mexcflow.ops.rowdiff import Difference
from mexcflow.store import ensure_table, open_store, table_state
from tests.http_front import HttpFront
from tests.recording import (
    PONG,
    T_MS,
    Blind,
    Broken,
    Doubling,
    append,
    deal,
    deals,
    good,
    insert,
    journal_of,
    killed_before_its_insert,
    leave_in_doubt,
    made_again,
    open_journal,
    record,
    rows_in,
    statement,
    stored,
    tables,
    wrong,
)
from tests.torn import shorter, state, table_in

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


def archive(data: Path) -> list[Path]:
    return [one.path for one in list_archive(journal_of(data))]


def maps(data: Path) -> list[Path]:
    return sorted((journal_of(data) / "archive").glob("*.rows.zst"))


def damage(path: Path, what: bytes) -> None:
    """Flip a bit of a record that is in the archive."""
    raw = bytearray(decompressed(path))
    assert raw.count(what) == 1
    raw[raw.index(what)] ^= 1
    path.write_bytes(zstd.compress(bytes(raw)))


def segment_with(data: Path, frame: bytes) -> Path:
    (found,) = [path for path in archive(data) if frame in decompressed(path)]
    return found


# the same


def test_a_table_that_is_what_its_frames_decode_to_is_left_alone(data):
    record(data, deals(200))
    record(data, [PONG, *deals(200, 400), PONG])
    assert len(archive(data)) > 5
    files, journal = state(table_in(data)), state(journal_of(data))
    report = made_again(data)
    assert report.same
    assert not report.swapped
    assert (report.remade.frames, report.batches_equal, report.batches_different) == (402, 41, 0)
    assert (report.remade.kept, report.differences, report.left) == ([], [], None)
    assert report.old == report.new == {"t": 0, "d": 400, "dp": 0, "dl": 0}
    assert tables(data) == {"btc"}
    assert state(table_in(data)) == files
    assert {**state(journal_of(data)), "lock": 0} == {**journal, "lock": 0}


def test_quotes_tabs_and_dead_letters_are_the_same_when_they_are(data):
    record(data, [b"it's\t\n\\ not JSON", b"\xff\x00 neither", b"'", *deals(3)])
    report = made_again(data)
    assert report.same
    assert report.old == {"t": 0, "d": 3, "dp": 0, "dl": 3}
    assert report.remade.dead_letters == 3


# another decoder


def test_what_a_broken_decoder_stored_is_found_and_changed_only_on_request(data):
    record(data, deals(100))
    record(data, deals(100, 150), decoder=Broken)
    record(data, deals(150, 170))
    report = made_again(data)
    assert not report.same
    assert (report.batches_equal, report.batches_different) == (12, 5)
    assert report.differences == [
        Difference(row, old, new)
        for row, old, new in zip(range(100, 105), wrong(100, 105), good(100, 105), strict=True)
    ]
    assert report.left == "mexc_data.btc_rebuilt"
    assert rows_in(data) == [*good(100), *wrong(100, 150), *good(150, 170)]
    assert rows_in(data, "btc_rebuilt") == good(170)
    report = made_again(data, swap=True)
    assert report.dropped
    assert report.swapped
    assert rows_in(data) == good(170)
    assert rows_in(data, "btc_rebuilt") == [*good(100), *wrong(100, 150), *good(150, 170)]
    with open_store(str(data)) as store:
        assert store.query("SELECT sum(quantity), count() FROM mexc_data.btc_deals") == [(170.0, 170)]


@pytest.mark.parametrize("decoder", [Blind, Doubling])
def test_rows_that_were_missed_and_rows_too_many(data, decoder):
    record(data, deals(35))
    record(data, deals(35, 60), decoder=decoder)
    record(data, deals(60, 90))
    before = rows_in(data)
    assert len(before) == (65 if decoder is Blind else 115)
    report = made_again(data, swap=True)
    assert report.batches_different == 3
    first = report.differences[0]
    if decoder is Blind:
        assert (first.row, first.old, first.new) == (35, None, good(35, 36)[0])
    else:
        assert (first.row, first.old, first.new) == (36, *good(35, 36), *good(36, 37))
    assert rows_in(data) == good(90)
    assert rows_in(data, "btc_rebuilt") == before


def test_after_a_swap_recording_goes_on_and_a_later_rebuild_still_lines_up(data):
    record(data, deals(50), decoder=Broken)
    made_again(data, swap=True)
    record(data, deals(50, 90), decoder=Doubling)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    report = made_again(data, swap=True)
    assert (report.batches_equal, report.batches_different, report.remade.kept) == (5, 4, [])
    assert rows_in(data) == good(90)
    record(data, deals(90, 120), decoder=Blind)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    report = made_again(data, swap=True, decoder=Broken)
    assert (report.batches_equal, report.batches_different, report.remade.kept) == (0, 12, [])
    assert rows_in(data) == wrong(120)
    assert len(maps(data)) == 2  # that of the table, and that of the one beside it
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    assert made_again(data, decoder=Broken).same
    assert len(maps(data)) == 2  # the journal still knows the table that is gone
    record(data, deals(120, 121), decoder=Broken)
    assert made_again(data, decoder=Broken).same
    assert len(maps(data)) == 1


def test_the_old_table_can_be_had_back_by_hand_and_then_lines_up_as_before(data):
    record(data, deals(50), decoder=Broken)
    made_again(data, swap=True)
    statement(data, "EXCHANGE TABLES mexc_data.btc AND mexc_data.btc_rebuilt")
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    record(data, deals(50, 70), decoder=Broken)
    assert made_again(data, decoder=Broken).same
    report = made_again(data, swap=True)
    assert (report.batches_different, report.remade.kept) == (7, [])
    assert rows_in(data) == good(70)


# what is not kept as frames


def test_rows_from_before_the_archive_are_kept(data):
    record(data, deals(200), decoder=Broken)
    record(data, deals(200, 230), decoder=Broken)
    for path in archive(data)[:3]:
        path.unlink()
    report = made_again(data, swap=True)
    (kept,) = report.remade.kept
    assert (kept.row, kept.reason) == (0, BEFORE)
    assert 0 < kept.rows < 150
    assert rows_in(data) == [*wrong(kept.rows), *good(kept.rows, 230)]


def test_a_hole_in_the_middle_is_copied_and_the_rest_decoded(data):
    record(data, deals(200), decoder=Broken)
    middle = len(archive(data)) // 2
    for path in archive(data)[middle : middle + 2]:
        path.unlink()
    report = made_again(data, swap=True)
    rows = rows_in(data)
    assert [row[0] - T_MS for row in rows] == list(range(200))
    assert {one.reason for one in report.remade.kept} == {GONE}
    kept = {row for one in report.remade.kept for row in range(one.row, one.row + one.rows)}
    assert 10 < len(kept) < 120
    assert rows == [(wrong if number in kept else good)(number, number + 1)[0] for number in range(200)]


def test_a_damaged_frame_costs_its_batch_the_new_decoder_and_nothing_else(data):
    record(data, deals(200), decoder=Broken)
    damage(segment_with(data, deal(57)), deal(57))
    report = made_again(data, swap=True)
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 10, GONE)]
    assert rows_in(data) == [*good(50), *wrong(50, 60), *good(60, 200)]
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    report = made_again(data)
    assert report.same
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 10, GONE)]


@pytest.mark.parametrize("what", [rb'"rows_before":50,"rows":10', rb'"controls":\d+,"name":"[^"]*/6"'])
def test_a_damaged_record_of_a_batch_or_its_end_costs_that_batch_the_new_decoder(data, what):
    record(data, deals(150), decoder=Broken)
    record(data, deals(150, 200), decoder=Broken)
    damaged = 0
    for path in archive(data):
        raw = bytearray(decompressed(path))
        for found in list(re.finditer(what, raw)):
            raw[found.start()] ^= 1
            damaged += 1
        path.write_bytes(zstd.compress(bytes(raw)))
    assert damaged
    report = made_again(data, swap=True)
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 10, GONE)]
    assert rows_in(data) == [*good(50), *wrong(50, 60), *good(60, 200)]


def test_rows_that_somebody_else_put_behind_the_last_batch_are_kept(data):
    record(data, deals(50))
    with open_store(str(data)) as store:
        store.insert_rows("btc", [(T_MS, "d", "7|7|1")])
    report = made_again(data, swap=True)
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 1, BEHIND)]
    assert rows_in(data) == [*good(50), (T_MS, "d", "7|7|1")]


def test_a_table_that_was_taken_as_it_is_keeps_what_somebody_else_put_between(data):
    record(data, deals(50), decoder=Broken)
    with open_store(str(data)) as store:
        store.insert_rows("btc", [(T_MS, "d", "7|7|1")] * 3)
    record(data, deals(50, 80), adopt=True)
    report = made_again(data, swap=True)
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 3, GONE)]
    assert rows_in(data) == [*good(50), *[(T_MS, "d", "7|7|1")] * 3, *good(50, 80)]


def test_a_batch_that_is_elsewhere_than_its_record_says_is_copied(data):
    record(data, deals(50))
    leave_in_doubt(data, deals(50, 60), inserted=False, behind=[])
    with open_store(str(data)) as store:
        store.insert_rows("btc", [(T_MS, "d", "7|7|1")] * 3)
        store.insert_rows("btc", good(50, 60))
    record(data, deals(60, 80), adopt=True)
    before = rows_in(data)
    assert before == [*good(50), *[(T_MS, "d", "7|7|1")] * 3, *good(50, 80)]
    report = made_again(data, swap=True)
    assert [dataclasses.astuple(one) for one in report.remade.kept] == [(50, 13, GONE)]
    assert rows_in(data) == before


# what the next run deals with


def test_frames_that_no_batch_has_stay_for_the_next_run(data):
    record(data, deals(50), decoder=Broken)
    journal = open_journal(data)
    append(journal, deals(50, 65))
    journal.close()
    report = made_again(data, swap=True)
    assert (report.waiting_frames, report.waiting_rows) == (15, 0)
    assert rows_in(data) == good(50)
    record(data, deals(65, 80))
    assert rows_in(data) == good(80)


@pytest.mark.parametrize("inserted", [False, True])
def test_a_batch_in_doubt_stays_for_the_next_run_and_comes_in_once(data, inserted):
    record(data, deals(50), decoder=Broken)
    leave_in_doubt(data, deals(50, 60), inserted=inserted, behind=deals(60, 65))
    report = made_again(data, swap=True)
    assert (report.waiting_frames, report.waiting_rows) == (15, 10 * inserted)
    assert rows_in(data) == good(50)
    record(data, deals(65, 80))
    assert rows_in(data) == good(80)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    assert made_again(data).same


def test_a_batch_in_doubt_and_foreign_rows_are_the_next_runs_first(data):
    record(data, deals(50))
    leave_in_doubt(data, deals(50, 60), inserted=True, behind=[])
    with open_store(str(data)) as store:
        store.insert_rows("btc", [(T_MS, "d", "7|7|1")])
    with pytest.raises(Permanent, match="mexcflow run"):
        made_again(data, swap=True)
    assert tables(data) == {"btc"}


def test_a_batch_in_doubt_that_cannot_be_read_is_the_next_runs_first(data):
    record(data, deals(50))
    leave_in_doubt(data, deals(50, 60), inserted=True, behind=[])
    (path,) = [one for one in journal_of(data).glob("0*") if deal(55) in one.read_bytes()]
    raw = bytearray(path.read_bytes())
    raw[raw.index(deal(55))] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Permanent, match="mexcflow run"):
        made_again(data, swap=True)
    assert rows_in(data) == good(60)


# tables that lost rows, or are gone


def test_a_table_that_was_emptied_and_taken_as_it_is_stays_without_what_was_before(data):
    record(data, deals(50))
    statement(data, "TRUNCATE TABLE mexc_data.btc")
    record(data, deals(50, 80), adopt=True)
    report = made_again(data)
    assert report.same
    assert (report.batches_equal, report.new["d"]) == (3, 30)


def test_what_a_power_cut_took_from_the_tables_end_comes_back(data):
    record(data, deals(50))
    shorter(table_in(data) / "data.bin", 1)
    assert len(rows_in(data)) == 40
    report = made_again(data, swap=True)
    assert report.differences[0] == Difference(40, None, good(40, 41)[0])
    assert rows_in(data) == good(50)
    record(data, deals(50, 70))
    assert rows_in(data) == good(70)


def test_batches_that_were_done_again_count_once(data):
    journal = open_journal(data, tail_bytes=100_000)
    append(journal, deals(50))
    with open_store(str(data)) as store:
        insert(store, journal)
    journal.close()
    shorter(table_in(data) / "data.bin", 1)
    record(data, deals(50, 60))  # it goes back to row 40 first
    assert rows_in(data) == good(60)
    report = made_again(data)
    assert report.same
    assert report.batches_equal == 6


@pytest.mark.parametrize("how", ["dropped", "made anew", "emptied"])
def test_a_table_that_is_gone_or_empty_comes_back_as_far_as_frames_are_kept(data, how):
    record(data, deals(120))
    archive(data)[0].unlink()
    statement(data, "TRUNCATE TABLE mexc_data.btc" if how == "emptied" else "DROP TABLE mexc_data.btc SYNC")
    if how == "made anew":
        with open_store(str(data)) as store:
            ensure_table(store, "btc")
    report = made_again(data, swap=True)
    lost = report.remade.missing_rows
    assert 0 < lost < 60
    assert rows_in(data) == good(lost, 120)
    assert report.left == (None if how == "dropped" else "mexc_data.btc_rebuilt")
    record(data, deals(120, 140))
    assert rows_in(data) == good(lost, 140)
    with open_store(str(data)) as store:
        store.command("DROP TABLE IF EXISTS mexc_data.btc_rebuilt SYNC")
    assert made_again(data).same


# refused


def test_nothing_was_recorded_there(data):
    with pytest.raises(Misuse, match="no journal of mexc BTC_USDT"):
        made_again(data)
    assert not data.exists()


def test_a_table_that_nothing_of_the_journal_went_into(data):
    record(data, deals(20))
    with open_store(str(data)) as store:
        ensure_table(store, "other")
        store.insert_rows("other", good(5))
    with pytest.raises(Misuse, match="btc"):
        made_again(data, table="other")
    with pytest.raises(Misuse, match="btc"):
        made_again(data, table="nowhere")
    assert tables(data) == {"btc", "other"}


def test_a_table_that_is_not_ours(data):
    record(data, deals(20))
    statement(data, "DROP TABLE mexc_data.btc SYNC")
    statement(data, "CREATE TABLE mexc_data.btc (x UInt8) ENGINE = Log")
    with pytest.raises(SchemaMismatch):
        made_again(data)


def test_two_tables_of_one_stream_are_each_made_of_their_own_batches(data):
    record(data, deals(30))
    record(data, deals(30, 60), table="second")
    record(data, deals(60, 70), table="second", decoder=Blind)
    record(data, deals(70, 90))
    assert made_again(data).same
    report = made_again(data, table="second")
    assert report.same
    assert report.new["d"] == 30


def test_whoever_records_the_stream_is_named(data):
    record(data, deals(20))
    with contextlib.closing(open_journal(data)), pytest.raises(StreamInUse, match="PID"):
        made_again(data)


def test_nobody_records_the_stream_while_its_table_is_made(data):
    record(data, deals(20))
    refused = []

    class Curious(Mexc):
        def read(self, payload):
            if not refused:
                with pytest.raises(StreamInUse, match="rebuilds") as error:
                    open_journal(data)
                refused.append(error)
            return super().read(payload)

    assert made_again(data, decoder=Curious).same
    assert refused
    record(data, deals(20, 30))


def test_a_table_of_that_name_that_is_somebodys_is_not_touched(data):
    record(data, deals(20), decoder=Broken)
    with open_store(str(data)) as store:
        ensure_table(store, "btc_rebuilt")
        store.insert_rows("btc_rebuilt", good(3))
    with pytest.raises(Misuse, match="DROP TABLE"):
        made_again(data)
    assert rows_in(data, "btc_rebuilt") == good(3)


def test_what_a_swap_put_aside_is_not_dropped_by_the_next_rebuild(data):
    record(data, deals(20), decoder=Broken)
    made_again(data, swap=True)
    for swap in (False, True):
        with pytest.raises(Misuse, match="DROP TABLE"):
            made_again(data, swap=swap)
    assert rows_in(data, "btc_rebuilt") == wrong(20)


def test_a_disk_without_room_for_a_second_table(data):
    record(data, deals(20))
    settings = RebuildSettings(
        instance=Instance(symbol="BTC_USDT", table="btc"), database=str(data), min_free_bytes=1 << 60
    )
    with pytest.raises(DiskFailed, match="--min-free"):
        rebuild(settings, Mexc("BTC_USDT", ("deal",)))
    assert tables(data) == {"btc"}


def test_a_damaged_map_is_said_and_nothing_is_changed(data):
    record(data, deals(20), decoder=Broken)
    made_again(data, swap=True)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    (path,) = maps(data)
    for packed in (path.read_bytes()[:-9], b"no zstd"):
        path.write_bytes(packed)
        with pytest.raises(Permanent, match="Move it away"):
            made_again(data)
    path.rename(path.with_suffix(".away"))
    record(data, deals(20, 30))
    report = made_again(data)
    assert report.same
    assert report.remade.kept_rows == 20


def test_a_map_goes_with_its_last_frame(data):
    record(data, deals(20), decoder=Broken)
    made_again(data, swap=True)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    record(data, deals(20, 100))
    record(data, deals(100, 130))
    for path in archive(data)[:3]:
        path.unlink()
    assert len(maps(data)) == 1
    report = made_again(data)
    assert report.same
    assert report.remade.kept[0].reason == BEFORE
    assert maps(data) == []


# a server


def test_a_table_on_a_server(data, tmp_path):
    with open_store(str(tmp_path / "server")) as behind, HttpFront(behind) as front:
        url = f"http://127.0.0.1:{front.port}"
        record(data, deals(100), decoder=Broken, location=url)
        archive(data)[0].unlink()
        report = made_again(data, swap=True, location=url)
        kept = report.remade.kept_rows
        assert 0 < kept < 60
        assert stored(behind) == [*wrong(kept), *good(kept, 100)]
        record(data, deals(100, 120), location=url)
        assert stored(behind) == [*wrong(kept), *good(kept, 120)]
        behind.command("DROP TABLE mexc_data.btc_rebuilt SYNC")
        assert made_again(data, location=url).same
        assert table_state(behind, "btc_rebuilt") is None


def test_a_damaged_file_of_the_archive_costs_its_batches_the_new_decoder_and_nothing_else(data):
    record(data, deals(150), decoder=Broken)
    record(data, deals(150, 200), decoder=Broken)
    middle = len(archive(data)) // 2
    cut, flipped, empty = archive(data)[middle - 1 : middle + 2]
    cut.write_bytes(cut.read_bytes()[:200])
    raw = bytearray(flipped.read_bytes())
    raw[len(raw) // 2] ^= 255
    flipped.write_bytes(raw)
    empty.write_bytes(b"")
    report = made_again(data, swap=True)
    kept = {row for one in report.remade.kept for row in range(one.row, one.row + one.rows)}
    assert 10 < len(kept) < 190
    assert rows_in(data) == [(wrong if n in kept else good)(n, n + 1)[0] for n in range(200)]


def test_killed_while_it_does_again_what_a_power_cut_took(data):
    journal = open_journal(data, tail_bytes=100_000)
    append(journal, deals(50))
    with open_store(str(data)) as store:
        insert(store, journal, decoder=Broken)
    journal.close()
    shorter(table_in(data) / "data.bin", 1)
    killed_before_its_insert(data, open_journal(data, tail_bytes=100_000))
    report = made_again(data, swap=True)
    assert (report.waiting_frames, report.waiting_rows) == (10, 0)
    assert rows_in(data) == good(40)
    record(data, deals(50, 60))
    assert rows_in(data) == good(60)
    statement(data, "DROP TABLE mexc_data.btc_rebuilt SYNC")
    report = made_again(data)
    assert report.same
    assert report.remade.kept == []
