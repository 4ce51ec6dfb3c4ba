"""Ban: HTTP statuses that mean "not you, not now", and for how long one then keeps away.

An address that goes on asking while it is banned is banned for longer, so the pause is far longer than
the waits between attempts at a line that is merely lost. No I/O and no clock.
"""

import math
from email.utils import parsedate_to_datetime

STATUSES = (403, 418, 429, 451)
"""Forbidden, banned (Binance's 418), too many requests, not from this country."""
FIRST_PAUSE_S = 600.0
LONGEST_PAUSE_S = 86_400.0
_LONGEST_ASKED_S = 7 * 86_400.0
"""Nobody is believed who asks for more: it would be a pause without end."""


def pause_s(nth: int, retry_after_s: float) -> float:
    """Return how long to keep away after the nth ban in a row, counted from 1."""
    doubled = FIRST_PAUSE_S * (1 << min(nth - 1, 16))
    return max(min(doubled, LONGEST_PAUSE_S), min(retry_after_s, _LONGEST_ASKED_S))


def read_retry_after(header: str | None, *, now_s: float) -> float:
    """Return the seconds that a `Retry-After` asks for, as a number or as a date; 0 without a usable one."""
    text = (header or "").strip()
    try:
        seconds = float(text) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
