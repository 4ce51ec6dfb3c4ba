"""The instance files as a whole: each one right in itself, and no two in each other's way."""

from pathlib import Path

from mexcflow.config import Instance, database_location, load_instances
from mexcflow.errors import Misuse
from mexcflow.ops.exposure import warn_of_exposed
from mexcflow.pipeline.check import check_instance
from mexcflow.store.credentials import shown_location
from mexcflow.store.folder import has_database


def read_instances(config: Path) -> list[Instance]:
    """Return every instance of a folder (or of one file); a wrong one is not passed over in silence."""
    instances = load_instances(config)
    streams: dict[tuple[str, str], Instance] = {}
    for instance in instances:
        check_instance(instance, where=instance.source)
        for symbol in instance.all_symbols:
            other = streams.setdefault((instance.exchange, symbol), instance)
            if other is not instance:
                raise Misuse(
                    f"{symbol} of {instance.exchange} is described twice: {other.source}, {instance.source}",
                    hint="Keep one of them",
                )
        check_sole_writer(instance, instances)
    warn_of_exposed(instances)
    return instances


def check_sole_writer(instance: Instance, instances: list[Instance]) -> None:
    """Raise `Misuse` when a table that `instance` would write into is another stream's by its file."""
    for other in () if instance.is_typed else instances:
        stream = (other.exchange, other.symbol)
        if other.table == instance.table and stream != (instance.exchange, instance.symbol):
            raise Misuse(
                f"table {instance.table!r} is that of {other.symbol} ({other.source})",
                hint=f"A table holds one symbol: give another for {instance.symbol} with --table",
            )


def database_to_read(given: str | None, config: Path) -> str:
    """Return the database that a reading command means: what was given, else that of the instances."""
    if given is not None:
        return given
    named = {database_location(None, instance): None for instance in load_instances(config)}
    there = [location for location in named if has_database(location)]
    if len(there) > 1:
        names = ", ".join(map(shown_location, there))
        raise Misuse(f"the instance files name several databases: {names}", hint="Give one with --database")
    return there[0] if there else next(iter(named), database_location(None))
