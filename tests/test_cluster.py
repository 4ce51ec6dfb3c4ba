"""`setup --cluster`: what it makes on every node, what it finds, and what it refuses."""

import itertools
import re
from collections.abc import Iterator

import orjson
import pytest

from mexcflow.config import Instance, shipped
from mexcflow.errors import Misuse, SchemaMismatch
from mexcflow.ops.setup import setup
from mexcflow.ops.verify import verify
from mexcflow.store import Store, check_table, ensure_table, open_store
from mexcflow.store.coverage import Interval, State, read_intervals, write_intervals
from mexcflow.store.forms import Kept, existing_tables
from mexcflow.store.statements import needed_forms, read_statements, split
from mexcflow.store.tokens import insert_once
from tests.cluster import ClusterFront, engine, node, plain
from tests.conftest import mexcflow

BTC, ETH = (
    Instance(symbol=f"{name.upper()}_USDT", table=name, source=f"{name}.toml") for name in ("btc", "eth")
)
OF_BTC = [
    "database mexc_data",
    "table mexc_data.btc_local",
    "table mexc_data.btc",
    "view mexc_data.btc_ticker",
    "view mexc_data.btc_deals",
    "view mexc_data.btc_depth",
    "view mexc_data.btc_candles_1m",
    "database market_data",
    "table market_data.coverage_local",
    "table market_data.coverage",
    "view market_data.coverage_now",
    *(
        f"table market_data.{name}{local}"
        for name in ("trades", "books", "tickers", "candles", "dead_letters", "contracts")
        for local in ("_local", "")
    ),
    "table market_data.btc_string_rows",
    *(f"view mexc_data.btc_typed_{name}" for name in ("trades", "tickers", "tops")),
    *(f"table market_data.string_{name}" for name in ("trades", "tickers", "tops")),
    *(
        f"view market_data.{name}"
        for name in ("contract_sizes", "trades_all", "books_top", "tickers_all", "candles_from_trades")
    ),
]
T_MS = 1_790_000_000_000


@pytest.fixture
def front(tmp_path) -> Iterator[ClusterFront]:
    with node(tmp_path / "node") as front:
        yield front


@pytest.fixture
def server(front) -> Iterator[Store]:
    with open_store(f"http://127.0.0.1:{front.port}") as store:
        yield store


# what is made


def test_everything_is_made_on_the_cluster_and_a_second_time_nothing(front, server):
    first = setup(server, [BTC], cluster="market")
    assert first.created == OF_BTC
    assert len(front.received) == len(OF_BTC)
    assert all(" ON CLUSTER `market`" in sql for sql in front.received)
    front.received.clear()
    second = setup(server, [BTC], cluster="market")
    assert (second.found, second.created, second.replaced) == (OF_BTC, [], [])
    assert front.received == []


def test_another_symbol_is_added_beside_the_first(front, server):
    setup(server, [BTC], cluster="market")
    added = setup(server, [BTC, ETH], cluster="market").created
    assert added == [one.replace("btc", "eth") for one in OF_BTC if "btc" in one]
    [local, table] = [sql for sql in front.received if "TABLE" in sql and "mexc_data.`eth" in sql]
    assert "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')" in local
    assert table.endswith("ENGINE = Distributed('market', 'mexc_data', 'eth_local', cityHash64('eth'))")
    assert "btc" not in local + table


def test_setup_without_the_option_finds_a_clusters_tables_and_leaves_them(front, server):
    setup(server, [BTC], cluster="market")
    front.received.clear()
    summary = setup(server, [BTC])
    assert (summary.created, summary.replaced, front.received) == ([], [], [])
    check_table(server, "btc")


def test_a_table_that_no_node_has_is_not_made_on_one_alone(server):
    setup(server, [BTC], cluster="market")
    with pytest.raises(SchemaMismatch, match=r"no table mexc_data\.eth") as caught:
        ensure_table(server, "eth")
    assert caught.value.hint.endswith("mexcflow setup --cluster market")
    assert "eth" not in existing_tables(server)


def test_what_a_node_lacks_is_made_there(front, server):
    setup(server, [BTC], cluster="market")
    front.second_node = "name NOT IN ('btc_local', 'btc_depth')"
    front.received.clear()
    assert setup(server, [BTC], cluster="market").created == ["table mexc_data.btc_local",
                                                              "view mexc_data.btc_depth"]  # fmt: skip
    assert len(front.received) == 2
    front.second_node = "1"
    assert setup(server, [BTC], cluster="market").created == []


def test_a_table_of_another_form_on_some_node_is_refused_before_anything_is_made(front, server):
    setup(server, [BTC], cluster="market")
    as_stripelog = "SELECT * REPLACE('StripeLog' AS engine) FROM system.tables WHERE name = 'btc'"
    front.second_node = f"0 UNION ALL {as_stripelog}"
    front.received.clear()
    with pytest.raises(SchemaMismatch, match=r"mexc_data\.btc is Distributed on some nodes and StripeLog"):
        setup(server, [BTC, ETH], cluster="market")
    assert front.received == []


def test_a_view_changed_by_hand_is_replaced_everywhere(front, server):
    setup(server, [BTC], cluster="market")
    server.command("CREATE OR REPLACE VIEW mexc_data.btc_deals AS SELECT 1 AS one")
    front.received.clear()
    assert setup(server, [BTC], cluster="market").replaced == ["view mexc_data.btc_deals"]
    [sql] = front.received
    assert sql.startswith("CREATE OR REPLACE VIEW mexc_data.`btc_deals` ON CLUSTER `market` AS\n")


# what is refused


def test_a_cluster_that_is_not_known_is_refused_with_those_that_are(front, server):
    with pytest.raises(Misuse, match="knows no cluster 'mraket'") as caught:
        setup(server, [BTC], cluster="mraket")
    assert "It knows: market, other" in caught.value.hint
    assert front.received == []


@pytest.mark.parametrize(
    ("macros", "what"),
    [
        ("", "of 1 nodes 0 have a name and the macros"),
        ("<macros><shard>01</shard></macros>", "has no macro 'replica'"),
        ("<macros><replica>01</replica></macros>", "has no macro 'shard'"),
    ],
)
def test_a_node_without_its_macros_is_refused(tmp_path, macros, what):
    with (
        node(tmp_path, macros=macros) as front,
        open_store(f"http://127.0.0.1:{front.port}") as server,
        pytest.raises(Misuse, match=what) as caught,
    ):
        setup(server, [BTC], cluster="market")
    assert "clickhouse/cluster/README.md" in caught.value.hint


def test_two_nodes_with_the_same_macros_are_refused(front, server):
    front.second_node, front.second_macros = "1", ("01", "ch1")
    with pytest.raises(Misuse, match="nodes vm1 and vm2 both are replica 'ch1' of shard '01'"):
        setup(server, [BTC], cluster="market")
    assert front.received == []


def test_a_stripelog_table_of_that_name_is_refused_and_the_hint_says_where_to_read_on(front, server):
    setup(server, [BTC])
    front.received.clear()
    with pytest.raises(
        SchemaMismatch, match=r"mexc_data\.btc exists and is StripeLog; needed is Distr"
    ) as caught:
        setup(server, [BTC], cluster="market")
    assert "docs/scaling.md" in caught.value.hint
    assert "RENAME TABLE mexc_data.btc TO mexc_data.btc_old" in caught.value.hint
    assert front.received == []


def test_one_servers_coverage_is_refused_too(server):
    setup(server, [])
    with pytest.raises(SchemaMismatch, match=r"market_data\.coverage exists and is ReplacingMergeTree"):
        setup(server, [BTC], cluster="market")


def test_tables_of_another_cluster_are_refused(server):
    setup(server, [BTC], cluster="market")
    with pytest.raises(SchemaMismatch, match="spread over the cluster 'market'; needed is 'other'"):
        setup(server, [BTC], cluster="other")


def test_a_table_whose_name_is_that_of_another_ones_rows_is_refused(server):
    with pytest.raises(Misuse, match="'btc_local' is the name of what holds"):
        setup(server, [Instance(symbol="X", table="btc_local", source="x.toml")], cluster="market")


# what is read and written


def rows(*numbers: int) -> list[tuple[int, str, str]]:
    return [(T_MS + number, "d", f"{number}|1|1") for number in numbers]


def test_a_batch_that_is_sent_twice_through_the_distributed_table_is_there_once(server):
    setup(server, [BTC], cluster="market")
    for _ in range(2):
        insert_once(server, "btc", rows(1, 2, 3), token="one")
    insert_once(server, "btc", rows(1, 2, 3), token="two")
    assert server.query("SELECT count() FROM mexc_data.btc") == [(6,)]
    assert server.query("SELECT count() FROM mexc_data.btc_local") == [(6,)]


def test_views_and_verify_read_the_distributed_table(server):
    setup(server, [BTC, ETH], cluster="market")
    insert_once(server, "btc", rows(1, 2, 3), token="one")
    assert server.query("SELECT price, side FROM mexc_data.btc_deals") == [
        (n, "buy") for n in (1.0, 2.0, 3.0)
    ]
    assert server.query("SELECT open, close, trades FROM mexc_data.btc_candles_1m") == [(1.0, 3.0, 3)]
    report = verify(server, [BTC], now_ms=T_MS + 1000)
    assert report.ok, report.problems
    assert list(report.tables) == ["btc", "eth"]
    ((of_parts,),) = server.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'btc_local'"
    )
    assert (report.tables["btc"].rows, report.tables["btc"].data_bin_bytes) == (3, of_parts)
    assert "cannot be seen" in " ".join(report.tables["btc"].notes)


def test_coverage_is_written_once_and_its_newest_version_is_read(server):
    setup(server, [BTC], cluster="market")
    one = Interval("mexc", "BTC_USDT", "deal", 1000, 2000, State.LIVE, "", 3, 3, "run", "host", 2000)
    for _ in range(2):
        write_intervals(server, [one], token="a")
    longer = Interval("mexc", "BTC_USDT", "deal", 1000, 3000, State.LIVE, "", 5, 5, "run", "host", 3000)
    write_intervals(server, [longer], token="b")
    assert read_intervals(server, "mexc", "BTC_USDT") == [longer]
    assert server.query("SELECT seconds, frames FROM market_data.coverage_now") == [(2.0, 5)]
    assert server.query("SELECT count() FROM market_data.coverage_local") == [(2,)]


# the SQL


def test_the_engine_understands_every_statement_whatever_the_names(tmp_path):
    tables = ("btc", "eth_usd", "1000pepe", "local", "x" * 64)
    for_a_table = {
        (table, cluster): read_statements(
            [table], {table: ("it's", "`odd`\\")}, variant="cluster", cluster=cluster
        )
        for table in tables
        for cluster in ("market", "my-cluster", "it's `odd`\\")
    }
    assert {len(statements) for statements in for_a_table.values()} == {len(OF_BTC)}
    with engine(tmp_path) as store:
        for statement in itertools.chain.from_iterable(for_a_table.values()):
            ((formatted,),) = store.query(
                "SELECT formatQuerySingleLine({sql:String})", {"sql": statement.sql}
            )
            assert " ON CLUSTER " in formatted, statement.sql
            assert store.query(f"EXPLAIN AST {statement.sql}")


def test_the_names_are_where_they_belong():
    sql = {str(one): one.sql for one in read_statements(["eth"], variant="cluster", cluster="it's")}
    assert sql["mexc_data.eth"].endswith("Distributed('it\\'s', 'mexc_data', 'eth_local', cityHash64('eth'))")
    assert not [one for one in sql.values() if "btc" in one or "market`" in one or "'market'" in one]


@pytest.mark.parametrize("folder", ["cluster", "mergetree"])
def test_each_file_can_be_pasted_as_it_is(tmp_path, folder):
    with engine(tmp_path) as store:
        for sql in split((shipped("sql") / "010_database.sql").read_text()):
            store.command(sql)
        store.command("CREATE DATABASE market_data ENGINE = Atomic")
        for path in sorted((shipped("sql") / folder).glob("*.sql")):
            for sql in re.split(r";\n", path.read_text()):
                if sql.strip():
                    assert folder == "mergetree" or " ON CLUSTER `market`" in sql
                    store.command(plain(sql))
        kept = {name: one.kept for name, one in existing_tables(store).items()}
        assert kept["btc"] is (Kept.DISTRIBUTED if folder == "cluster" else Kept.MERGETREE)
        check_table(store, "btc")


@pytest.mark.parametrize("table", [name for name, form in needed_forms().items() if form.engine != "Merge"])
def test_the_columns_of_a_clusters_tables_are_those_of_a_servers(table):
    def form(sql: str) -> str:
        columns, _, rest = sql.split("(\n", 1)[1].partition("\n)")
        return columns + rest.partition("SETTINGS")[0]

    alone = {str(one): one.sql for one in read_statements([])}[f"market_data.{table}"]
    spread = {str(one): one.sql for one in read_statements([], variant="cluster", cluster="x")}
    assert form(plain(spread[f"market_data.{table}_local"])) == form(alone)


# the command


def test_the_command_makes_them_and_says_so(front, tmp_path):
    instances = tmp_path / "instances"
    instances.mkdir()
    (instances / "btc.toml").write_text('symbol = "BTC_USDT"\n')
    url = f"http://127.0.0.1:{front.port}"
    ran = mexcflow(
        "setup", "--cluster", "market", "--database", url, "--config", "instances", "--json", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert orjson.loads(ran.stdout)[url]["created"] == OF_BTC


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--cluster", "market"), "is a folder, which has no cluster"),
        (("--cluster", "market", "--database", "./data"), "./data is a folder"),
        (("--cluster", "x", "--engine", "mergetree", "--database", "http://h"), "exclude each other"),
        (("--engine", "memory"), "--engine: 'memory' is not known"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_no_folder(tmp_path, arguments, what):
    ran = mexcflow("setup", *arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert what in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr
    assert not (tmp_path / "data").exists()
