"""The disk: stop before it is full.

chDB reports success on a full disk and leaves a table that cannot be read (measured), so there is no
looking away from it: whatever --min-free says, some room must be left.
"""

import os
from pathlib import Path

from mexcflow.errors import DiskFailed

LEAST_FREE_BYTES = 50_000_000
"""Several of the largest batches, and the temporary files of their inserts."""


def check_free(folder: Path, min_free_bytes: int) -> None:
    """Raise `DiskFailed` when the disk of `folder` is nearly full, or read-only."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        raise DiskFailed(f"{folder}: {error.strerror}") from error
    if disk.f_flag & os.ST_RDONLY:
        # after an error of the disk: the system may go on saying that it writes, and syncs
        raise DiskFailed(f"{folder}: its disk is mounted read-only", hint="See dmesg: does the disk fail?")
    free = disk.f_bavail * disk.f_frsize
    least = max(min_free_bytes, LEAST_FREE_BYTES)
    if free < least:
        raise DiskFailed(
            f"{folder}: {free / 1e6:,.0f} MB free on the disk, less than the {least / 1e6:,.0f} MB that have "
            "to stay free (--min-free)",
            hint="Free some space and start again; what is stored is unharmed",
        )
