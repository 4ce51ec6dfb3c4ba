"""Frames of exchanges with typed tables, and exactly what they must be read as.

A line of `frames/<exchange>.jsonl` is a frame and what its reading says: what is not there is not set. A dead
letter has a part of its reason instead, so that it is one for that reason. A line with `wanted` says what was
asked for, see `test_typed_exchanges.py`.
"""

import json
from pathlib import Path

import msgspec

from mexcflow.exchanges import TypedExchange
from mexcflow.model import Kind, TypedReading

CAPTURED = Path(__file__).resolve().parents[2] / "shared/data/frames"
UNSET = (None, "", [], False)


def cases(exchange: str) -> list[dict]:
    lines = (Path(__file__).parent / f"frames/{exchange}.jsonl").read_text().splitlines()
    return [case for line in lines if "frame" in (case := json.loads(line))]


def rows(reading: TypedReading) -> list[dict]:
    """Return the rows with the fields that say something; False is something, None is not."""
    return [
        {key: value for key, value in row.items() if value is not None}
        for row in json.loads(msgspec.json.encode(reading.rows))
    ]


def plain(reading: TypedReading) -> dict:
    """Return what a reading says, without what it leaves open."""
    fields = {**json.loads(msgspec.json.encode(reading)), "rows": rows(reading)}
    return {key: value for key, value in fields.items() if value not in UNSET}


def read(exchange: TypedExchange, case: dict) -> dict:
    """Return what the frame of a case is read as, to be compared with `expected`."""
    try:
        return plain(exchange.read(case["frame"].encode()))
    except (ValueError, LookupError) as error:  # msgspec's errors are ValueErrors
        reason = case.get("reason", "")
        return {"kind": Kind.DEAD_LETTER, "reason": reason if reason in str(error) else str(error)}


def expected(case: dict) -> dict:
    return {key: value for key, value in case.items() if key not in ("about", "frame")}


def captured(*patterns: str) -> list[str]:
    """Return the captured frames of these files, one a line."""
    return [
        line
        for pattern in patterns
        for path in sorted(CAPTURED.glob(pattern))
        for line in path.read_text().splitlines()
    ]
