"""Ctrl-C at once, also while the database works.

The embedded engine gives a signal to Python only when its statement is done, so a long one runs in a
thread of its own while the main thread waits for it and for the signal.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_INTERRUPTED = 130
_WAIT_S = 0.2


def interruptible(work: Callable[[], T], *, before_exit: Callable[[], None] = lambda: None) -> T:
    """Return what `work` returns (or raise what it raises); Ctrl-C ends the process with 130.

    The process then ends without closing the database, as a kill would end it: an INSERT is there as a
    whole or not at all. `before_exit` puts the terminal in order.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, name="statement", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_WAIT_S)
    except KeyboardInterrupt:
        before_exit()
        end_now(_INTERRUPTED)
    if errors:
        raise errors[0]
    return results[0]


def end_now(code: int) -> None:
    """End the process without waiting for the database; what was printed is out, unless nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # a closed pipe
    os._exit(code)
