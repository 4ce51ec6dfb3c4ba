"""A cluster for the tests, as far as the embedded engine can be one: a single node, without Keeper.

Reading and writing through Distributed tables, `clusterAllReplicas`, macros and `system.clusters` are the
engine's own. What needs Keeper is taken away between client and engine: ON CLUSTER, and the `Replicated` of
the engines, whose tokens are then kept by the plain ones. `received` holds what was sent, before that.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect

from mexcflow.config import Instance
from mexcflow.ops.setup import setup
from mexcflow.store import Store, open_store
from mexcflow.store.forms import Kept
from tests.disasters.away import Server
from tests.http_front import HttpFront

CONFIG = """<clickhouse>
    <tcp_port>9000</tcp_port>
    <remote_servers>
        <market>
            <shard>
                <internal_replication>true</internal_replication>
                <replica><host>127.0.0.1</host><port>9000</port></replica>
            </shard>
        </market>
        <other><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></other>
    </remote_servers>
    {macros}
</clickhouse>
"""
MACROS = "<macros><shard>01</shard><replica>ch1</replica></macros>"
_PLAIN = (
    (r" ON CLUSTER `market`", ""),
    (r"ReplicatedMergeTree\('[^']*', '[^']*'\)", "MergeTree"),
    (r"ReplicatedReplacingMergeTree\('[^']*', '[^']*', updated\)", "ReplacingMergeTree(updated)"),
    (r"(?<!non_)replicated_deduplication_window_seconds = \d+,\s*", ""),
    (r"(?<!non_)replicated_deduplication_window =", "non_replicated_deduplication_window ="),
)


def plain(sql: str) -> str:
    """Return a statement as an engine without Keeper can execute it."""
    for pattern, instead in _PLAIN:
        sql = re.sub(pattern, instead, sql)
    return sql


class ClusterFront(HttpFront):
    """A node of the cluster `market`."""

    def __init__(self, store: Store, password: str = "") -> None:
        super().__init__(store, password)
        self.received: list[str] = []
        self.second_node = ""
        """What of `system.tables` a second node has, as a condition; '': there is no second node."""
        self.second_macros = ("02", "ch2")

    def _run(self, parameters: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        if body.startswith(b"CREATE"):
            self.received.append(body.decode())
            body = plain(body.decode()).encode()
        elif self.second_node and b"cluster" in body[:300]:
            body = self._of_both(body.decode()).encode()
        return super()._run(parameters, body)

    def _of_both(self, sql: str) -> str:
        for table, condition in (("system.tables", self.second_node), ("system.databases", "1")):
            both = f"(SELECT * FROM {table} UNION ALL SELECT * FROM {table} WHERE {condition})"
            sql = sql.replace(f"clusterAllReplicas({{cluster:String}}, {table})", both)
        macros = "', '".join(self.second_macros)
        sql = re.sub(
            r"FROM (clusterAllReplicas\(.*, view\(.*\)\))",
            rf"FROM (SELECT * FROM \1 UNION ALL SELECT 'vm2', '{macros}')",
            sql,
            flags=re.S,
        )
        return sql.replace("SELECT count() FROM system.clusters", "SELECT 2 * count() FROM system.clusters")


@contextlib.contextmanager
def engine(folder: Path, *, macros: str = MACROS) -> Iterator[Store]:
    """The embedded engine with the configuration of a cluster's node."""
    folder.mkdir(exist_ok=True)
    config = folder / "cluster.xml"
    config.write_text(CONFIG.format(macros=macros))
    client = clickhouse_connect.get_client(
        interface="chdb",
        path=f"{folder / 'data'}?config-file={config}",
        settings={"session_timezone": "UTC"},
        show_clickhouse_errors="scrub",
    )
    with Store(client, str(folder), folder) as store:
        yield store


@contextlib.contextmanager
def node(folder: Path, *, macros: str = MACROS) -> Iterator[ClusterFront]:
    """The same behind HTTP."""
    with engine(folder, macros=macros) as store, ClusterFront(store) as front:
        front.server.handle_error = lambda *_: None  # connections that were cut: as they were meant to be
        yield front


class MergeTreeServer(Server):
    """A server that can go away, whose string table is MergeTree."""

    def _start(self) -> None:
        super()._start()
        with open_store(f"http://127.0.0.1:{self.front.port}") as store:
            setup(store, [Instance(symbol="BTC_USDT", table="btc")], kept=Kept.MERGETREE)


class ClusterServer(Server):
    """A cluster's node that can go away."""

    def _start(self) -> None:
        self.front = self._running.enter_context(node(self._folder))
        self.store = self.front.store
        with open_store(f"http://127.0.0.1:{self.front.port}") as store:
            setup(store, [Instance(symbol="BTC_USDT", table="btc")], cluster="market")
