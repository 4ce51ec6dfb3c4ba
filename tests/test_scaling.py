"""docs/scaling.md and clickhouse/cluster: the engine understands them, and what they say is so."""

import itertools
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mexcflow.config import Instance
from mexcflow.ops.setup import setup
from mexcflow.store import open_store
from mexcflow.store.tokens import insert_once
from tests.cluster import engine, node
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "scaling.md"
CLUSTER = ROOT / "clickhouse" / "cluster"
T_MS = 1_790_000_000_000
SERVERS = {"ch1": "01", "ch2": "01", "ch3": "02", "ch4": "02"}
READ_CONFIG = """
import json, sys, chdb
connection = chdb.connect(f"{sys.argv[1]}?config-file={sys.argv[2]}")
def read(sql):
    return json.loads(connection.query(sql, "JSONCompact").data())["data"]
print(json.dumps({
    "nodes": read("SELECT cluster, shard_num, replica_num, host_name, port, internal_replication "
                  "FROM system.clusters ORDER BY shard_num, replica_num"),
    "macros": dict(read("SELECT macro, substitution FROM system.macros")),
}))
"""


def statements(*pages: Path) -> list[str]:
    """Every SQL statement of these pages."""
    found = [
        part.strip()
        for page in pages
        for block in re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.M | re.S)
        for part in re.split(r";\s*\n", block)
        if part.strip()
    ]
    assert len(found) > 1
    return found


def test_the_engine_understands_every_statement_of_the_pages_whatever_the_table(tmp_path):
    found = statements(PAGE, CLUSTER / "README.md")
    with engine(tmp_path) as store:
        for table, sql in itertools.product(("btc", "eth_usd", "1000pepe"), found):
            named = re.sub(r"mexc_data\.btc(\w*)", rf"mexc_data.`{table}\1`", sql)
            assert store.query("SELECT formatQuery({sql:String})", {"sql": named})
            assert store.query(f"EXPLAIN AST {named}")


def one(sql_begins: str, contains: str) -> str:
    """The one statement of the page that is meant."""
    [found] = [sql for sql in statements(PAGE) if sql.startswith(sql_begins) and contains in sql]
    return found


def test_copied_as_the_page_says_every_row_is_there_and_the_comparison_agrees(tmp_path):
    rows = [(T_MS + number // 3, "d", f"{number % 97 + 1}|1|1") for number in range(5000)]
    rows += [(T_MS + number, "t", f"{number}|1|1|1|0.00010000") for number in range(500)]
    with node(tmp_path) as front, open_store(f"http://127.0.0.1:{front.port}") as store:
        instances = [Instance(symbol=s, table=s) for s in ("btc", "old")]
        setup(store, instances[1:])  # the old server's, StripeLog
        store.insert_rows("old", rows)
        store.command("DROP DATABASE market_data")  # the node plays both servers
        setup(store, instances[:1], cluster="market")
        copy = one("INSERT INTO mexc_data.btc", "'old:9000'")
        front.store.command(
            copy.replace("remote('old:9000', mexc_data.btc, 'mexcflow', 'PASSWORD')",
                         "cluster('market', mexc_data.old)")
        )  # fmt: skip
        assert store.query("SELECT count() FROM mexc_data.btc_local") == [(5500,)]
        for compare in ("GROUP BY mt", "AS day", "AS candles"):
            sql = one("SELECT", compare)
            answer = store.query(sql)
            assert answer == store.query(sql.replace("mexc_data.btc", "mexc_data.old"))
        sql = one("SELECT", "GROUP BY mt")
        before = store.query(sql)
        store.command("INSERT INTO mexc_data.btc SELECT * FROM mexc_data.btc WHERE mt = 'd' LIMIT 1")
        front.store.command("ALTER TABLE mexc_data.btc_local UPDATE m = '0|1|1|1|0.00010000' "
                            "WHERE m LIKE '96|1|1|%' SETTINGS mutations_sync = 2")  # fmt: skip
        assert [was != now for was, now in zip(before, store.query(sql), strict=True)] == [True, True]


def test_every_select_of_the_pages_runs(tmp_path):
    with node(tmp_path) as front, open_store(f"http://127.0.0.1:{front.port}") as store:
        setup(store, [Instance(symbol=s, table=s) for s in ("btc", "eth")], cluster="market")
        insert_once(store, "btc", [(T_MS + 5, "d", "3|1|1")], token="a")
        insert_once(store, "eth", [(T_MS + 4, "d", "4|1|1")], token="a")
        found = [sql for sql in statements(PAGE, CLUSTER / "README.md") if sql.startswith("SELECT")]
        answers = {sql: store.query(sql) for sql in found if "system.replicas" not in sql}
        [joined] = [answer for sql, answer in answers.items() if "ASOF JOIN" in sql]
        assert [row[1:] for row in joined] == [(3.0, 4.0)]
        [parts] = [answer for sql, answer in answers.items() if "system.parts" in sql]
        assert [row[1:] for row in parts] == [("btc_local", 1), ("eth_local", 1)]


def test_what_broke_off_is_taken_away_before_the_cut_and_nothing_behind_it(tmp_path):
    deletes = [sql for sql in statements(PAGE) if sql.startswith("ALTER TABLE")]
    assert len(set(deletes)) == 1
    with node(tmp_path) as front, open_store(f"http://127.0.0.1:{front.port}") as store:
        setup(store, [Instance(symbol="BTC_USDT", table="btc")], cluster="market")
        store.command("INSERT INTO mexc_data.btc VALUES ('2026-11-21 11:59:59.999', 't', 'a'), "
                      "('2026-11-21 12:00:00.000', 't', 'b')")  # fmt: skip
        front.store.command(deletes[0].replace(" ON CLUSTER market", ""))
        assert store.query("SELECT m FROM mexc_data.btc") == [("b",)]


# clickhouse/cluster


def parsed(name: str) -> ET.Element:
    return ET.parse(CLUSTER / name).getroot()


def compose() -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((CLUSTER / "docker-compose.yml").read_text())


def test_servers_keepers_and_names_agree_with_one_another():
    services = compose()["services"]
    cluster, keeper = parsed("cluster.xml"), parsed("keeper.xml")
    servers = {
        host.text: f"{number:02d}"
        for number, shard in enumerate(cluster.iterfind("remote_servers/market/shard"), 1)
        for host in shard.iterfind("replica/host")
    }
    assert servers == SERVERS
    assert {
        name: one["environment"]["CLICKHOUSE_SHARD"]
        for name, one in services.items()
        if "CLICKHOUSE_SHARD" in one["environment"]
    } == SERVERS
    assert all(services[name]["environment"]["CLICKHOUSE_REPLICA"] == name for name in SERVERS)
    raft = {
        one.findtext("hostname"): one.findtext("id")
        for one in keeper.iterfind(".//raft_configuration/server")
    }
    assert raft == {
        name: one["environment"]["KEEPER_ID"]
        for name, one in services.items()
        if "KEEPER_ID" in one["environment"]
    }
    assert {host.text for host in cluster.iterfind("zookeeper/node/host")} == set(raft)
    assert {port.text for port in cluster.iterfind("zookeeper/node/port")} == {keeper.findtext(".//tcp_port")}
    assert set(services) == set(raft) | set(servers)
    assert all(one["hostname"] == name for name, one in services.items())
    assert all(one.text == "true" for one in cluster.iterfind(".//internal_replication"))
    assert len(list(cluster.iterfind(".//internal_replication"))) == len(set(SERVERS.values()))


def test_whatever_comes_from_the_environment_is_given_to_every_container_that_asks_for_it():
    services = compose()["services"]
    for name, one in services.items():
        config = parsed("keeper.xml" if name.startswith("keeper") else "cluster.xml")
        asked = {element.get("from_env") for element in config.iter() if element.get("from_env")}
        assert asked
        assert asked <= set(one["environment"])


def test_no_secret_is_written_down_and_all_are_asked_for():
    assert parsed("cluster.xml").find("remote_servers/market/secret").attrib == {"from_env": "CLUSTER_SECRET"}
    text = (CLUSTER / "docker-compose.yml").read_text()
    example = dict(
        line.split("=", 1)
        for line in (CLUSTER / ".env.example").read_text().splitlines()
        if ("=" in line and not line.startswith("# ")) or re.match(r"# [A-Z_]+=", line)
    )
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"CLICKHOUSE_PASSWORD", "CLUSTER_SECRET"}
    assert all(example[name] == "" for name in required)
    optional = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert {name.removeprefix("# "): value for name, value in example.items() if value} == optional


def test_only_this_machine_reaches_the_ports_and_every_volume_and_file_is_there():
    document = compose()
    ports = [port for one in document["services"].values() for port in one.get("ports", ())]
    assert sorted(ports) == [f"127.0.0.1:{8123 + number}:8123" for number in range(4)]
    for one in document["services"].values():
        for volume in one["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (CLUSTER / source).is_file()
            elif source.startswith("../"):
                assert (ROOT / "clickhouse" / "config.d").is_dir() is False or (CLUSTER / source).is_file()
            else:
                assert source in document["volumes"]


@pytest.mark.parametrize("server", ["ch1", "ch4"])
def test_the_engine_reads_the_cluster_and_its_macros_out_of_the_file(tmp_path, server):
    variables = {"CLICKHOUSE_SHARD": SERVERS[server], "CLICKHOUSE_REPLICA": server, "CLUSTER_SECRET": "s"}
    ran = subprocess.run(
        [sys.executable, "-c", READ_CONFIG, str(tmp_path / "data"), str(CLUSTER / "cluster.xml")],
        capture_output=True, text=True, check=False, env={**os.environ, **variables}, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    seen = json.loads(ran.stdout)
    assert seen["macros"] == {"cluster": "market", "shard": SERVERS[server], "replica": server}
    assert seen["nodes"] == [
        ["market", int(shard), number, host, 9000, 1]
        for number, (host, shard) in zip((1, 2, 1, 2), SERVERS.items(), strict=True)
    ]
