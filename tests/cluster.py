"""A cluster for the tests, as far as the embedded engine can be one: a single node, without Keeper.

Reading and writing through Distributed tables, `clusterAllReplicas`, macros and `system.clusters` are the
engine's own. What needs Keeper is taken away between client and engine: ON CLUSTER, and the `Replicated` of
the engines, whose tokens are then kept by the plain ones. `received` holds what was sent, before that.
"""

import contextlib
import http.server
import re
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect

from mexcflow.config import Instance
from mexcflow.ops.setup import setup
from mexcflow.store import Store, open_store
from mexcflow.store.forms import Kept
from mexcflow.store.store import Attached
from tests.disasters.away import Server
from tests.http_front import HttpFront, Reply

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
INSERT = re.compile(r"INSERT INTO (.*) FORMAT (\w+)\s*$")
OBEYED = ("max_insert_block_size", "min_insert_block_size_rows", "min_insert_block_size_bytes",
          "input_format_parallel_parsing", "insert_deduplication_token", "insert_deduplicate",
          "distributed_foreground_insert", "max_partitions_per_insert_block")  # fmt: skip
"""The settings of an INSERT that are passed on to the engine."""
MACROS = "<macros><shard>01</shard><replica>ch1</replica></macros>"
_PLAIN = (
    (r" ON CLUSTER `market`", ""),
    (r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?(\w*)\)", r"\1(\2)"),
    (r"MergeTree\(\)", "MergeTree"),
    (r"(?<!non_)replicated_deduplication_window_seconds = \d+,\s*", ""),
    (r"(?<!non_)replicated_deduplication_window =", "non_replicated_deduplication_window ="),
)


def unescaped(value: str) -> str:
    """Return a bound parameter as it was meant."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), value, flags=re.S)


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

    def _start_engine(self) -> None:
        pass  # the endpoint cannot open a folder with a configuration of its own: the store's client executes

    def _stop_engine(self) -> None:
        pass

    def _executed(
        self, request: http.server.BaseHTTPRequestHandler, parameters: dict[str, str], body: bytes
    ) -> Reply:
        try:
            return Reply(200, 0, *self._run(parameters, body))
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            return Reply(500, int(code.group(1)) if code else 1, str(error), {})

    def _run(self, parameters: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        if body.startswith(b"CREATE"):
            self.received.append(body.decode())
            body = plain(body.decode()).encode()
        elif self.second_node and b"cluster" in body[:300]:
            body = self._of_both(body.decode()).encode()
        sql, data = parameters.get("query", ""), body
        if not sql:
            head, _, data = body.partition(b"\n") if body.startswith(b"INSERT") else (body, b"", b"")
            sql = head.decode()
        client = self.store._client
        if insert := INSERT.match(sql):
            self._go_on.wait()
            if data:
                settings = {name: parameters[name] for name in OBEYED if name in parameters}
                client.raw_insert(insert[1], insert_block=data, fmt=insert[2], settings=settings)
            return b"", {}
        bound = {
            name.removeprefix("param_"): unescaped(value)
            for name, value in parameters.items()
            if name.startswith("param_")
        }
        result = client.raw_query(sql, parameters=bound or None)
        return result, {"X-ClickHouse-Timezone": "UTC", **({"X-ClickHouse-Format": "TSV"} if result else {})}

    def _of_both(self, sql: str) -> str:
        for table, condition in (("system.tables", self.second_node), ("system.databases", "1")):
            both = f"(SELECT * FROM {table} UNION ALL SELECT * FROM {table} WHERE {condition})"
            sql = sql.replace(f"clusterAllReplicas({{cluster:String}}, {table})", both)
        shard, replica = self.second_macros
        macros = (
            "(SELECT 'vm1' AS host, * FROM system.macros UNION ALL SELECT 'vm2', 'shard', "
            f"'{shard}' UNION ALL SELECT 'vm2', 'replica', '{replica}')"
        )
        sql = sql.replace("hostName() AS host, macro", "host, macro")
        sql = sql.replace("clusterAllReplicas({cluster:String}, system.macros)", macros)
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
    attached = Attached(client, embedded=True, release=client.close)
    with Store(attached, str(folder), folder) as store:
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
