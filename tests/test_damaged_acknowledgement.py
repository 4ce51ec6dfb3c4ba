"""A damaged record of the journal beside a batch in doubt: nothing is lost, and nothing is there twice."""

import pytest

from mexcflow.errors import StatementRefused
from mexcflow.journal import Kind
from mexcflow.journal.format import HEAD_BYTES
from mexcflow.journal.segments import list_segments, scan
from tests.conftest import wait_for
from tests.inserting import Inserting, deal

STOP = StatementRefused("stop")


def damage(one: Inserting, kind: Kind, newest: int = 1) -> None:
    """Zero the newest record (or the second newest, ...) of that kind."""
    found = [
        (segment.path, chunk.start, chunk.end)
        for segment in list_segments(one.journal.folder)
        for chunk in scan(segment)
        if chunk.record is not None and chunk.record.kind is kind
    ]
    path, start, end = found[-newest]
    with path.open("r+b") as file:
        file.seek(start + HEAD_BYTES)
        file.write(bytes(end - start - HEAD_BYTES))


@pytest.fixture
def inserting(tmp_path):
    made: list[Inserting] = []

    def make(**settings: object) -> Inserting:
        made.append(Inserting(tmp_path, **settings))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("newest", [1, 2, 3])
def test_the_acknowledgements_before_a_batch_in_doubt(inserting, when, newest):
    one = inserting(flush_interval_s=0, batch_frames=5)
    for first in (0, 5, 10):
        one.send(*map(deal, range(first, first + 5)))
        wait_for(lambda: one.journal.drained)
    one.store.faults = [(when, STOP)]
    one.send(*map(deal, range(15, 20)))
    one.thread.join(5)
    one.send(*map(deal, range(20, 25)))
    one.close()
    damage(one, Kind.ACKNOWLEDGED, newest)
    two = inserting(flush_interval_s=0, batch_frames=100)
    two.send(deal(25))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == list(range(26))
    assert two.error is None


@pytest.mark.parametrize("newest", [1, 2])
def test_the_acknowledgement_of_the_last_batch_of_all(inserting, newest):
    one = inserting(flush_interval_s=0, batch_frames=5)
    for first in (0, 5, 10):
        one.send(*map(deal, range(first, first + 5)))
        wait_for(lambda: one.journal.drained)
    one.close()
    damage(one, Kind.ACKNOWLEDGED, newest)
    two = inserting(flush_interval_s=0, batch_frames=100)
    two.send(deal(15))
    wait_for(lambda: two.journal.drained)
    assert two.store.prices == list(range(16))


def test_a_table_that_was_adopted_after_damage_has_every_row_once(inserting):
    one = inserting(flush_interval_s=0, batch_frames=5)
    for first in (0, 5, 10):
        one.send(*map(deal, range(first, first + 5)))
        wait_for(lambda: one.journal.drained)
    one.inserter.close()
    one.thread.join(5)
    one.send(*map(deal, range(15, 18)))  # received, and in no batch any more
    one.close()
    for kind in (Kind.BATCH, Kind.ACKNOWLEDGED):
        damage(one, kind)
    two = inserting(flush_interval_s=0, batch_frames=100)
    two.thread.join(5)
    assert two.error is not None
    assert two.error.exit_code == 73  # five rows of which the journal says nothing
    two.close()
    three = inserting(flush_interval_s=0, batch_frames=100, adopt=True)
    wait_for(lambda: three.journal.drained)
    assert three.store.prices == list(range(18))


def test_a_table_that_lost_its_end_after_another_had_its_turn_is_not_mended_with_the_others_rows(inserting):
    one = inserting(flush_interval_s=0)
    one.send(*map(deal, range(5)))
    wait_for(lambda: one.journal.drained)
    one.close()
    two = inserting(flush_interval_s=0, table="other")
    two.send(*map(deal, range(5, 8)))
    wait_for(lambda: two.journal.drained)
    two.store.command("TRUNCATE TABLE mexc_data.btc")
    two.close()
    three = inserting(flush_interval_s=0)
    three.thread.join(5)
    assert three.error is not None
    assert three.error.exit_code == 73
    assert three.store.prices == []
