"""Which string tables are recorded into, and what verify, rebuild and setup make of the sorted ones."""

from collections.abc import Iterator

import pytest

from mexcflow.config import Instance
from mexcflow.errors import Misuse, SchemaMismatch
from mexcflow.exchanges.mexc import Mexc
from mexcflow.ops.rebuild import RebuildSettings, rebuild
from mexcflow.ops.setup import setup
from mexcflow.ops.verify import verify
from mexcflow.store import Store, check_table, open_store
from mexcflow.store.forms import COLUMNS, Existing, Kept, existing_tables, string_flaw
from mexcflow.store.scan import scan_table
from mexcflow.store.tokens import insert_once
from tests.cluster import ClusterServer, MergeTreeServer
from tests.conftest import wait_for
from tests.disasters.away import Server
from tests.inserting import ACK, T_MS, FaultyStore, Inserting, deal


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with MergeTreeServer(tmp_path / "server") as server:
        yield server


# what is refused, and what is read


def string_table(engine: str) -> str:
    return f"(ts DateTime64(3), mt Enum8('t' = 1, 'd' = 2, 'dp' = 3, 'dl' = 4), m String) ENGINE = {engine}"


SORTED = "ORDER BY (mt, ts)"
ONCE = "SETTINGS non_replicated_deduplication_window = 1000"


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        (f"MergeTree {SORTED}", "non_replicated_deduplication_window is not set"),
        (f"MergeTree {SORTED} SETTINGS non_replicated_deduplication_window = 5", "window is 5"),
        (f"ReplacingMergeTree {SORTED} {ONCE}", "needed is MergeTree or Replicated"),
        ("Distributed('market', 'mexc_data', 'btc_local', rand())", "cityHash64('btc')"),
        ("Distributed('market', 'mexc_data', 'btc_local')", "cityHash64('btc')"),
        ("Distributed('market', 'mexc_data', 'eth_local', cityHash64('btc'))", "'btc_local'"),
    ],
)
def test_a_table_that_would_double_or_lose_rows_is_refused(tmp_path, engine, what):
    with ClusterServer(tmp_path) as server:
        server.command("DROP TABLE mexc_data.btc SYNC", f"CREATE TABLE mexc_data.btc {string_table(engine)}")
        with pytest.raises(SchemaMismatch) as caught:
            check_table(server.store, "btc")
        assert what in caught.value.what
        assert "needed is" in caught.value.what
        assert not verify(server.store, [Instance(symbol="BTC_USDT", table="btc")], now_ms=T_MS).ok


def test_the_hint_for_a_short_window_is_a_statement_that_mends_it(tmp_path):
    with MergeTreeServer(tmp_path) as server:
        server.command("ALTER TABLE mexc_data.btc MODIFY SETTING non_replicated_deduplication_window = 0")
        with pytest.raises(SchemaMismatch) as caught:
            check_table(server.store, "btc")
        server.command(caught.value.hint)
        check_table(server.store, "btc")


@pytest.mark.parametrize(
    ("settings", "flaw"),
    [
        ("replicated_deduplication_window_seconds = 31536000, index_granularity = 8192", None),
        ("index_granularity = 8192", "replicated_deduplication_window_seconds is not set"),
        ("replicated_deduplication_window_seconds = 3600", "replicated_deduplication_window_seconds is 3600"),
        (
            "replicated_deduplication_window = 0, replicated_deduplication_window_seconds = 31536000",
            "window is 0",
        ),
    ],
)
def test_a_replicated_table_has_to_remember_tokens_for_days(settings, flaw):
    with_columns = existing_tables_of("ReplicatedMergeTree", settings)
    found = string_flaw("btc", with_columns)
    assert (found is None) == (flaw is None)
    assert flaw is None or flaw in found.what


def existing_tables_of(engine: str, settings: str) -> dict[str, Existing]:
    return {"btc": Existing(engine, COLUMNS, "", f"{engine}('/x', 'y') {SORTED}", settings)}


def test_a_distributed_table_without_its_local_one_is_refused(tmp_path):
    with ClusterServer(tmp_path) as server:
        tables = existing_tables(server.store)
        assert string_flaw("btc", tables) is None
        del tables["btc_local"]
        assert "one of the cluster's own nodes" in string_flaw("btc", tables).what


def test_a_sorted_table_is_not_rebuilt(server, tmp_path):
    run = Inserting(tmp_path, store=FaultyStore(open_store(server.url)), flush_interval_s=0.05).start()
    run.send(ACK, deal(1))
    wait_for(lambda: run.total.inserts)
    run.end()
    instance = Instance(symbol="BTC_USDT", table="btc", journal=str(tmp_path / "journal"))
    with pytest.raises(Misuse, match="only StripeLog can be rebuilt") as caught:
        rebuild(RebuildSettings(instance, server.url), Mexc("BTC_USDT", ("deal",)))
    assert "simulate --archive" in caught.value.hint
    assert "btc_rebuilt" not in existing_tables(server.store)


def test_verify_counts_a_sorted_table_and_finds_what_does_not_decode(server):
    with open_store(server.url) as store:
        insert_once(store, "btc", [(T_MS, "d", "1|1|1"), (T_MS - 60_000, "t", "nonsense")], token="one")
        report = verify(store, [], now_ms=T_MS)
    table = report.tables["btc"]
    assert (table.rows, table.undecodable_rows, table.backwards) == (2, 1, 0)
    assert table.data_bin_bytes > 0
    assert list(report.tables) == ["btc"]


def test_the_embedded_engine_records_into_mergetree_too(tmp_path):
    with open_store(str(tmp_path / "data")) as store:
        setup(store, [Instance(symbol="BTC_USDT", table="btc")], kept=Kept.MERGETREE)
    run = Inserting(tmp_path, flush_interval_s=0.05).start()
    run.send(ACK, *(deal(number) for number in range(5)))
    wait_for(lambda: run.total.inserts)
    run.end()
    assert run.error is None
    with open_store(str(tmp_path / "data")) as store:
        assert_stored(store, 5)
        with pytest.raises(SchemaMismatch, match="exists and is MergeTree; needed is StripeLog"):
            setup(store, [Instance(symbol="BTC_USDT", table="btc")], kept=Kept.STRIPELOG)


def assert_stored(store: Store, rows: int) -> None:
    assert [scan.rows for scan in scan_table(store, "btc", T_MS)] == [rows]
    report = verify(store, [], now_ms=T_MS)
    assert report.ok, report.problems
    assert report.tables["btc"].data_bin_bytes > 0


def test_a_table_that_is_not_there_yet_is_made_as_stripelog(tmp_path):
    run = Inserting(tmp_path, flush_interval_s=0.05).start()
    run.send(ACK, deal(1))
    wait_for(lambda: run.total.inserts)
    assert existing_tables(run.store._store)["btc"].kept is Kept.STRIPELOG
    run.end()
