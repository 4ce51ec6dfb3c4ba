"""Standard output of commands that go on for weeks."""

import contextlib
import logging
import sys

logger = logging.getLogger(__name__)


def print_or_go_on(text: str) -> None:
    """Print; that nobody can read it any more must not end a recording."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        logger.warning("standard output: %s; no more statistics, recording goes on", error.strerror)
        with contextlib.suppress(OSError):  # what is left in its buffer fails once more
            sys.stdout.close()
        sys.stdout = None
