"""Batches that go into several tables: each row once, whatever becomes of an answer or of the process.

The engine is the real one; its INSERTs fail as told, before or after the rows are in, by an error that passes
or by the end of the process.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mexcflow.errors import StatementRefused, StoreUnavailable
from mexcflow.journal import Durability, Journal, JournalSettings, this_run
from mexcflow.metrics import Metrics
from mexcflow.model import Frame
from mexcflow.pipeline import typed_table
from mexcflow.pipeline.insert import Inserter
from mexcflow.pipeline.table import InsertSettings
from mexcflow.pipeline.target import Target
from mexcflow.pipeline.typed_table import TypedTables
from mexcflow.pipeline.typed_witness import TypedWitness
from mexcflow.store import Store, open_store
from mexcflow.store.market import BOOKS, CANDLES, TICKERS, TRADES, ensure_market
from tests.assembling import Began, Event, exchange_of, simulated

TABLES = (TRADES, BOOKS, TICKERS, CANDLES)
BATCH_FRAMES = 40


class Killed(Exception):
    """The process is gone."""


class Impatient:
    """A clock whose waits take no time."""

    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def wait(event, seconds: float) -> bool:
        return event.is_set()


class FaultyStore:
    """A store whose n-th INSERT into a typed table fails as told: ('before' or 'after', error)."""

    def __init__(
        self, store: Store, faults: dict[int, tuple[str, Exception]], *, tokens: bool = True
    ) -> None:
        self._store = store
        self._faults = faults
        self._tokens = tokens
        self.inserts: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def insert_block(self, table: str, columns: Sequence[str], block: bytes, settings: dict) -> None:
        if table == "market_data.coverage":
            return self._store.insert_block(table, columns, block, settings)
        when, error = self._faults.get(len(self.inserts), ("never", None))
        self.inserts.append((settings["insert_deduplication_token"], table))
        if when == "before":
            raise error
        if not self._tokens:  # as an engine that takes no notice of them
            settings = {**settings, "insert_deduplication_token": f"{len(self.inserts)} {id(self)}"}
        self._store.insert_block(table, columns, block, settings)
        if when == "after":
            raise error
        return None


def insert(folder: Path, events: Sequence[Event], store: FaultyStore, exchange) -> None:
    """Be one run: take what an earlier one left and these events into the tables."""
    stream = this_run(exchange.name, "both")
    journal = Journal(folder, stream, settings=JournalSettings(durability=Durability(segment_bytes=50_000)))
    try:
        for event in events:
            if isinstance(event, Frame):
                journal.append(event.received_ns, [event.payload])
            elif isinstance(event, Began):
                journal.connected(event.at_ns, channels=(), url="ws://nowhere")
            else:
                journal.disconnected(event.at_ns, reason="lost", since_ns=event.at_ns)
        channels = {topic.symbol: (topic.channel,) for topic in exchange.topics()}
        inserter = Inserter(
            journal,
            lambda: store,
            Metrics("both", "market_data", exchange.channels, now=0.0),
            target=Target(
                "market_data",
                lambda: TypedWitness(exchange, channels, journal, Impatient),
                lambda opened: TypedTables(opened, journal, Impatient),
            ),
            settings=InsertSettings("market_data", 0.0, batch_frames=BATCH_FRAMES, min_free_bytes=0),
            clock=Impatient,
        )
        inserter.close()
        inserter.run()
    finally:
        journal.close()


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    with open_store(str(tmp_path_factory.mktemp("market") / "data")) as store:
        ensure_market(store)
        yield store


def stored(market: Store) -> Counter:
    """Every row of every table, as often as it is there; the tables are empty then.

    Of trades and candles the engine keeps one with the same key, sooner or later.
    """
    rows: Counter = Counter()
    for table in TABLES:
        final = "FINAL" if table in (TRADES, CANDLES) else ""
        found = market.query(f"SELECT toString(tuple(*)) FROM {table.name} {final}")
        rows.update((table.name, row) for (row,) in found)
        market.command(f"TRUNCATE TABLE {table.name}")
    return rows


EXCHANGE = "okx"
SYMBOLS, TAPE = simulated(EXCHANGE, 1.0)
RUNS = (TAPE[: len(TAPE) // 2], TAPE[len(TAPE) // 2 :])


@pytest.fixture(scope="module")
def expected(market, tmp_path_factory) -> Counter:
    """What runs without any fault come to."""
    exchange = exchange_of(EXCHANGE, SYMBOLS)
    for events in RUNS:
        store = FaultyStore(market, {})
        insert(tmp_path_factory.getbasetemp() / "whole", events, store, exchange)
        assert len({token for token, _ in store.inserts}) == len(store.inserts) > 4
    rows = stored(market)
    assert {table for table, _ in rows} == {table.name for table in TABLES}
    assert sum(rows.values()) > len(TAPE) / 2
    return rows


def play(market: Store, folder: Path, faults: dict[int, tuple[str, Exception]], **how: bool) -> Counter:
    """Record the same with faults; a run that was killed is followed by one with the next faults."""
    exchange = exchange_of(EXCHANGE, SYMBOLS)
    store = FaultyStore(market, faults, **how)
    for events in RUNS:
        while True:
            try:
                insert(folder, events, store, exchange)
            except Killed:
                events = ()
            else:
                break
    assert all(number < len(store.inserts) for number in faults)
    return stored(market)


LOST, GONE = StoreUnavailable("no answer"), Killed()
FAULTS = st.dictionaries(
    st.integers(0, 12),
    st.tuples(st.sampled_from(["before", "after"]), st.sampled_from([LOST, GONE])),
    max_size=6,
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FAULTS)
def test_each_row_is_there_once_whatever_happens_between_the_inserts(
    market, expected, tmp_path_factory, faults
):
    rows = play(market, tmp_path_factory.mktemp("journal") / "okx", faults)
    assert rows - expected == Counter()
    assert expected - rows == Counter()


@pytest.mark.parametrize("error", [LOST, GONE], ids=["answer lost", "killed"])
def test_tokens_that_a_table_has_forgotten_do_no_harm(market, expected, tmp_path, error):
    rows = play(market, tmp_path / "okx", {2: ("after", error)}, tokens=False)
    assert rows == expected


@pytest.mark.parametrize("error", [LOST, GONE], ids=["answer lost", "killed"])
def test_without_tokens_and_without_a_look_rows_are_doubled(market, expected, tmp_path, error, monkeypatch):
    """The last INSERT of a batch fails, and all are sent again."""
    monkeypatch.setattr(typed_table, "holds_row", lambda *_: False)
    rows = play(market, tmp_path / "okx", {2: ("after", error)}, tokens=False)
    doubled = rows - expected
    assert doubled.keys() & {key for key in expected if key[0] in (BOOKS.name, TICKERS.name)}
    assert expected - rows == Counter()


def test_a_batch_that_is_sent_again_has_its_name_and_the_tables_as_token(market, tmp_path):
    exchange = exchange_of(EXCHANGE, SYMBOLS)
    store = FaultyStore(market, {1: ("after", LOST), 2: ("after", GONE)})
    with pytest.raises(Killed):
        insert(tmp_path / "okx", RUNS[0][:BATCH_FRAMES], store, exchange)
    insert(tmp_path / "okx", (), store, exchange)
    first = store.inserts[0][0]
    batch, _, table = first.rpartition("/")
    assert table == store.inserts[0][1]
    assert batch.endswith("/1")
    named = {token.rpartition("/")[0] for token, _ in store.inserts}
    assert named == {batch}
    stored(market)


def test_a_profile_that_switches_tokens_off_is_refused(market, tmp_path):
    market.command("SET deduplicate_insert = 'disable'")
    try:
        with pytest.raises(StatementRefused, match="deduplicate_insert = 'disable' in the user's profile"):
            insert(tmp_path / "okx", RUNS[0], FaultyStore(market, {}), exchange_of(EXCHANGE, SYMBOLS))
    finally:
        market.command("SET deduplicate_insert = 'backward_compatible_choice'")
