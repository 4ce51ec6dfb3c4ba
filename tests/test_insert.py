"""Decode and insert: every frame is counted once, every row is in the table once, errors are sorted."""

import gzip
import threading
import time
from collections.abc import Sequence

import pytest

from mexcflow.errors import DiskFailed, StatementRefused, StoreUnavailable
from mexcflow.exchanges.mexc import Mexc
from mexcflow.metrics import Metrics
from mexcflow.model import Frame, Row
from mexcflow.pipeline import insert
from mexcflow.pipeline.decode import decode
from mexcflow.pipeline.insert import Inserter, InsertSettings
from mexcflow.pipeline.journal import MemoryJournal
from mexcflow.store import open_store
from tests.conftest import wait_for

T_MS = 1_790_000_000_000
ACK = b'{"channel":"rs.sub.deal","data":"success","ts":1}'


def deal(number: int, *, symbol: str = "BTC_USDT") -> bytes:
    return b'{"symbol":"%s","data":[{"p":%d,"v":1,"T":1,"t":%d}],"channel":"push.deal","ts":%d}' % (
        symbol.encode(),
        number,
        T_MS + number,
        T_MS + number,
    )


class FaultyStore:
    """A store whose inserts fail as told: `faults` are raised one by one before anything is stored."""

    location = "nowhere"
    embedded = False

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.rows: list[Row] = []
        self.batches: list[int] = []
        self.tries: list[tuple[Row, ...]] = []
        self.free: int | None = 10**12
        self.synced: list[int] = []

    def insert_rows(self, table: str, rows: Sequence[Row]) -> None:
        self.tries.append(tuple(rows))
        if self.faults:
            raise self.faults.pop(0)
        self.rows += rows
        self.batches.append(len(rows))

    def free_bytes(self) -> int | None:
        return self.free

    def sync(self, table: str) -> None:
        self.synced.append(len(self.batches))


class Inserting:
    """An inserter in a thread."""

    def __init__(self, store: FaultyStore, monkeypatch, **settings: float) -> None:
        self.ensured: list[str] = []
        monkeypatch.setattr(insert, "ensure_table", lambda _, table: self.ensured.append(table))
        self.journal = MemoryJournal()
        self.metrics = Metrics("BTC_USDT", "btc", ("ticker", "deal", "depth"), now=0.0)
        self.error: Exception | None = None
        self.inserter = Inserter(
            Mexc("BTC_USDT", ("deal",)),
            self.journal,
            store,
            self.metrics,
            settings=InsertSettings(table="btc", **settings),
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.inserter.run()
        except Exception as error:
            self.error = error

    def send(self, *payloads: bytes) -> None:
        self.journal.append(T_MS * 1_000_000, list(payloads))

    def end(self) -> None:
        self.inserter.close()
        self.thread.join(10)
        assert not self.thread.is_alive()

    @property
    def total(self):
        return self.metrics.snapshot(now=1.0, backlog_frames=0, close=False).total


@pytest.fixture
def inserting(monkeypatch):
    made: list[Inserting] = []

    def make(store: FaultyStore, **settings: float) -> Inserting:
        made.append(Inserting(store, monkeypatch, **settings))
        return made[-1]

    yield make
    for one in made:
        one.inserter.close()
        one.inserter.give_up()
        one.thread.join(10)


def prices(rows: Sequence[Row]) -> list[int]:
    return [int(m.split("|")[0]) for _, _, m in rows]


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
    store = FaultyStore()
    one = inserting(store, flush_interval_s=0.6)
    one.send(deal(0))
    wait_for(lambda: store.batches == [1])
    one.send(deal(1))
    one.send(deal(2))
    time.sleep(0.2)
    assert store.batches == [1]
    one.send(deal(3))
    wait_for(lambda: store.batches == [1, 3])


def test_a_quiet_feed_still_gets_its_last_row_stored(inserting):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=0.1)
    time.sleep(0.3)
    one.send(deal(7))
    wait_for(lambda: prices(store.rows) == [7])


def test_an_interval_of_nothing_inserts_at_once(inserting):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=0)
    for number in range(5):
        one.send(deal(number))
        wait_for(lambda number=number: prices(store.rows) == list(range(number + 1)), seconds=0.9)


def test_a_full_batch_does_not_wait_for_the_interval(inserting):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=60, batch_frames=10)
    time.sleep(0.2)  # the first flush is due at once
    one.send(*map(deal, range(25)))
    wait_for(lambda: prices(store.rows) == list(range(25)))
    assert store.batches == [10, 10, 5]


def test_closing_stores_what_is_left_whatever_the_interval(inserting):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=60)
    time.sleep(0.2)
    one.send(*map(deal, range(3)))
    one.end()
    assert prices(store.rows) == [0, 1, 2]
    assert one.journal.backlog == 0


def test_a_database_that_comes_back_gets_every_row_once_and_in_order(inserting):
    store = FaultyStore(*[StoreUnavailable("gone")] * 4)
    one = inserting(store, flush_interval_s=0.05)
    for number in range(60):
        one.send(deal(number))
        time.sleep(0.02)
    one.end()
    assert prices(store.rows) == list(range(60))
    assert one.total.errors == 4
    assert one.total.rows == one.total.messages["deal"] == 60
    assert store.tries[:5] == [store.tries[0]] * 5  # the same batch, unchanged


def test_nothing_counts_as_appended_before_the_table_has_it(inserting):
    store = FaultyStore(*[StoreUnavailable("gone")] * 1000)
    one = inserting(store, flush_interval_s=0.05)
    one.send(deal(1))
    wait_for(lambda: one.total.errors >= 2)
    assert one.total.rows == one.total.frames == 0
    assert one.journal.backlog == 1


def test_giving_up_raises_the_last_error_and_keeps_the_frames(inserting):
    store = FaultyStore(*[StoreUnavailable("gone")] * 1000)
    one = inserting(store, flush_interval_s=0.05)
    one.send(deal(1))
    one.inserter.close()
    wait_for(lambda: one.total.errors >= 2)
    one.inserter.give_up()
    one.thread.join(5)
    assert isinstance(one.error, StoreUnavailable)
    assert one.journal.backlog == 1


@pytest.mark.parametrize(("interval_s", "synced"), [(0, [1, 2, 3, 3]), (3600, [3]), (float("inf"), [3])])
def test_files_are_forced_to_the_disk_as_often_as_was_asked_and_at_the_end(inserting, interval_s, synced):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=0, sync_interval_s=interval_s)
    for number in range(3):
        one.send(deal(number))
        wait_for(lambda number=number: store.batches == [1] * (number + 1))
    one.end()
    assert store.synced == synced


def test_a_permanent_error_stops_at_once(inserting):
    store = FaultyStore(StatementRefused("wrong schema"))
    one = inserting(store, flush_interval_s=0.05)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, StatementRefused)
    assert len(store.tries) == 1


def test_a_disk_that_is_nearly_full_is_not_written_to(inserting):
    store = FaultyStore()
    store.free = 100
    one = inserting(store, flush_interval_s=0.05, min_free_bytes=101)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert one.error.exit_code == 74
    assert store.tries == []
    assert one.ensured == []


def test_some_room_is_left_whatever_was_asked_for(inserting):
    store = FaultyStore()
    store.free = 49_999_999
    one = inserting(store, flush_interval_s=0.05, min_free_bytes=0)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert store.tries == []


def test_files_that_are_not_as_long_as_the_engine_says_stop_the_run(inserting, monkeypatch):
    monkeypatch.setattr(insert, "torn_files", lambda _store, table: [f"{table}/data.bin is short"])
    one = inserting(FaultyStore(), flush_interval_s=0.05, sync_interval_s=0)
    one.send(deal(1))
    one.thread.join(5)
    assert isinstance(one.error, DiskFailed)
    assert "btc/data.bin is short" in str(one.error)


def test_the_table_is_made_when_the_exchange_has_accepted_the_symbol(inserting):
    store = FaultyStore()
    one = inserting(store, flush_interval_s=0.05)
    one.send(b'{"channel":"rs.error","data":"Contract [BTC_USDT] not exists"}', b'{"channel":"pong"}')
    wait_for(lambda: one.total.frames == 2)
    assert one.ensured == []
    one.send(ACK)
    wait_for(lambda: one.ensured == ["btc"])
    assert store.tries == []
    one.send(deal(1))
    wait_for(lambda: prices(store.rows) == [1])
    assert one.ensured == ["btc"]


def test_into_the_real_engine_every_row_is_there_once(monkeypatch, tmp_path):
    journal = MemoryJournal()
    metrics = Metrics("BTC_USDT", "btc", ("deal",), now=0.0)
    with open_store(str(tmp_path / "data")) as store:
        inserter = Inserter(
            Mexc("BTC_USDT", ("deal",)),
            journal,
            store,
            metrics,
            settings=InsertSettings(table="btc", flush_interval_s=0, batch_frames=7, min_free_bytes=0),
        )
        journal.append(T_MS * 1_000_000, [deal(number) for number in range(100)] + [b"bad\ttab\nline"])
        inserter.close()
        inserter.run()
        rows = store.query(
            "SELECT toUnixTimestamp64Milli(ts), toString(mt), m FROM mexc_data.btc SETTINGS max_threads = 1"
        )
    expected = [(T_MS + number, "d", f"{number}|1|1") for number in range(100)]
    assert rows == [*expected, (T_MS, "dl", "bad\ttab\nline")]
