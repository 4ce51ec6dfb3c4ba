"""Setup: databases, tables and views of every instance; the server's own logs go."""

from collections.abc import Sequence

from mexcflow.config import Instance
from mexcflow.ops.instances import check_sole_writer
from mexcflow.store import Store
from mexcflow.store.cluster import apply_on_cluster
from mexcflow.store.forms import Kept
from mexcflow.store.schema import SetupSummary, apply, drop_system_logs

__all__ = ["SetupSummary", "setup"]


def setup(
    store: Store, instances: Sequence[Instance], *, kept: Kept | None = None, cluster: str = ""
) -> SetupSummary:
    """Create what these instances need and drop the system logs; a second time it finds all of it there.

    `kept`: how the string tables are to keep their rows, if not any way will do. `cluster`: on all nodes of
    that one.

    Raises `Misuse` when two instances write into one table or there is no such cluster, `SchemaMismatch`
    when a table of such a name is not ours; nothing is changed then.
    """
    for instance in instances:  # also those that come from no file
        check_sole_writer(instance, list(instances))
    strings = [instance for instance in instances if not instance.is_typed]
    tables = [instance.table for instance in strings]
    streams = {instance.table: (instance.exchange, instance.symbol) for instance in strings}
    if cluster:
        summary = apply_on_cluster(store, tables, cluster, streams)
    else:
        summary = apply(store, tables, streams, kept=kept)
    summary.add(drop_system_logs(store))
    return summary
