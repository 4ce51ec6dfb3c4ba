"""What is deleted, archived and gone back to."""

from pathlib import Path

import pytest

from mexcflow.journal import Journal, Kind, Position
from mexcflow.journal.segments import list_segments
from tests.journals import (
    STREAM,
    HeldClock,
    batch,
    crash,
    drain,
    flip,
    frames,
    kept_frames,
    opened,
    path_of,
    positions,
    read_json,
    settings,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "mexc" / "BTC_USDT"


def test_crash_between_archiving_and_deleting(folder: Path, tmp_path: Path):
    options = {"segment_bytes": 1, "tail_s": 0, "tail_bytes": 0, "keep_raw_s": float("inf")}
    journal = opened(folder, **options)
    for payload in frames(5):
        journal.append(1, [payload])
    list(drain(journal))
    journal.sync()
    before = {segment.path: segment.path.read_bytes() for segment in list_segments(folder)}
    journal.tidy()
    again = crash(journal, tmp_path / "crashed")
    (again / "archive" / "00000003-20261121T140000Z.zst.new").write_bytes(b"half")
    for path, content in list(before.items())[2:4]:
        (again / path.name).write_bytes(content)
    assert kept_frames(again) == frames(5)
    journal = opened(again, **options)
    journal.tidy()
    assert kept_frames(again) == frames(5)
    numbers = [path.name[:8] for path in sorted((again / "archive").glob("*.zst"))]
    assert numbers == [f"{number:08}" for number in range(1, list_segments(again)[0].number)]
    journal.close()


def test_the_archive_ends_and_says_when_its_segments_ended(folder: Path):
    clock = HeldClock()
    journal = Journal(
        folder,
        STREAM,
        settings=settings(segment_bytes=1, tail_s=0, tail_bytes=0, keep_raw_s=3600),
        clock=clock,
    )
    for payload in frames(3):
        journal.append(clock.time_ns(), [payload])
    list(drain(journal))
    journal.sync()
    journal.tidy()
    archived = sorted(path.name for path in (folder / "archive").iterdir())
    assert archived == ["00000001-20260921T141320Z.zst", "00000002-20260921T141320Z.zst"]
    clock.advance(3590)
    journal.tidy()
    assert len(list((folder / "archive").iterdir())) == 2
    journal.close()
    clock.advance(20)
    forgetful = Journal(folder, STREAM, settings=settings(tail_s=0, tail_bytes=0), clock=clock)
    forgetful.tidy()  # a run without the option must not cost years of frames
    assert len(list((folder / "archive").iterdir())) == 2
    forgetful.close()
    journal = Journal(folder, STREAM, settings=settings(keep_raw_s=3600), clock=clock)
    journal.tidy()
    assert list((folder / "archive").iterdir()) == []
    journal.close()


def three_batches(folder: Path, **options: object) -> Journal:
    journal = opened(folder, segment_bytes=1, **options)
    for number in range(3):
        journal.append(number, frames(2, 2 * number))
        batch(journal, 2 * number)
    return journal


def test_rewind_to_a_batch_in_an_earlier_segment(folder: Path):
    journal = three_batches(folder)
    assert journal.rewind("u", 2)
    assert journal.state == {"rows": 2}
    assert (journal.backlog, journal.drained) == (4, False)
    journal.close()
    journal = opened(folder)  # and this is kept
    assert (journal.backlog, journal.state, journal.pending) == (4, {"rows": 2}, None)
    assert list(drain(journal)) == frames(4, 2)
    assert journal.rewind("u", 0)
    assert journal.state == {}
    assert list(drain(journal)) == frames(6)
    assert not journal.rewind("u", 1)
    assert not journal.rewind("another", 2)
    assert journal.drained
    journal.close()


def test_rewind_with_a_damaged_head_finds_the_state_before_it(folder: Path):
    journal = three_batches(folder)
    journal.close()
    holding = next(
        at for at, one in positions(folder) if one.kind is Kind.BATCH and read_json(one)["number"] == 2
    )
    flip(path_of(folder, holding.segment), 30)
    journal = opened(folder)
    assert journal.rewind("u", 2)
    assert journal.state == {"rows": 2}
    journal.close()


def test_rewind_to_a_batch_whose_frames_are_not_kept(folder: Path):
    journal = three_batches(folder)
    start = next(
        Position(*read_json(one)["start"])
        for _, one in positions(folder)
        if one.kind is Kind.BATCH and read_json(one)["number"] == 2
    )
    journal.sync()
    path_of(folder, start.segment).unlink()
    assert not journal.rewind("u", 2)
    assert not journal.rewind("u", 0)
    assert journal.rewind("u", 4)
    assert list(drain(journal)) == frames(2, 4)
    journal.close()


class TickingClock(HeldClock):
    """Every look at it takes a third of a second."""

    def monotonic(self) -> float:
        self.seconds += 0.3
        return self.seconds


def test_after_a_long_outage_the_archive_is_made_bit_by_bit(folder: Path):
    keep = settings(segment_bytes=1, tail_s=0, tail_bytes=0, keep_raw_s=float("inf"))
    journal = Journal(folder, STREAM, settings=keep, clock=TickingClock())
    payloads = frames(6)
    for payload in payloads:
        journal.append(1, [payload])
    list(drain(journal))
    journal.sync()
    journal.tidy()
    assert len(list((folder / "archive").iterdir())) < 3
    for _ in range(10):
        journal.tidy()
    assert len(list((folder / "archive").iterdir())) >= 5
    assert kept_frames(folder) == payloads
    journal.close()
