"""Times of exchanges as Unix µs; what is no time between 2001 and 2286 is `Undecodable`."""

import re
from datetime import UTC, datetime

from mexcflow.model import Undecodable

_FIRST_MS, _LAST_MS = 1_000_000_000_000, 9_999_999_999_999
_ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z").fullmatch


def us_of_ms(value: int | str) -> int:
    """Return Unix ms, as a number or its digits, in µs."""
    ms = int(value)
    if _FIRST_MS <= ms <= _LAST_MS:
        return ms * 1000
    raise Undecodable(f"a time that is no Unix time in ms: {str(value)[:40]}")


def us_of_iso(text: str) -> int:
    """Return '2026-09-02T07:44:10.104422Z' in Unix µs; digits beyond µs are cut."""
    match = _ISO(text)
    if match is None:
        raise Undecodable(f"no time: {text[:40]}")
    try:
        seconds = int(datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise Undecodable(f"no time: {text[:40]}") from error
    fraction = (match[2] or "").ljust(6, "0")[:6]
    us_of_ms(seconds * 1000)
    return seconds * 1_000_000 + int(fraction)
