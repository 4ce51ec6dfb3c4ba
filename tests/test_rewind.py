"""Going back in the journal for a table that lost its end, and being interrupted while doing so."""

from pathlib import Path

import pytest

from mexcflow.journal import Journal, Position, Stream, Taken

UUID = "a-table"


class Recording:
    """A journal whose batches are of ten frames, each a row; `end` stops without notice, as a kill does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder, Stream("mexc", "BTC_USDT", "run", "host"))

    def receive(self, *numbers: int) -> None:
        for number in numbers:
            self.journal.append(1_790_000_000_000_000_000 + number, [b"%d" % number])

    def insert(self, rows_before: int) -> list[int]:
        """Name a batch, and return its frames."""
        taken = self.take()
        self.journal.begin(taken, table="btc", uuid=UUID, rows_before=rows_before, rows=len(taken.frames))
        return [int(frame.payload) for frame in taken.frames]

    def take(self) -> Taken:
        taken = self.journal.take(10)
        assert taken is not None
        return taken

    def acknowledge(self) -> None:
        taken = self.take()
        self.journal.acknowledge(taken, {"last": int(taken.frames[-1].payload)})

    def again(self) -> "Recording":
        self.journal.close()
        return Recording(self.folder)


@pytest.fixture
def recording(tmp_path) -> Recording:
    """Thirty frames in three acknowledged batches, and the process has ended."""
    first = Recording(tmp_path)
    first.receive(*range(30))
    for rows in (0, 10, 20):
        first.insert(rows)
        first.acknowledge()
    return first.again()


def test_a_rewind_that_was_interrupted_before_its_first_batch_was_acknowledged_is_not_forgotten(recording):
    assert recording.journal.rewind(UUID, 10)
    assert recording.insert(10) == list(range(10, 20))
    second = recording.again()
    pending = second.journal.pending
    assert pending is not None
    taken = second.journal.take_pending()
    assert taken is not None
    assert [int(frame.payload) for frame in taken.frames] == list(range(10, 20))
    second.acknowledge()
    assert second.insert(20) == list(range(20, 30))
    assert second.journal.backlog == 10


def test_a_second_rewind_to_the_same_place_finds_the_state_of_that_place(recording):
    for _ in range(3):
        assert recording.journal.rewind(UUID, 10)
        assert recording.journal.state == {"last": 9}
        assert recording.journal.backlog == 20
        recording.insert(10)
        recording.acknowledge()
        assert recording.journal.state == {"last": 19}
        recording = recording.again()


def test_a_rewind_into_the_first_batch_begins_with_no_state(recording):
    assert recording.journal.rewind(UUID, 0)
    assert recording.journal.state == {}
    assert recording.journal.backlog == 30
    assert recording.take().start < Position(1, 1 << 20)


def test_what_is_not_kept_cannot_be_rewound(recording):
    assert not recording.journal.rewind(UUID, 15)
    assert not recording.journal.rewind("another", 10)
    assert recording.journal.backlog == 0


def test_the_age_of_the_backlog_is_that_of_its_oldest_frame_from_the_opening_on(tmp_path):
    first = Recording(tmp_path)
    first.journal.connected(1_790_000_000_000_000_000, channels=("deal",), url="")
    first.receive(*range(10))
    assert first.journal.backlog_age_s > 1000
    second = first.again()
    assert second.journal.backlog_age_s > 1000
    second.journal.acknowledge(second.take(), {})
    second.insert(0)
    assert second.journal.backlog_age_s > 1000
    second.acknowledge()
    assert second.journal.backlog_age_s == 0
