"""Times of exchanges as Unix µs; what is no time between 2001 and 2286 is `Undecodable`."""

import re
from datetime import UTC, datetime
from functools import lru_cache

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
    micros = text[20:26]
    if text[26:] == "Z" and text[19] == "." and len(micros) == 6 and micros.isdecimal() and text.isascii():
        return _second(text[:19]) + int(micros)
    match = _ISO(text)
    if match is None:
        raise Undecodable(f"no time: {text[:40]}")
    return _second(match[1]) + int((match[2] or "").ljust(6, "0")[:6])


def us_if_said(text: str) -> int:
    """Return the same, 0 for ''."""
    return us_of_iso(text) if text else 0


@lru_cache(maxsize=256)  # many frames a second share it
def _second(text: str) -> int:
    """Return '2026-09-02T07:44:10' in Unix µs."""
    if not _ISO(text + "Z"):
        raise Undecodable(f"no time: {text[:40]}")
    try:
        ms = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError as error:
        raise Undecodable(f"no time: {text[:40]}") from error
    if not _FIRST_MS <= ms <= _LAST_MS:
        raise Undecodable(f"a time that is none: {text[:40]}")
    return ms * 1000
