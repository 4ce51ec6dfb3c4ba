"""Levels of a book as fields of a row: arrays of prices and of quantities, each number looked at.

A number that the table would refuse, or cut, would end the run with its INSERT. So a side is looked at as a
whole, at C speed, and number by number only where that finds something unusual.
"""

import re
from collections.abc import Sequence

from mexcflow.exchanges.book import Level
from mexcflow.exchanges.numbers import exact

_NUMBER = r"[0-9]{1,18}+(?:\.[0-9]{1,18}+)?+"
_ARRAY = rf"\[{_NUMBER}(?:,{_NUMBER})*+\]"
_ARE_PLAIN = re.compile(rf"{_ARRAY}\t{_ARRAY}").fullmatch
"""Two arrays of plain decimals. Nothing is tried twice, which takes half the time."""


def arrays(levels: Sequence[Level]) -> str:
    """Return the prices and the quantities of a side as two fields; raises `Undecodable`."""
    if not levels:
        return "[]\t[]"
    prices, quantities = zip(*levels, strict=True)
    fields = f"[{','.join(prices)}]\t[{','.join(quantities)}]"
    if _ARE_PLAIN(fields) and fields.count(",") == 2 * len(prices) - 2:  # so none is in a number
        return fields
    return f"[{','.join(map(exact, prices))}]\t[{','.join(map(exact, quantities))}]"
