"""The same tables on every node of a cluster: ON CLUSTER, replicated, read and written through Distributed.

The server that we are connected to does it for all. What is there is asked of all nodes, so a node that was
added later gets what the others have, and a table that only some have in our form is found before anything
is changed. Needs Keeper, the macros `shard` and `replica` on every node, and all nodes up.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mexcflow.config import check_table_name
from mexcflow.errors import Misuse, SchemaMismatch
from mexcflow.store.forms import LOCAL, Kept
from mexcflow.store.schema import SetupSummary, Tables, bring, refuse_mismatches, tables_of
from mexcflow.store.statements import Statement, Stream, read_statements
from mexcflow.store.store import Store

_NODES = """
SELECT database, name, count(), groupUniqArray(engine), uniqExact(as_select)
FROM clusterAllReplicas({cluster:String}, system.tables)
WHERE database IN ('mexc_data', 'market_data')
GROUP BY database, name
"""
_DATABASES = """
SELECT name, count() FROM clusterAllReplicas({cluster:String}, system.databases)
WHERE name IN ('mexc_data', 'market_data') GROUP BY name
"""
_MACROS = """
SELECT hostName() AS host, macro, substitution
FROM clusterAllReplicas({cluster:String}, system.macros)
WHERE macro IN ('shard', 'replica')
"""


class _Spread(NamedTuple):
    """On how many nodes a table is, and whether it is the same there."""

    nodes: int
    engines: list[str]
    selects: int


def apply_on_cluster(
    store: Store, tables: Sequence[str], cluster: str, streams: Mapping[str, Stream] | None = None
) -> SetupSummary:
    """Bring all nodes of a cluster to what `sql/` says for these string tables; see `schema.apply`.

    Raises `Misuse` when there is no such cluster or its nodes are not told apart.
    """
    for table in tables:
        check_table_name(table, where="--table")
        if table.endswith(LOCAL):
            raise Misuse(
                f"--table: {table!r} is the name of what holds another table's rows in a cluster",
                hint=f"Give one that does not end in {LOCAL}",
            )
    nodes = _check_cluster(store, cluster)
    statements = read_statements(tables, streams, variant="cluster", cluster=cluster)
    existing = tables_of(store, statements)
    refuse_mismatches(statements, existing, kept=Kept.DISTRIBUTED)
    _refuse_other_cluster(statements, existing, cluster)
    spread = _spread(store, cluster)
    for statement in statements:
        _refuse_unlike(statement, spread.get((statement.database, statement.name)))
    summary = SetupSummary()
    for statement in statements:
        found = spread.get((statement.database, statement.name))
        everywhere = found is not None and found.nodes == nodes and found.selects == 1
        there = existing.get(statement.database, {}).get(statement.name) if everywhere else None
        bring(store, statement, summary, there=there)
    return summary


def _check_cluster(store: Store, cluster: str) -> int:
    """Return how many nodes the cluster has."""
    known = [name for (name,) in store.query("SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster")]
    if cluster not in known:
        raise Misuse(
            f"--cluster: {store.location} knows no cluster {cluster!r}",
            hint=f"It knows: {', '.join(known) or 'none'}. They stand in remote_servers of its configuration",
        )
    of_cluster = {"cluster": cluster}
    ((nodes,),) = store.query(
        "SELECT count() FROM system.clusters WHERE cluster = {cluster:String}", of_cluster
    )
    macros: dict[str, dict[str, str]] = {}
    for host, macro, value in store.query(_MACROS, of_cluster):
        macros.setdefault(host, {})[macro] = value
    _check_macros(macros, int(nodes))
    return int(nodes)


def _check_macros(macros: dict[str, dict[str, str]], nodes: int) -> None:
    """Raise `Misuse` unless the macros, by node, tell all nodes apart."""
    named: dict[tuple[str, str], str] = {}
    for host, of_host in sorted(macros.items()):
        for macro in ("shard", "replica"):
            if not of_host.get(macro):
                raise Misuse(f"--cluster: node {host} has no macro {macro!r}", hint=_MACROS_HINT)
        shard, replica = of_host["shard"], of_host["replica"]
        if (shard, replica) in named:
            raise Misuse(
                f"--cluster: nodes {named[shard, replica]} and {host} both are replica {replica!r} of shard "
                f"{shard!r} by their macros",
                hint=_MACROS_HINT,
            )
        named[shard, replica] = host
    if len(named) < nodes:
        raise Misuse(
            f"--cluster: of {nodes} nodes {len(named)} have a name and the macros 'shard' and 'replica' "
            "of their own",
            hint=_MACROS_HINT,
        )


_MACROS_HINT = "Each node's configuration has its own <macros>: see clickhouse/cluster/README.md"


def _spread(store: Store, cluster: str) -> dict[tuple[str, str], _Spread]:
    of_cluster = {"cluster": cluster}
    found = {
        (database, name): _Spread(int(count), list(engines), int(selects))
        for database, name, count, engines, selects in store.query(_NODES, of_cluster)
    }
    for name, count in store.query(_DATABASES, of_cluster):
        found[name, ""] = _Spread(int(count), [""], 1)
    return found


def _refuse_unlike(statement: Statement, found: _Spread | None) -> None:
    if found is not None and len(found.engines) > 1:
        raise SchemaMismatch(
            f"{statement} is {' on some nodes and '.join(sorted(found.engines))} on others",
            hint="Rename the one that is not the cluster's, on its node",
        )


def _refuse_other_cluster(statements: Sequence[Statement], existing: Tables, cluster: str) -> None:
    for statement in statements:
        there = existing.get(statement.database, {}).get(statement.name)
        if there is not None and there.cluster and there.cluster != cluster:
            raise SchemaMismatch(
                f"{statement} exists and is spread over the cluster {there.cluster!r}; needed is {cluster!r}",
                hint=f"Give --cluster {there.cluster}, or rename it",
            )
