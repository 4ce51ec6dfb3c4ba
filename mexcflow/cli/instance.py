"""The instance that a command means: the file of its symbols, with the flags laid over it."""

from pathlib import Path
from typing import Any

import msgspec

from mexcflow.config import Instance, config_folder
from mexcflow.ops.instances import check_sole_writer, read_instances
from mexcflow.pipeline.check import check_instance


def instance_of(
    exchange: str, symbols: tuple[str, ...], config: Path | None, given: dict[str, Any]
) -> Instance:
    """Return the instance file of these symbols, or a fresh instance, with the flags laid over it.

    What a flag gives is checked here, so that an error names the flag and not the file.
    """
    flags = {key: value for key, value in given.items() if value is not None}
    whose = {"symbol": symbols[0]} if len(symbols) == 1 else {"symbols": symbols}
    of_flags = Instance(exchange=exchange, **whose, **flags)
    check_instance(of_flags, where="command line")
    instances = read_instances(config_folder(config))
    stream = (exchange, set(symbols))
    found = next((one for one in instances if (one.exchange, set(one.all_symbols)) == stream), None)
    if found is not None:
        msgspec.structs.replace(of_flags, table=of_flags.table or found.table).checked()
    instance = msgspec.structs.replace(found or of_flags, **flags).checked()
    check_sole_writer(instance, instances)
    return instance
