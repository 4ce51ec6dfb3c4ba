"""Instance files with a password that every user of the machine can read: said once, as a warning.

Only what others may read counts. A group is somebody's decision, and how a service is given its settings
(`root:mexcflow`, mode 640). In a container the warning holds as well: a mounted file has the same mode
outside. The file of MEXCFLOW_PASSWORD_FILE is not looked at: Docker makes it readable to all in there.
"""

import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mexcflow.config import Instance

logger = logging.getLogger(__name__)

_CREDENTIALS = re.compile(r"://[^@]*:[^@]+@")
_warned: set[str] = set()


def warn_of_exposed(instances: list[Instance]) -> None:
    """Warn of each file that holds a password and that others may read, once in this process."""
    for instance in instances:
        file = instance.source
        if file in _warned or not any(map(_CREDENTIALS.search, _texts(instance))):
            continue
        if Path(file).stat().st_mode & stat.S_IROTH:
            _warned.add(file)
            logger.warning("%s holds a password, and every user may read it. Run: chmod o-r %s", file, file)


def _texts(instance: Instance) -> Iterator[str]:
    for value in msgspec.structs.astuple(instance):
        yield from (one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str))
