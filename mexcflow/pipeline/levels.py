"""Levels of a book as fields of a row: arrays of prices and of quantities, each number looked at.

A number that the table would refuse, or cut, would end the run with its INSERT. So a side is looked at as a
whole, at C speed, and number by number only where that finds something unusual.
"""

import re
from collections.abc import Sequence

from mexcflow.exchanges.book import Level
from mexcflow.exchanges.numbers import exact

_NUMBERS = re.compile(r"[0-9]{1,18}+(?:\.[0-9]{1,18}+)?+(?:,[0-9]{1,18}+(?:\.[0-9]{1,18}+)?+)*+").fullmatch


def arrays(levels: Sequence[Level]) -> str:
    """Return the prices and the quantities of a side as two fields; raises `Undecodable`."""
    if not levels:
        return "[]\t[]"
    prices, quantities = zip(*levels, strict=True)
    return f"[{_joined(prices)}]\t[{_joined(quantities)}]"


def _joined(numbers: Sequence[str]) -> str:
    joined = ",".join(numbers)
    if _NUMBERS(joined) and joined.count(",") == len(numbers) - 1:
        return joined
    return ",".join([exact(number) for number in numbers])
