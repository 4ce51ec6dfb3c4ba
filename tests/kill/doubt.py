"""What a kill left in doubt: the batch that was named in the journal and not acknowledged, if there is one.

Read from the files alone, between the kill and the next start, so that nothing is left to the code that
will have to decide the same.
"""

import json
from pathlib import Path
from typing import NamedTuple

from mexcflow.journal import Kind
from mexcflow.journal.segments import list_segments, scan
from mexcflow.store.stripelog import read_index
from tests.torn import table_in


class Doubt(NamedTuple):
    """A batch that may or may not be in the table."""

    name: str
    found: str
    """'present', 'absent', or what is neither."""


def left_in_doubt(data: Path, symbol: str = "BTC_USDT", table: str = "btc") -> Doubt | None:
    """Return the batch in doubt and whether it is in the table."""
    batch = _newest_batch(data / "journal/mexc" / symbol)
    if batch is None:
        return None
    before, rows, now = batch["rows_before"], batch["rows"], _rows_in(table_in(data, table))
    found = {before: "absent", before + rows: "present"}.get(now, f"{now} rows, not {before} or {rows} more")
    return Doubt(batch["name"], found)


def _newest_batch(journal: Path) -> dict | None:
    """Return the newest batch record, None when it is acknowledged or there is none."""
    newest = None
    for segment in list_segments(journal):
        for chunk in scan(segment):
            if chunk.record is not None and chunk.record.kind is Kind.BATCH:
                newest = json.loads(chunk.record.payload)
            elif chunk.record is not None and chunk.record.kind is Kind.ACKNOWLEDGED:
                newest = None
    return newest


def _rows_in(table: Path) -> int:
    """Return how many rows the files hold that the engine would take as committed."""
    sizes = table / "sizes.json"
    if not sizes.exists():
        return 0
    ((_, files),) = json.loads(sizes.read_text()).items()
    if not (table / "index.mrk").exists():  # killed in the middle of the very first INSERT
        return 0
    index = (table / "index.mrk").read_bytes()[: int(files["index%2Emrk"]["size"])]
    return sum(insert.rows for insert in read_index(index))
