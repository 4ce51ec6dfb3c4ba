"""Reading a string table from end to end: counts, times, and rows that are not what we write.

Each row's `m` is matched against the one shape its `mt` may have (RE2, which takes linear time whatever
the row holds). `mt` is compared as a number, because a value that the Enum does not know, put there by
another program, makes every comparison by name fail.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mexcflow.model import DEAD_LETTER_CHARS, Row
from mexcflow.store.store import DATABASE, Store

TYPES = {1: "t", 2: "d", 3: "dp", 4: "dl"}
"""`mt` by its number in the Enum."""

_DEPTH_LEVELS = 20
_FIRST_SANE_MS = 1_000_000_000_000
"""2001-09-09, the first time that has 13 digits of ms; the decoder takes no earlier one."""
_FUTURE_MS = 86_400_000
"""How far an exchange's clock may be ahead of ours: a day."""
_EXAMPLE_CHARS = 200

_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?"
_FUNDING_RATE = r"-?(?:0|[1-9][0-9]*)\.[0-9]{8,}"
_LEVEL = rf"\[{_NUMBER},{_NUMBER}\]"
_SIDE = f"(?:{_LEVEL}(?:,{_LEVEL})*)?"
_TICKER = rf"^{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|{_FUNDING_RATE}$"
_DEAL = rf"^{_NUMBER}\|{_NUMBER}\|[12]$"
_DEPTH = rf"^{_SIDE}\|{_SIDE}$"

# counting the brackets of each side is cheaper than {0,19} in the expression (300 against 480 ms)
_SCAN = """
SELECT
    code, count(), min(ms), ifNull(maxOrNullIf(ms, ms <= {last_sane_ms:Int64}), max(ms)), countIf(bad),
    groupArrayIf(3)((ms, substringUTF8(m, 1, {example_chars:UInt16})), bad),
    groupArraySortedIf(3)((-ms, m), code = 4)
FROM
(
    SELECT
        CAST(mt, 'Int8') AS code, m, toUnixTimestamp64Milli(ts) AS ms,
        NOT multiIf(
            code = 1, match(m, {ticker:String}),
            code = 2, match(m, {deal:String}),
            code = 3, match(m, {depth:String})
                AND countSubstrings(substring(m, 1, position(m, '|')), '[') <= {levels:UInt8}
                AND countSubstrings(substring(m, position(m, '|')), '[') <= {levels:UInt8},
            code = 4, lengthUTF8(m) <= {dead_letter_chars:UInt16},
            false
        ) OR ms NOT BETWEEN {first_sane_ms:Int64} AND {last_sane_ms:Int64} AS bad
    FROM {database:Identifier}.{table:Identifier}
)
GROUP BY code
"""

# one thread reads StripeLog in the order of the inserts; a frame of two rows keeps nothing in memory
_BACKWARDS = """
SELECT countIf(step < -{limit_ms:Int64}), min(step), argMin(ms, step)
FROM
(
    SELECT ms, ms - lagInFrame(ms, 1, ms) OVER (ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS step
    FROM
    (
        SELECT toUnixTimestamp64Milli(ts) AS ms
        FROM {database:Identifier}.{table:Identifier}
        WHERE CAST(mt, 'Int8') != 4
    )
)
SETTINGS max_threads = 1
"""


class TypeScan(NamedTuple):
    """The rows of one `mt`: number, first and last time (Unix ms), what does not decode, newest three.

    `code` is the Enum's number. `examples` and `newest` hold (Unix ms, text); `newest` is filled for dead
    letters only.
    """

    code: int
    rows: int
    first_ms: int
    last_ms: int
    undecodable: int
    examples: list[tuple[int, str]]
    newest: list[tuple[int, str]]


class Backwards(NamedTuple):
    """Event times that are more than a limit before the row in front of them; the worst step in ms."""

    rows: int
    worst_ms: int
    worst_at_ms: int


def scan_table(store: Store, table: str, now_ms: int) -> list[TypeScan]:
    """Read every row of a table once and return what was found for each `mt` (0.6 s a million rows)."""
    shapes = {"ticker": _TICKER, "deal": _DEAL, "depth": _DEPTH, "levels": _DEPTH_LEVELS}
    limits = {
        "first_sane_ms": _FIRST_SANE_MS,
        "last_sane_ms": now_ms + _FUTURE_MS,
        "dead_letter_chars": DEAD_LETTER_CHARS,
        "example_chars": _EXAMPLE_CHARS,
    }
    rows = store.query(_SCAN, {"database": DATABASE, "table": table, **shapes, **limits})
    return [
        TypeScan(code, count, first, last, bad, list(examples), [(-ms, m) for ms, m in newest])
        for code, count, first, last, bad, examples, newest in rows
    ]


def scan_order(store: Store, table: str, limit_ms: int) -> Backwards:
    """Compare each event time with that of the row stored before it; dead letters have none."""
    names = {"database": DATABASE, "table": table}
    return Backwards(*store.query(_BACKWARDS, {**names, "limit_ms": limit_ms})[0])


_BEHIND = """
SELECT toUnixTimestamp64Milli(ts), toString(mt), m
FROM {database:Identifier}.{table:Identifier}
LIMIT {rows:UInt64} OFFSET {offset:UInt64}
SETTINGS max_threads = 1
"""
_MOST_ROWS = 2_000_000


def holds_rows(store: Store, table: str, offset: int, rows: Sequence[Row]) -> bool:
    """Say whether a table holds exactly these rows, one behind the other, somewhere behind `offset`."""
    names = {"database": DATABASE, "table": table, "offset": offset, "rows": _MOST_ROWS}
    there = store.query(_BEHIND, names)
    wanted = list(rows)
    last = len(there) - len(wanted)
    return any(there[at] == wanted[0] and there[at : at + len(wanted)] == wanted for at in range(last + 1))
