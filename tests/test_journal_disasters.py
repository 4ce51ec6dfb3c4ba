"""What may happen to a journal, one disaster a test: the process ends, or segments are damaged.

Nothing of what was appended may be missing or twice.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mexcflow.errors import Permanent, StreamInUse
from mexcflow.journal import Journal, Kind, holder, read_stream
from mexcflow.journal.format import HEAD_BYTES, encode
from mexcflow.journal.journal import ENDED_WITHOUT_NOTICE
from mexcflow.journal.segments import list_segments, segment_path
from tests.journals import (
    STREAM,
    HeldClock,
    batch,
    corrupt_files,
    drain,
    flip,
    frames,
    kept_frames,
    names,
    opened,
    overwrite,
    path_of,
    positions,
    read_json,
    record,
    settings,
    size_of,
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "mexc" / "BTC_USDT"


def test_torn_tail_of_each_length(folder: Path, tmp_path: Path):
    last = len(encode(Kind.FRAME, 1, [b"frame 2"], 1))
    for length in range(last):
        here = tmp_path / str(length) / "mexc" / "X"
        record(here, frames(3))
        newest = path_of(here, 1)
        torn = newest.read_bytes()[-last:][:length]
        os.truncate(newest, newest.stat().st_size - last + length)
        journal = opened(here)
        assert journal.torn_bytes == length
        assert path_of(here, 1).stat().st_size == positions(here)[2][0].offset + last
        assert journal.corrupt_bytes == 0
        assert list(corrupt_files(here).values()) == ([torn] if length else [])
        journal.append(9, [b"next"])
        assert list(drain(journal)) == [*frames(2), b"next"]
        journal.close()


def test_a_tail_of_zeros_is_cut_and_not_kept(folder: Path):
    record(folder, frames(3))
    with path_of(folder, 1).open("ab") as file:
        file.write(bytes(5000))
    journal = opened(folder)
    assert (journal.torn_bytes, journal.corrupt_bytes, corrupt_files(folder)) == (5000, 0, {})
    assert list(drain(journal)) == frames(3)
    journal.close()


def test_crash_between_the_creation_of_a_segment_and_its_head(folder: Path):
    record(folder, frames(3))
    opened(folder).close()
    whole = path_of(folder, 2).read_bytes()
    for length in (0, 1, 18, 19, 20, len(whole) - 1, len(whole)):
        (folder / "00000002.open").write_bytes(whole[:length])
        journal = opened(folder)
        assert [segment.number for segment in list_segments(folder)] == [1, 2]
        assert journal.backlog == 3
        assert [frame.payload for frame in journal.take(10).frames] == frames(3)
        journal.close()
        assert len(names(folder)) == 2


def test_crash_during_sealing_leaves_two_open_segments(folder: Path):
    record(folder, frames(6), segment_bytes=1)
    path_of(folder, 5).rename(segment_path(folder, 5, sealed=False))
    assert [name for name in names(folder) if name.endswith("open")] == ["00000005.open", "00000006.open"]
    journal = opened(folder, tail_s=0, tail_bytes=0)
    assert [name for name in names(folder) if name.endswith("open")] == ["00000007.open"]
    assert journal.backlog == 6
    assert list(drain(journal)) == frames(6)
    journal.append(1, [b"last"])
    assert list(drain(journal)) == [b"last"]
    journal.tidy()
    assert names(folder) == ["00000007.open"]
    journal.close()


def test_of_two_open_segments_the_older_lost_its_tail(folder: Path):
    record(folder, frames(6), segment_bytes=100_000)
    journal = opened(folder, segment_bytes=1)
    journal.append(1, [b"another"])
    journal.append(1, [b"segment"])
    journal.close()
    older = path_of(folder, 2)
    older.rename(segment_path(folder, 2, sealed=False))
    os.truncate(older.with_suffix(".open"), older.with_suffix(".open").stat().st_size - 3)
    journal = opened(folder)
    assert list(drain(journal)) == [*frames(6), b"segment"]
    assert journal.backlog == 0
    assert journal.drained
    assert [name for name in names(folder) if name.endswith("open")] == ["00000004.open"]
    journal.close()


def test_a_killed_process_leaves_all_it_appended_and_no_lock(folder: Path, tmp_path: Path):
    script = f"""
import sys, time
from pathlib import Path
from mexcflow.journal import Journal, Stream
journal = Journal(Path({str(folder)!r}), Stream("mexc", "BTC_USDT", "run7", "there"))
journal.connected(5, channels=("deal",), url="wss://x")
number = 0
while True:
    journal.append(number + 10, [b"frame %d" % number])
    number += 1
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = 0
    while said < 2000:
        said = int(process.stdout.readline())
    assert f"PID {process.pid} on there" in holder(folder)
    with pytest.raises(StreamInUse, match=f"PID {process.pid} on there, run run7") as caught:
        Journal(folder, STREAM)
    assert caught.value.exit_code == 73
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].split()
    said = int(rest[-1]) if rest else said
    assert holder(folder) is None
    journal = opened(folder)
    kept = list(drain(journal))
    assert said <= len(kept) <= said + 1
    assert kept == frames(len(kept))
    gone = [one for one in read_stream(folder) if one.kind is Kind.DISCONNECTED]
    assert [read_json(one) for one in gone] == [
        {"reason": ENDED_WITHOUT_NOTICE, "since_ns": len(kept) - 1 + 10}
    ]
    journal.close()


def test_a_look_at_who_holds_it_is_not_taken_for_a_writer(folder: Path):
    record(folder, frames(1))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(folder)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            opened(folder).close()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_stop_and_go_without_a_word_leaves_one_segment(folder: Path):
    record(folder, frames(1))
    for _ in range(300):
        opened(folder).close()
    assert names(folder) == ["00000001.sealed", "00000002.open"]


def test_stop_and_go_thousands_of_times_does_not_grow_without_bound(folder: Path):
    for _ in range(150):
        journal = opened(folder, tail_s=0, tail_segments=50)
        journal.append(1, [b"frame"])
        taken = journal.take(10)
        journal.begin(taken, table="t", uuid="u", rows_before=1, rows=1)
        journal.acknowledge(taken, {})
        journal.tidy()
        journal.close()
    assert 48 < len(names(folder)) < 53


def test_a_damaged_head_is_passed_over(folder: Path):
    for number in range(4):
        record(folder, frames(1, number))
    for number in (1, 3, 4):
        flip(path_of(folder, number), 30)
    journal = opened(folder)
    assert journal.backlog == 4
    assert list(drain(journal)) == frames(4)
    assert (3, 0) in corrupt_files(folder)
    assert (4, 0) in corrupt_files(folder)
    journal.close()


def test_all_heads_damaged(folder: Path):
    record(folder, frames(3), segment_bytes=1)
    for segment in list_segments(folder):
        flip(segment.path, 0)
    journal = opened(folder)
    assert journal.backlog == 3
    assert list(drain(journal)) == frames(3)
    journal.close()


def test_a_damaged_acknowledgement_leaves_its_batch_in_doubt(folder: Path):
    journal = opened(folder)
    journal.append(1, frames(4))
    batch(journal, 0, at_most=2)
    batch(journal, 2, at_most=2)
    journal.close()
    last, _ = positions(folder)[-1]
    flip(path_of(folder, last.segment), last.offset + 40)
    journal = opened(folder)
    assert journal.pending.rows_before == 2
    assert journal.state == {"rows": 2}
    assert journal.backlog == 2
    assert [frame.payload for frame in journal.take_pending().frames] == frames(2, 2)
    journal.acknowledge(journal.take_pending(), {"rows": 4})
    assert journal.drained
    journal.close()


def test_a_damaged_batch_record_never_gives_its_name_to_another(folder: Path):
    """A name may be a deduplication token: a table that saw it would drop other rows of that name."""
    journal = opened(folder)
    journal.append(1, frames(4))
    batch(journal, 0, acknowledge=False)
    name = journal.pending.name
    journal.close()
    last, _ = positions(folder)[-1]
    flip(path_of(folder, last.segment), last.offset + 40)
    journal = Journal(folder, STREAM._replace(run="run2"), settings=settings(), clock=HeldClock())
    assert journal.pending is None
    journal.append(1, [b"more"])
    batch(journal, 0, acknowledge=False)
    assert journal.pending.name != name
    journal.close()


def test_frames_damaged_before_an_acknowledgement_do_not_hide_those_behind_it(folder: Path):
    journal = opened(folder)
    journal.append(1, frames(10))
    journal.acknowledge(journal.take(5), {})
    journal.close()
    for at, one in positions(folder):
        if one.payload in frames(5):
            flip(path_of(folder, at.segment), at.offset + 20)
    journal = opened(folder)
    assert not journal.drained
    assert list(drain(journal)) == frames(5, 5)
    assert (journal.backlog, journal.drained) == (0, True)
    journal.close()


def test_frames_damaged_after_they_were_acknowledged_leave_the_backlog_right(folder: Path):
    journal = opened(folder)
    journal.append(1, frames(10))
    batch(journal, 0)
    journal.close()
    for at, one in positions(folder):
        if one.payload in frames(5):
            flip(path_of(folder, at.segment), at.offset + 20)
    journal = opened(folder)
    journal.append(2, frames(3))
    assert journal.backlog == 3
    journal.close()


def test_old_bytes_of_a_deleted_segment_are_no_records(folder: Path):
    """A power cut may show what was on that place of the disk before."""
    record(folder, frames(3))
    old = path_of(folder, 1).read_bytes()
    record(folder, frames(3, 3))
    with path_of(folder, 2).open("ab") as file:
        file.write(old)
    journal = opened(folder)
    assert journal.torn_bytes == len(old)
    assert list(drain(journal)) == frames(6)
    journal.close()


def test_every_second_record_damaged(folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.CRITICAL):
        journal = opened(folder)
        journal.append(1, [one * 100 for one in frames(4000)])
        journal.close()
        path = path_of(folder, 1)
        content = bytearray(path.read_bytes())
        there = [(at, one) for at, one in positions(folder) if one.kind is Kind.FRAME]
        for at, _ in there[::2]:
            content[at.offset + 25] ^= 1
        path.write_bytes(content)
        journal = opened(folder)
        assert list(drain(journal)) == [one * 100 for one in frames(4000)[1::2]]
        journal.close()
    assert corrupt_files(folder) == {
        (1, at.offset): bytes(content[at.offset : at.offset + size_of(one)]) for at, one in there[::2]
    }


def test_the_next_record_begins_where_a_megabyte_of_reading_ends(folder: Path):
    """Its marker of two bytes is read in two parts."""
    journal = opened(folder)
    head = path_of(folder, 1).stat().st_size
    journal.append(1, [b"x" * ((1 << 20) - 1 - head - HEAD_BYTES), b"next"])
    journal.close()
    flip(path_of(folder, 1), head + 100)
    journal = opened(folder)
    assert list(drain(journal)) == [b"next"]
    assert list(corrupt_files(folder)) == [(1, head)]
    journal.close()


def test_a_segment_deleted_by_hand_is_reported(folder: Path, caplog: pytest.LogCaptureFixture):
    record(folder, frames(5), segment_bytes=1)
    path_of(folder, 3).unlink()
    journal = opened(folder)
    assert list(drain(journal)) == [b"frame 0", b"frame 1", b"frame 3", b"frame 4"]
    assert "segments 3 to 3 are gone" in caplog.text
    assert (journal.backlog, journal.drained) == (0, True)
    journal.close()


def test_a_damaged_archive_gives_what_comes_before_the_damage(folder: Path, caplog: pytest.LogCaptureFixture):
    journal = opened(folder, segment_bytes=1, tail_s=0, tail_bytes=0, keep_raw_s=float("inf"))
    payloads = [os.urandom(1_000_000), *frames(3)]
    for payload in payloads:
        journal.append(1, [payload])
    assert list(drain(journal)) == payloads
    journal.sync()
    journal.tidy()
    assert kept_frames(folder) == payloads
    first, *_ = sorted((folder / "archive").iterdir())
    os.truncate(first, first.stat().st_size - 5)
    assert kept_frames(folder) == frames(3)
    assert "cut short" in caplog.text
    overwrite(first, 0, b"no zstd at all")
    assert kept_frames(folder) == frames(3)
    journal.close()


def test_a_journal_of_a_future_format_is_left_alone(folder: Path):
    record(folder, frames(3))
    head = read_json(positions(folder)[0][1])
    head["format"] = 2
    head["ledger"] = "something else"
    path = path_of(folder, 1)
    path.write_bytes(encode(Kind.SEGMENT, 1, [json.dumps(head).encode()], 1) + b"unknown")
    before = path.read_bytes()
    with pytest.raises(Permanent, match="format 2, this mexcflow reads format 1"):
        opened(folder)
    assert path.read_bytes() == before
    assert names(folder) == ["00000001.open"]
    assert holder(folder) is None
