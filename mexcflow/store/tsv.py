"""Rows of a string table as TabSeparated text, the form an INSERT sends.

A row is `ts <tab> mt <tab> m <newline>`. `ts` goes as its 13 digits of Unix ms, which ClickHouse reads
exactly (measured: 13 digits are ms, 10 are s, any other number of digits is refused or a date), so
times outside 2001-09-09 .. 2286-11-20 go as text. In `m`, the characters that mean something to the
format are escaped with a backslash.

This is the hottest Python of the recorder after decoding: what nearly no row needs is looked for in the
joined text, at C speed, and only then done row by row.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mexcflow.errors import StatementRefused
from mexcflow.model import Row

MESSAGE_TYPES = frozenset({"t", "d", "dp", "dl"})

_FIRST_13_DIGITS_MS = 10**12
_LAST_13_DIGITS_MS = 10**13 - 1
_FIRST_MS = -2208988800000
"""1900-01-01, the first moment of a DateTime64(3)."""
_LAST_MS = 10413791999999
"""2299-12-31 23:59:59.999, the last one."""

_ESCAPES = {
    ord("\\"): "\\\\",
    ord("\t"): "\\t",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\0"): "\\0",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
}


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return `rows` as TabSeparated bytes in UTF-8; a lone surrogate, which UTF-8 has not, becomes '?'.

    Raises `StatementRefused`, naming the row, when an `mt` or a `ts` cannot be stored: ClickHouse would
    refuse some of these and store others wrongly (an unknown Enum value comes in as 0 in some formats).
    """
    if not rows:
        return b""
    times, types, messages = zip(*rows, strict=True)
    if not MESSAGE_TYPES.issuperset(types):
        raise _bad_type(types)
    if min(times) < _FIRST_13_DIGITS_MS or max(times) > _LAST_13_DIGITS_MS:
        times = tuple(map(_spelled, times, range(len(rows))))
    if _needs_escapes("".join(messages)):
        messages = tuple([message.translate(_ESCAPES) for message in messages])
    lines = [f"{ts}\t{mt}\t{m}\n" for ts, mt, m in zip(times, types, messages, strict=True)]
    return "".join(lines).encode("utf-8", "replace")


def escaped(text: str) -> str:
    """Return a text as one field."""
    return text.translate(_ESCAPES)


def spelled_ms(ts_ms: int) -> str:
    """Return a time in a form that is read exactly whatever its number of digits."""
    if _FIRST_13_DIGITS_MS <= ts_ms <= _LAST_13_DIGITS_MS:
        return str(ts_ms)
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts_ms)
    return f"{when:%Y-%m-%d %H:%M:%S}.{ts_ms % 1000:03d}Z"


def _needs_escapes(text: str) -> bool:
    return any(special in text for special in "\\\t\n\r\0\b\f")


def _spelled(ts_ms: int, index: int) -> str:
    if not _FIRST_MS <= ts_ms <= _LAST_MS:
        raise StatementRefused(
            f"row {index} of the batch: ts {ts_ms} ms is outside 1900 .. 2299",
            hint="ts is Unix time in milliseconds",
        )
    return spelled_ms(ts_ms)


def _bad_type(types: Sequence[str]) -> StatementRefused:
    index, mt = next((i, mt) for i, mt in enumerate(types) if mt not in MESSAGE_TYPES)
    return StatementRefused(
        f"row {index} of the batch: mt {mt!r} is none of {', '.join(sorted(MESSAGE_TYPES))}",
        hint="Nothing of the batch was stored",
    )
