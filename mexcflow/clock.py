"""Time as a parameter: what reads a clock takes one, so that a test can hold it."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for intervals, and a wait that can be cut short."""

    def time_ns(self) -> int:
        """Unix time in ns."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set (True) or `seconds` have passed (False)."""


class SystemClock:
    """The machine's own clock."""

    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def wait(event: threading.Event, seconds: float) -> bool:
        """See `Clock.wait`."""
        return event.wait(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()
