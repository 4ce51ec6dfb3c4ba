"""Comparing a table with what was made again, section by section, in the order the rows are stored.

Each table is read once from end to end. Of the first few sections that differ the rows are looked at.
"""

from dataclasses import dataclass, field
from itertools import islice, zip_longest

from mexcflow.errors import MexcflowError
from mexcflow.model import Row
from mexcflow.ops.remake import How, Section, Sections
from mexcflow.store import Store, table_state
from mexcflow.store.rows import digests, read_rows

EXAMPLES = 5
"""How many differences are shown."""
_LOOKED_AT_ROWS = 20_000


@dataclass(frozen=True)
class Difference:
    """A row of the old table, its number, and what stands in its place now; None where there is none."""

    row: int
    old: Row | None
    new: Row | None


@dataclass
class Compared:
    """How many batches are the same, how many are not, and the first differences."""

    equal: int = 0
    different: int = 0
    examples: list[Difference] = field(default_factory=list)


def compare(store: Store, tables: tuple[str | None, str], sections: Sections) -> Compared:
    """Compare the old table (None: there is none) with the new one; raises when a copy is no copy."""
    old, new = tables
    olds = b"".join(digests(store, old, (one.old_rows for one in sections))) if old else b""
    news = digests(store, new, (one.new_rows for one in sections))
    compared = Compared()
    differing: list[tuple[int, int, Section]] = []
    at_old = at_new = 0
    for number, (section, digest) in enumerate(zip(sections, news, strict=True)):
        same = section.old_rows == section.new_rows and (
            not section.old_rows or olds[16 * number : 16 * number + 16] == digest
        )
        if section.how is How.DECODED:
            compared.equal += same and section.new_rows > 0
            compared.different += not same
        elif not same:
            raise MexcflowError(f"{section.new_rows:,} rows copied into {new} from row {at_old:,} on differ")
        if not same and len(differing) < EXAMPLES:
            differing.append((at_old, at_new, section))
        at_old, at_new = at_old + section.old_rows, at_new + section.new_rows
    there = table_state(store, new)
    if there is None or there.rows != at_new:
        raise MexcflowError(f"{new} should have {at_new:,} rows and has {there.rows if there else 'none'}")
    for at_old, at_new, section in differing:
        before = _rows(store, old, at_old, section.old_rows)
        compared.examples += _differences(at_old, before, _rows(store, new, at_new, section.new_rows))
    del compared.examples[EXAMPLES:]
    return compared


def _rows(store: Store, table: str | None, at: int, rows: int) -> list[Row]:
    return read_rows(store, table, offset=at, rows=min(rows, _LOOKED_AT_ROWS)) if table and rows else []


def _differences(at: int, old: list[Row], new: list[Row]) -> list[Difference]:
    """Return the first rows that differ, without what the two have in common at the beginning and the end."""
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    pairs = zip_longest(old[begin : len(old) - end], new[begin : len(new) - end])
    found = (Difference(at + begin + index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    return list(islice(found, EXAMPLES))
